"""The loop of training steps, whatever they are made of; what is told to them, and what comes of it.

A step has two phases with a barrier after each: the rows of the batch, then the weights. `epoch` and `narrow` say what
happens in them.
"""
from typing import NamedTuple

import numpy as np

from ..jit import inlined
from ..threads import WEIGHTS_TAKEN, barrier, take
from ..vector.functions import step_constants, without_decay
from .network import Data, Net


class Slots(NamedTuple):
    """The optimizer's state beside weights and biases, in their layout; unused slots are empty."""

    w1: np.ndarray
    w2: np.ndarray
    b1: np.ndarray
    b2: np.ndarray


class Recipe(NamedTuple):
    """What stays the same from step to step."""

    batch: int
    loss: int
    loss_parameter: float
    rule: int
    hyper: np.ndarray            # float64 (4,)
    l2: float
    alpha: float                 # l2 is l2 + alpha / Σ w of the batch
    seed: int
    tasks: np.ndarray            # int64 (tasks, 2): layer, panel of in-features (narrow: out-) or -1 for the biases


class Totals(NamedTuple):
    """What came of it. Row results are summed in row order, so they do not depend on threads either."""

    row_loss: np.ndarray         # float64 (batch,)
    row_right: np.ndarray        # float64 (batch,)
    sums: np.ndarray             # float64 (5,): Σ loss, Σ right, Σ weights, steps, first of them to fail


@inlined
def batch_weight(data, order, start, m):
    if data.weights.size == 0:
        return float(m)
    total = 0.0
    for i in range(start, start + m):
        total += data.weights[order[i]]
    return total


class Job(NamedTuple):
    """All that the steps of an epoch work on."""

    net: Net
    slots: Slots
    work: NamedTuple             # `network.Work` or `narrow.NarrowWork`
    data: Data
    recipe: Recipe
    totals: Totals


class Step(NamedTuple):
    """One batch: rows order[start : start + rows]."""

    start: int
    rows: int
    number: int                  # counted from 0
    weight_sum: float


@inlined
def step_l2(recipe, weight_sum):
    return recipe.l2 + (recipe.alpha / weight_sum if weight_sum > 0.0 else 0.0)


@inlined
def count_step(totals, weight_sum):
    totals.sums[2] += weight_sum
    totals.sums[3] += 1.0
    if totals.sums[4] == 0.0 and not np.isfinite(totals.sums[0]):
        totals.sums[4] = totals.sums[3]


def step_loop(rows_phase, weights_task, add_totals):
    """steps(thread, threads, control, job, order, rates, first, last, steps_before): training steps `first` ..
    `last` - 1 of an epoch over the rows `order`.

    rows_phase(job, order, step, thread, threads, control)
        a thread's share of the rows, taken from the counter ROWS_TAKEN
    weights_task(job, layer, panel, step, thread, l2, constants, bias_constants)
        one of recipe.tasks
    add_totals(job, step)
        the losses of the batch added to the totals, in an order that does not depend on threads
    """

    @inlined
    def steps(thread, threads, control, job, order, rates, first, last, steps_before):
        recipe, data, totals = job.recipe, job.data, job.totals
        for s in range(first, last):
            start = s * recipe.batch
            m = min(recipe.batch, order.size - start)
            weight_sum = batch_weight(data, order, start, m)
            step = Step(start, m, steps_before + s - first, weight_sum)
            rows_phase(job, order, step, thread, threads, control)
            if not barrier(control, threads):
                return

            l2 = step_l2(recipe, weight_sum)
            constants = step_constants(recipe.rule, recipe.hyper, rates[s], step.number + 1)
            bias_constants = without_decay(constants)
            while True:
                task = take(control, WEIGHTS_TAKEN)
                if task >= recipe.tasks.shape[0]:
                    break
                weights_task(job, recipe.tasks[task, 0], recipe.tasks[task, 1], step, thread, l2, constants,
                             bias_constants)
            if thread == 0:
                add_totals(job, step)
                count_step(totals, weight_sum)
            if not barrier(control, threads):
                return

    return steps
