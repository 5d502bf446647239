"""The loops that Python enters once per chunk: training steps, evaluation, inference. No Python in between.

Every thread of a team runs the same function (`threads`); what they share is taken from counters.
"""
from typing import NamedTuple

import numpy as np

from ... import activations as codes
from ..jit import inlined, loop_entry, outlined
from ..threads import ROWS_TAKEN, WEIGHTS_TAKEN, barrier, take
from ..tile.loss_rows import softmax_row
from ..vector.functions import step_constants, without_decay
from ..vector.panels import panel_width, panels
from ..vector.pointers import at, lanes, load, store_first
from .arrange import arrange
from .layout import ACTIVATION, N_OUT, Y
from .network import backward_block, forward_block, loss_block
from .weights import update_biases, update_panel, update_quads


class Slots(NamedTuple):
    """The optimizer's state for weights and biases, in their layout; unused slots are empty."""

    w1: np.ndarray
    w2: np.ndarray
    b1: np.ndarray
    b2: np.ndarray


class Recipe(NamedTuple):
    """What is the same from step to step."""

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
    row_correct: np.ndarray        # float64 (batch,)
    sums: np.ndarray             # float64 (5,): Σ loss, Σ correct, Σ weights, steps, first of them to fail


@inlined
def batch_weight(data, order, start, m):
    if data.weights.size == 0:
        return float(m)
    total = 0.0
    for i in range(start, start + m):
        total += data.weights[order[i]]
    return total


@inlined
def step_l2(recipe, weight_sum):
    return recipe.l2 + (recipe.alpha / weight_sum if weight_sum > 0.0 else 0.0)


@inlined
def count_step(totals, weight_sum):
    totals.sums[2] += weight_sum
    totals.sums[3] += 1.0
    if totals.sums[4] == 0.0 and not np.isfinite(totals.sums[0]):
        totals.sums[4] = totals.sums[3]


@loop_entry
def train_steps(thread, threads, control, net, slots, work, data, order, rates, recipe, totals,
                first, last, steps_before):
    """Training steps `first` .. `last` - 1 of an epoch over the rows `order`."""
    for s in range(first, last):
        start = s * recipe.batch
        m = min(recipe.batch, order.size - start)
        step_number = steps_before + s - first
        weight_sum = batch_weight(data, order, start, m)
        rows, first_row = order, start
        if work.arranged.size > 0 and data.labels.size > 0:      # by each thread for itself: no barrier
            rows, first_row = work.arranged, thread * (work.arranged.size // threads)
            outputs = net.table[net.table.shape[0] - 1, N_OUT]
            arrange(data.labels, order, start, m, outputs, rows, first_row)

        while True:
            row = take(control, ROWS_TAKEN) * work.block
            if row >= m:
                break
            real = forward_block(net, work, data, rows, row, first_row, m, thread, recipe.seed, step_number)
            loss_block(net, work, data, rows, row, first_row, real, thread, recipe.loss, recipe.loss_parameter,
                       weight_sum, totals.row_loss, totals.row_correct)
            backward_block(net, work, row, real, thread)
        if not barrier(control, threads):
            return

        l2 = step_l2(recipe, weight_sum)
        constants = step_constants(recipe.rule, recipe.hyper, rates[s], step_number + 1)
        bias_constants = without_decay(constants)
        while True:
            task = take(control, WEIGHTS_TAKEN)
            if task >= recipe.tasks.shape[0]:
                break
            layer, panel = recipe.tasks[task, 0], recipe.tasks[task, 1]
            if panel < 0:
                update_biases(net, slots, work, layer, m, thread, recipe.rule, bias_constants)
            elif layer == 0 and work.quads.shape[0] > 0:
                update_quads(net, slots, work, panel, m, thread, recipe.rule, l2, constants)
            else:
                update_panel(net, slots, work, layer, panel, m, thread, recipe.rule, l2, constants)
        if thread == 0:
            for r in range(m):
                totals.sums[0] += totals.row_loss[r]
                totals.sums[1] += totals.row_correct[r]
            count_step(totals, weight_sum)
        if not barrier(control, threads):
            return


@loop_entry
def infer_blocks(thread, threads, control, net, work, data, order, loss, parameter, rows, block_sums, totals, out):
    """Inference on `rows` rows: the outputs into out (rows, outputs), or, where out is (0, 0), their losses,
    correct and weights summed over each block of rows into block_sums (blocks, 3)."""
    mine = thread * work.block
    while True:
        block = take(control, ROWS_TAKEN)
        if block * work.block >= rows:
            break
        start = block * work.block - mine
        # No dropout: any seed and step will do.
        real = forward_block(net, work, data, order, mine, start, rows - start, thread, thread, thread)
        if out.size > 0:
            _copy_out(net, work, mine, start, real, out)
            continue
        loss_block(net, work, data, order, mine, start, real, thread, loss, parameter, float(rows),
                   totals.row_loss, totals.row_correct)
        for r in range(mine, mine + real):
            block_sums[block, 0] += totals.row_loss[r]
            block_sums[block, 1] += totals.row_correct[r]
            block_sums[block, 2] += data.weights[start + r] if data.weights.size > 0 else 1.0
    barrier(control, threads)


@outlined
def _copy_out(net, work, first, start, real, out):
    last = net.table.shape[0] - 1
    n_out, width = net.table[last, N_OUT], panel_width(at(net.w, 0))
    for r in range(first, first + real):
        y = at(work.h, net.table[last, Y] + r * width)
        if net.table[last, ACTIVATION] == codes.SOFTMAX:
            softmax_row(y, work.rows * width, n_out, y)
        for p in range(panels(n_out, y)):
            for v in range(0, min(width, n_out - p * width), lanes(y)):
                store_first(at(out, (start + r) * n_out + p * width), v, load(y, p * work.rows * width + v),
                            n_out - p * width - v)
