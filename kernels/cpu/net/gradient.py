"""A training step in two halves, for processes that train one net together: the gradient of a batch, which MPI then
sums, and the optimizer on the sum. Elsewhere the two are one (`weights.update_panel`): the gradient stays in registers.
"""
import operator
from copy import copy

import numpy as np

from ... import update_rules
from ..jit import entry, outlined
from ..threads import WEIGHTS_TAKEN, barrier, take
from ..tile.epilogues import apply_rule
from ..vector.functions import step_constants, without_decay
from ..vector.panels import panel_width, panels
from ..vector.pointers import at, constant, lanes
from ..vector.simd import ROWS
from .arguments import check_apart, check_indices, check_labels, check_rows
from .epoch import Slots, Totals
from .layout import N_IN, N_OUT, WT, B, W, cache_aligned
from .strategy import tasks_of
from .training import is_readable_in_place, make_data, make_ready, run_epoch
from .weights import transpose_tile


@outlined
def _apply_panel(net, slots, gradient, layer, q, rule, l2, constants):
    """The optimizer on the in-features of input panel q, as `weights.update_panel` does it."""
    n_in, n_out = net.table[layer, N_IN], net.table[layer, N_OUT]
    width = panel_width(at(net.w, 0))
    k = q * width
    for p in range(panels(n_out, at(net.w, 0))):
        columns = n_out - p * width
        for g in range(0, min(width, n_in - k), ROWS):
            here, rows = net.table[layer, W] + p * n_in * width + (k + g) * width, min(ROWS, n_in - k - g)
            apply_rule(rule, at(net.w, here), at(gradient, here), at(slots.w1, here), at(slots.w2, here), rows,
                       width if columns > lanes(at(net.w, 0)) else lanes(at(net.w, 0)), width,
                       constant(l2, at(net.w, 0)), constants)
            if layer > 0:
                wt = at(net.wt, net.table[layer, WT] + q * n_out * width + p * width * width + g)
                transpose_tile(at(net.w, here), rows, min(columns, width), wt)


@entry
def apply_tasks(thread, threads, control, net, slots, weight_gradient, bias_gradient, recipe, rate, step_number):
    """One optimizer step, shared among the threads panel by panel. step_number: 1 for the first."""
    constants = step_constants(recipe.rule, recipe.hyper, rate, step_number)
    bias_constants = without_decay(constants)
    while True:
        task = take(control, WEIGHTS_TAKEN)
        if task >= recipe.tasks.shape[0]:
            break
        layer, panel = recipe.tasks[task, 0], recipe.tasks[task, 1]
        if panel < 0:
            here, first = net.table[layer, B], at(net.b, net.table[layer, B])
            count = panels(net.table[layer, N_OUT], first) * panel_width(first)
            apply_rule(recipe.rule, first, at(bias_gradient, here), at(slots.b1, here), at(slots.b2, here), np.intp(1),
                       count, count, constant(0.0, first), bias_constants)
        else:
            _apply_panel(net, slots, weight_gradient, layer, panel, recipe.rule, recipe.l2, constants)
    barrier(control, threads)


def _data(state, *arrays_and_rows):
    """`Data` of a batch's arrays, and its rows in there. Views that are made once serve as long as the arrays are the
    same in object and shape, which saves 8 µs of 24; whatever would be copied is copied anew, of this batch alone."""
    *arrays, rows = arrays_and_rows
    half, shapes = state.half, [array.shape for array in arrays]
    if half.data is not None and shapes == half.shapes and all(map(operator.is_, arrays, half.arrays)):
        return half.data, rows
    x, labels, targets, weights = arrays
    check_apart({"state.gradients": state.gradients},
                {"x": x, "labels": labels, "targets": targets, "weights": weights, "rows": rows})
    if half.work is None:
        make_ready(half, x)
    dtypes = x.dtype, np.int64, state.dtype, state.dtype
    if all(map(is_readable_in_place, arrays, dtypes)):
        half.arrays, half.shapes = arrays, shapes
        half.data = make_data(x, state.scale, labels, targets, weights, state.dtype)
        return half.data, rows
    half.data = None
    x, labels, targets, weights = (array[rows] if array.size else array for array in arrays)
    return make_data(x, state.scale, labels, targets, weights, state.dtype), np.arange(len(rows))


def batch_gradient(state, x, labels, targets, weights, rows, share):
    """state.gradients = share × the gradient of one batch; returns (Σ wᵢ lᵢ, correct, Σ w). Arguments: `kernels`."""
    if state.gradients is None:
        state.gradients = cache_aligned(state.net.w.size + state.net.b.size, state.dtype)
        # The same net and team; the rule that only sums, into slots that are state.gradients, and totals of its own.
        state.half = half = copy(state)
        nothing = np.empty(0, state.dtype)
        half.slots = Slots(state.gradients[:state.net.w.size], nothing, state.gradients[state.net.w.size:], nothing)
        half.recipe = state.recipe._replace(rule=update_rules.GRADIENT, l2=0.0, alpha=0.0)
        half.data = None
        half.update = state.recipe._replace(tasks=tasks_of(state.sizes[:-1], state.dtype))
        half.totals = Totals(*(np.zeros_like(array) for array in state.totals))
    check_rows(x, state.sizes[0], state.dtype)
    check_indices("rows", rows, len(x))
    if len(rows) > state.recipe.batch:
        raise ValueError(f"rows must be at most a batch of {state.recipe.batch}, got {len(rows)}")
    # What is in the arrays may change from call to call, so the labels of these rows are looked at every time.
    check_labels(len(x), state.sizes[-1], state.recipe.loss, labels, targets, weights, rows)
    data, rows = _data(state, x, labels, targets, weights, rows)
    state.gradients[:] = 0
    if len(rows) == 0:
        return 0.0, 0.0, 0.0
    state.half.steps_before_epoch, state.half.totals.sums[3] = state.step, 0.0
    return run_epoch(state.half, data, rows, np.array([share]))


def apply_gradients(state, learning_rate):
    """One optimizer step by state.gradients. Arguments: `kernels`."""
    weights = state.net.w.size
    state.team.run(apply_tasks, state.net, state.slots, state.gradients[:weights], state.gradients[weights:],
                   state.half.update, float(learning_rate), state.step + 1)
    state.steps_before_epoch += 1
