"""Training and inference as `fastmlp` calls them: buffers allocated once, then compiled loops.

`prepare` holds the weights as panels, the layout that the tiles read; `train_epoch` enters `epoch.train_steps` in
chunks of steps short enough for Ctrl-C; `read_parameters` brings the weights back.
"""
import functools
from itertools import pairwise
from time import perf_counter
from typing import NamedTuple

import numpy as np

from ... import activations, update_rules
from ...flat import n_parameters
from ...losses import SOFTMAX_CROSS_ENTROPY
from ..threads import SERIAL_FLOPS, Pace, Team, choose_threads
from ..vector.panels import python_panel_width
from ..vector.simd import ROWS
from .arguments import (
    as_tuple,
    check_apart,
    check_flat,
    check_indices,
    check_labels,
    check_layers,
    check_net,
    check_recipe,
    check_rows,
    check_threads,
    check_trainable,
)
from .epoch import Recipe, Slots, Totals, infer_blocks, train_steps
from .few import FEW_ROWS, infer_few
from .layout import cache_aligned, from_panels, plan, to_panels
from .narrow import train_narrow_steps
from .network import Data, Net
from .strategy import BLOCK, choose, fits_lists, make_work, tasks_of
from .zeros import has_zeros_to_skip

# One chunk of steps: about 20 ms on one core, so that Ctrl-C is prompt and entering compiled code costs nothing.
CHUNK_FLOPS = 4e9
LAYER_OVERHEAD_FLOPS = 5e4       # what a layer costs however small it is

NO_ROWS = np.empty(0, np.int64)
NO_ROWS.flags.writeable = False


class State:
    """Everything training needs, allocated once. `step` counts finished optimizer steps; `failed_step` is the first
    whose loss was not finite, 0 if none."""

    def __init__(self, parameters, sizes, activations, dropout, recipe, scale, n_threads):
        dtype = parameters.dtype
        self.dtype, self.sizes, self.scale, self.recipe = dtype, sizes, scale, recipe
        self.threads = choose_threads(n_threads, step_flops(sizes, recipe.batch))
        self.team = Team(self.threads)
        self.pace = Pace(self.threads) if n_threads is None else None
        table, need = plan(sizes, activations, recipe.batch, dtype)
        # Narrow nets read W by whole tiles of rows, past its last row as well.
        slack = ROWS * python_panel_width(dtype)
        self.net = Net(table, np.asarray(dropout, np.float64), cache_aligned(need.weights + slack, dtype),
                       cache_aligned(need.transposed, dtype), cache_aligned(need.biases, dtype))
        to_panels(as_input(parameters, dtype), table, self.net.w, self.net.wt, self.net.b)
        used = update_rules.SLOTS[recipe.rule]
        self.slots = Slots(*(cache_aligned(size if used > slot else 0, dtype)
                             for size in (need.weights, need.biases) for slot in (0, 1)))
        self.strategy = self.work = None         # chosen when the data are seen: they decide whether zeros are skipped
        self.activations = activations
        self.totals = Totals(np.zeros(recipe.batch), np.zeros(recipe.batch), np.zeros(5))
        self.steps_before_epoch = self.failed_step = 0
        self.inference = None        # made when first asked for
        self.gradients, self.half = None, None   # `gradient`

    @property
    def step(self):
        return self.steps_before_epoch + int(self.totals.sums[3])


def step_flops(sizes, rows):
    """Multiply-adds of a training step count 2, three times a weight and row; a little for each layer."""
    return sum(6.0 * rows * n_in * n_out + LAYER_OVERHEAD_FLOPS for n_in, n_out in pairwise(sizes))


def make_inference(sizes, activations, dtype, threads, sparse):
    """Table, sizes and scratch of inference: a BLOCK of rows for each thread. sparse : whether to skip zeros, if they
    can be listed."""
    table, need = plan(sizes, activations, threads * BLOCK, dtype)
    sparse = sparse and fits_lists(sizes, threads * BLOCK, dtype)
    totals = Totals(np.zeros(threads * BLOCK), np.zeros(threads * BLOCK), np.zeros(5))
    return table, need, make_work(sizes, need, threads * BLOCK, BLOCK, False, threads, dtype, sparse), totals


def prepare(parameters, sizes, activations, *, dropout, loss, rule, hyper, l2, batch_size, scale, seed, n_threads,
            alpha=0.0, loss_parameter=0.0):
    """A `State` with its own copy of the weights. Arguments: `kernels`."""
    sizes = tuple(int(s) for s in as_tuple("sizes", sizes))
    activations, dropout = as_tuple("activations", activations), as_tuple("dropout", dropout)
    check_net(parameters, sizes, activations, n_threads)
    check_trainable(activations)
    check_recipe(sizes, dropout, loss, rule, hyper, batch_size)
    recipe = Recipe(int(batch_size), int(loss), float(loss_parameter), int(rule), np.asarray(hyper, np.float64),
                    float(l2), float(alpha), int(seed), tasks_of((), parameters.dtype))
    return State(parameters, sizes, activations, dropout, recipe, float(scale), n_threads)


def is_readable_in_place(array, dtype):
    """Whether compiled code can read the array where it lies."""
    return array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned


def as_input(array, dtype):
    """The array as compiled code takes its inputs: C-contiguous, aligned and read-only, so that a user's
    read-only or memory-mapped array has the type that is compiled already."""
    if type(array) is not np.ndarray or not is_readable_in_place(array, dtype):
        array = np.require(array, dtype, "CA")
    array = array.view(np.ndarray)
    array.flags.writeable = False
    return array


def make_data(x, scale, labels, targets, weights, dtype):
    return Data(as_input(x, x.dtype).reshape(-1).view(np.uint8), x.itemsize, scale, as_input(labels, np.int64),
                as_input(targets, dtype), as_input(weights, dtype))


def train_epoch(state, x, labels, targets, weights, order, rates):
    """One pass over the rows `order`; returns (Σ wᵢ lᵢ, correct, Σ w). Arguments: `kernels`."""
    check_rows(x, state.sizes[0], state.dtype)
    check_labels(len(x), state.sizes[-1], state.recipe.loss, labels, targets, weights)
    check_indices("order", order, len(x))
    if len(rates) != -(-len(order) // state.recipe.batch):
        raise ValueError(f"rates must be one for each of the {-(-len(order) // state.recipe.batch)} batches, "
                         f"got {len(rates)}")
    data = make_data(x, state.scale, labels, targets, weights, state.dtype)
    if state.strategy is None:
        make_ready(state, x)
    return run_epoch(state, data, order, rates)


def make_ready(state, x):
    """Chooses how to train, and allocates what that needs."""
    state.strategy = choose(state.sizes, state.recipe, state.net.dropout, state.dtype, x)
    state.work = state.strategy.make_work(state.sizes, state.activations, state.recipe, state.threads, state.dtype)
    state.recipe = state.recipe._replace(tasks=tasks_of(state.strategy.widths(state.sizes), state.dtype))


def run_epoch(state, data, order, rates):
    """`train_epoch` on arguments that are checked, with all that it needs allocated."""
    order, rates = as_input(order, np.int64), as_input(rates, np.float64)
    state.steps_before_epoch = state.step
    state.totals.sums[:] = 0.0
    chunk = max(1, int(CHUNK_FLOPS // step_flops(state.sizes, state.recipe.batch)))
    for first in range(0, len(rates), chunk):
        last = min(first + chunk, len(rates))
        threads = state.pace.choose() if state.pace else state.threads
        started = perf_counter()
        state.team.run(state.strategy.steps, state.net, state.slots, state.work, data, order, rates, state.recipe,
                       state.totals, first, last, state.step, threads=threads)
        if state.pace:
            state.pace.record(threads, (perf_counter() - started) / (last - first))
    if state.failed_step == 0 and state.totals.sums[4] > 0:
        state.failed_step = state.steps_before_epoch + int(state.totals.sums[4])
    return tuple(state.totals.sums[:3].tolist())


def evaluate(state, x, labels, targets, weights):
    """Loss and correct rows without training: (Σ wᵢ lᵢ, correct, Σ w)."""
    check_rows(x, state.sizes[0], state.dtype)
    check_labels(len(x), state.sizes[-1], state.recipe.loss, labels, targets, weights)
    data = make_data(x, state.scale, labels, targets, weights, state.dtype)
    if state.inference is None:
        state.inference = make_inference(state.sizes, state.activations, state.dtype, state.threads,
                                         has_zeros_to_skip(x, len(x) // 16))
    table, _, work, totals = state.inference
    block_sums = np.zeros((-(-len(x) // BLOCK), 3))
    state.team.run(infer_blocks, state.net._replace(table=table), work, data, NO_ROWS, state.recipe.loss,
                   state.recipe.loss_parameter, len(x), block_sums, totals, np.empty((0, 0), state.dtype))
    return tuple(block_sums.sum(axis=0).tolist())


class _Facts(NamedTuple):
    """What inference needs of a net, computed once: a row takes less time than that."""

    parameters: int
    widest: int
    sizes: np.ndarray
    activations: np.ndarray


@functools.lru_cache(maxsize=1024)
def _net_of(sizes, activations):
    sizes = tuple(map(int, sizes))
    check_layers(sizes, activations)
    return _Facts(n_parameters(sizes), max(sizes), np.array(sizes, np.int64),
                  np.array(activations, np.int64))


# No targets and no weights, in each dtype.
_NOTHING = {np.dtype(kind): (np.empty((0, 0), kind), np.empty(0, kind)) for kind in (np.float32, np.float64)}
for _array in (each for pair in _NOTHING.values() for each in pair):
    _array.flags.writeable = False


def forward(parameters, sizes, activations, x, scale, n_threads, out):
    """out (m, outputs) = the net's output for every row of x. Arguments: `kernels`."""
    if type(sizes) is not tuple or type(activations) is not tuple:
        sizes, activations = tuple(map(int, as_tuple("sizes", sizes))), as_tuple("activations", activations)
    facts = _net_of(sizes, activations)
    check_flat("parameters", parameters, facts.parameters)
    check_threads(n_threads)
    dtype = parameters.dtype
    check_rows(x, sizes[0], dtype)
    if not isinstance(out, np.ndarray) or out.shape != (len(x), sizes[-1]) or out.dtype != dtype \
            or not out.flags.carray:
        raise ValueError(f"out must be a C-contiguous writable {dtype} array of shape {(len(x), sizes[-1])}")
    check_apart({"out": out}, {"x": x, "parameters": parameters})
    if len(x) == 0:
        return
    flops = step_flops(sizes, len(x)) / 3
    if len(x) <= FEW_ROWS or flops < SERIAL_FLOPS:
        _infer_serially(parameters, facts, as_input(x, x.dtype), float(scale), out)
        return
    targets, nothing = _NOTHING[dtype]
    data = Data(as_input(x, x.dtype).reshape(-1).view(np.uint8), x.itemsize, float(scale), NO_ROWS, targets, nothing)
    threads = min(choose_threads(n_threads, flops), -(-len(x) // BLOCK))
    table, need, work, totals = make_inference(sizes, activations, dtype, threads,
                                              has_zeros_to_skip(x, len(x) // 16))
    untransposed = np.empty(0, dtype)        # writable, as training has it: else all is compiled for another type
    net = Net(table, np.zeros(len(table)), cache_aligned(need.weights, dtype), untransposed,
              cache_aligned(need.biases, dtype))
    to_panels(as_input(parameters, dtype), table, net.w, net.wt, net.b)
    with Team(threads) as team:
        team.run(infer_blocks, net, work, data, NO_ROWS, 0, 0.0, len(x), np.empty((0, 3)), totals, out)


def forward_few(parameters, sizes, activations, x, scale):
    """The net's outputs (m, outputs) for a few rows x, C-contiguous, all of which is checked already: 4 µs instead of
    `forward`'s 6 for one row. sizes, activations: tuples of int."""
    out = np.empty((len(x), sizes[-1]), parameters.dtype)
    _infer_serially(parameters, _net_of(sizes, activations), x, scale, out)
    return out


def _infer_serially(parameters, facts, x, scale, out):
    """By one thread, straight from the flat parameters (`few`)."""
    dtype = parameters.dtype
    targets, nothing = _NOTHING[dtype]
    content = np.ndarray(x.nbytes, np.uint8, x)
    content.flags.writeable = False
    data = Data(content, x.itemsize, scale, NO_ROWS, targets, nothing)
    scratch = np.empty(3 * ROWS * python_panel_width(dtype) + 2 * FEW_ROWS * facts.widest, dtype)
    infer_few(as_input(parameters, dtype), facts.sizes, facts.activations, data, len(x), scratch, out)


# ------------------------------------------------------------------------------- weights and slots, in and out

def read_parameters(state, parameters):
    """Copies the weights out into the flat layout."""
    check_flat("parameters", parameters, n_parameters(state.sizes), state.dtype, written=True)
    from_panels(parameters, state.net.table, state.net.w, state.net.b)


def write_parameters(state, parameters):
    """Puts other weights in."""
    check_flat("parameters", parameters, n_parameters(state.sizes), state.dtype)
    to_panels(as_input(parameters, state.dtype), state.net.table, state.net.w, state.net.wt, state.net.b)


def check_slots(state, s1, s2, written=False):
    used = update_rules.SLOTS[state.recipe.rule]
    for slot, (name, array) in enumerate((("s1", s1), ("s2", s2))):
        check_flat(name, array, n_parameters(state.sizes) if used > slot else 0, state.dtype, written)


def read_optimizer(state, s1, s2):
    """Copies the optimizer's slots out; arrays of size 0 for slots that its rule does not use."""
    check_slots(state, s1, s2, written=True)
    check_apart({"s1": s1, "s2": s2}, {})
    for flat, w, b in ((s1, state.slots.w1, state.slots.b1), (s2, state.slots.w2, state.slots.b2)):
        if flat.size:
            from_panels(flat, state.net.table, w, b)


def write_optimizer(state, step, s1, s2):
    """Puts slots and the step count back."""
    check_slots(state, s1, s2)
    nothing = np.empty(0, state.dtype)
    for flat, w, b in ((s1, state.slots.w1, state.slots.b1), (s2, state.slots.w2, state.slots.b2)):
        if flat.size:
            to_panels(as_input(flat, state.dtype), state.net.table, w, nothing, b)
    state.steps_before_epoch = int(step)
    state.totals.sums[3] = 0.0


# ------------------------------------------------------------------------------- compilation

def warm_up(dtype):
    """Compiles, or loads from the cache, all that training and inference enter for one dtype."""
    dtype = np.dtype(dtype)
    sizes, codes = (3, 2, 2), (activations.IDENTITY,) * 2
    parameters = np.zeros(14, dtype)
    labels, none, no_weights = np.zeros(2, np.int64), np.empty((0, 0), dtype), np.empty(0, dtype)
    x = np.ones((2, 3), dtype)
    for rate in (0.0, 0.5):                  # with dropout no net is narrow
        state = prepare(parameters, sizes, codes, dropout=(rate, 0.0), loss=SOFTMAX_CROSS_ENTROPY,
                        rule=update_rules.SGD, hyper=(0, 0, 0, 0), l2=0.0, batch_size=2, scale=1.0, seed=0, n_threads=1)
        train_epoch(state, x, labels, none, no_weights, np.arange(2), np.zeros(1))
    evaluate(state, x, labels, none, no_weights)
    read_parameters(state, parameters)
    forward(parameters, sizes, codes, x[:1], 1.0, 1, np.empty((1, 2), dtype))   # of many rows: as `evaluate`


def needs_compiling(dtype):
    """Whether `warm_up` would have to compile rather than load."""
    return not all(function.is_ready(np.dtype(dtype).name)
                   for function in (train_steps, train_narrow_steps, infer_blocks, infer_few, to_panels, from_panels))
