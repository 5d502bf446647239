"""Training and inference as `fastmlp` calls them: data are kept on the GPU, an epoch is a handful of graph replays.

`prepare` allocates everything; the first `train_epoch` captures a chunk of steps in a CUDA graph and every epoch
replays it: no host work and no waiting until the epoch's totals are read. What changes lies in the GPU's memory
(`control`), so one graph serves every chunk, the short last batch, and every later epoch, on other arrays as well
(`data`). Of a narrow net, the graph is one launch of a kernel that does many steps (`narrow`).

Data are copied to the GPU when first seen and are taken not to change: arrays that are changed in place between
two epochs are not seen to have changed. Arrays that lie on the GPU are read where they are.
"""
import functools
from types import SimpleNamespace

import numpy as np

from .. import activations as codes
from .. import update_rules
from ..renamed import new_name
from . import gradient, loss_ops, losses, narrow, network, ops, perceptron, steps, tensor_core
from .control import BATCH, CONSTANTS, L2, LABELLED, LENGTH, LISTED, ROWS, START, STEP, TOTAL_ROWS, WEIGHTED
from .data import EVALUATED, TRAINED, make_data, resident
from .dense import choose_tile
from .machine import Launch, gpu
from .streams import is_on_gpu

# A graph holds at most so many steps, and about so much work: 10 ms at 20 TFLOP/s, so that Ctrl-C is prompt.
GRAPH_STEPS, GRAPH_FLOPS = 64, 2e11
# Inference goes through blocks of rows whose activations take at most 64 MB in float32.
BLOCK_ROWS, BLOCK_NUMBERS = 4096, 1 << 24
OPERATIONS = {"philox": ops.philox_words} | {operation.__name__: operation for operation in (
    loss_ops.pointwise_loss, loss_ops.sigmoid_cross_entropy, loss_ops.softmax_cross_entropy, loss_ops.squared_error,
    ops.dense_backward, ops.dense_forward, ops.dropout, ops.gather, ops.update, perceptron.perceptron_batch,
    perceptron.perceptron_online)}


class State:
    """Everything training needs, allocated once. `step` counts finished optimizer steps."""

    failed_step = 0                      # not known: totals are read once an epoch

    def __init__(self, machine, parameters, sizes, activations, dropout, recipe, tiles, plan):
        dtype = np.dtype(str(parameters.dtype)).type
        self.machine, self.dtype, self.sizes, self.activations = machine, dtype, sizes, activations
        self.dropout, self.recipe, self.tiles, self.plan = dropout, recipe, tiles, plan
        zeros = machine.zeros
        count = int(parameters.shape[0])
        self.parameters = zeros(count, dtype)
        machine.write(self.parameters, as_numpy(machine, parameters))
        used = update_rules.SLOTS[recipe.rule]
        self.s1, self.s2 = (zeros(count if used > slot else 1, dtype) for slot in (0, 1))
        self.work = network.make_work(machine, sizes, activations, dropout, recipe.batch, dtype, recipe.precision, True)
        self.control, self.sums = zeros(LENGTH, np.int64), zeros(4, np.float64)
        self.constants, self.all_constants = zeros(CONSTANTS, dtype), zeros(L2, dtype)   # of a step, of all of an epoch
        self.order = zeros(1, np.int64)
        self.data = {}                   # role: (the arrays as they came, Data)
        self.graph = None                # (Data, steps, graph)
        self.inference = None            # Work for evaluate
        self.gradients = self.half = None    # of a step in two halves: `gradient`

    @property
    def step(self):
        with self.machine.current():
            return int(self.machine.download(self.control)[STEP])


def as_numpy(machine, array):
    return machine.download(machine.upload(array)) if is_on_gpu(array) else np.asarray(array)


class Training:
    """The contract's training functions on one machine (`machine.Gpu`).

    tiles : how a product is cut up (`dense.choose_tile`).
    choose_plan : (sizes, batch, dtype) -> the `narrow.Plan` of a net that the persistent kernel trains, or None.
    """

    def __init__(self, machine, tiles=choose_tile, choose_plan=narrow.choose):
        self.machine, self.tiles, self.choose_plan = machine, tiles, choose_plan
        self.warm = set()                # dtypes that were compiled

    def __getattr__(self, name):
        """The single operations, on this machine."""
        operation = OPERATIONS[name if name in OPERATIONS else new_name(__name__, name)]

        @functools.wraps(operation)
        def run(*arguments, **named):
            with self.machine.chosen():
                return operation(*arguments, **named)

        return run

    def prepare(self, parameters, sizes, activations, *, dropout, loss, rule, hyper, l2, batch_size, scale, seed,
                n_threads, alpha=0.0, loss_parameter=0.0, precision="float32"):
        """A `State` with its own copy of the weights. Arguments: `kernels`; n_threads is of no meaning here.

        precision : "float32", or "tf32" or "bf16": the products of training steps on the tensor cores. `evaluate` and
            `forward` stay float32.

        Raises ValueError for a precision that this GPU or the parameters' dtype does not have.
        """
        tiles = self.tiles if precision == "float32" else self.tensor_core_tiles(precision, parameters.dtype)
        sizes, dtype = tuple(map(int, sizes)), np.dtype(str(parameters.dtype)).type
        plan = self.choose_plan(sizes, int(batch_size), dtype) if precision == "float32" else None
        recipe = SimpleNamespace(batch=int(batch_size), loss=int(loss), rule=int(rule), hyper=hyper, l2=float(l2),
                                 alpha=float(alpha), parameter=float(loss_parameter), scale=float(scale),
                                 seed=int(seed), precision=precision)
        with self.machine.current():
            return State(self.machine, parameters, sizes, tuple(map(int, activations)), tuple(map(float, dropout)),
                         recipe, tiles, plan)

    def tensor_core_tiles(self, precision, dtype):
        """How the tile of a product is chosen at that precision."""
        if precision not in tensor_core.PRECISIONS:
            raise ValueError(f"precision must be 'float32', 'tf32' or 'bf16', got {precision!r}")
        if np.dtype(str(dtype)) != np.float32:
            raise ValueError(f"precision={precision!r} needs float32 parameters, got {dtype}")
        capability = self.machine.capability()
        if capability < (8, 0):
            raise ValueError(f"precision={precision!r} needs a GPU of compute capability 8.0 or later, this one has "
                             "{}.{}".format(*capability))
        return lambda dtype, rows, columns: tensor_core.choose_tile(precision, rows, columns)

    def train_epoch(self, state, x, labels, targets, weights, order, rates):
        """One pass over the rows `order`; returns (Σ wᵢ lᵢ, correct, Σ w). Arguments: `kernels`."""
        machine, n_steps = state.machine, len(rates)
        if n_steps == 0:
            return 0.0, 0.0, 0.0
        with machine.current():
            data = resident(state, TRAINED, x, labels, targets, weights)
            load_epoch(state, data, order, rates)
            first, step = training_step(state, data)
            if state.graph is None or state.graph[0] is not data:
                machine.run(step)            # at rest, as ROWS is 0: compiles what has not been compiled
                repeats = steps_at_once(state, n_steps)
                state.graph = data, repeats, machine.capture(step, 1 if state.plan else repeats), step
            machine.run([first])
            _, repeats, graph, _ = state.graph
            for _ in range(-(-n_steps // repeats)):
                machine.replay(graph)
            return tuple(machine.download(state.sums)[:3].tolist())

    def batch_gradient(self, state, x, labels, targets, weights, rows, share):
        """state.gradients = share × the gradient of a batch; returns (Σ wᵢ lᵢ, correct, Σ w). Arguments: `kernels`."""
        return gradient.batch_gradient(self, state, x, labels, targets, weights, rows, share)

    def apply_gradients(self, state, learning_rate):
        """One optimizer step by state.gradients. Arguments: `kernels`."""
        gradient.apply_gradients(state, learning_rate)

    def evaluate(self, state, x, labels, targets, weights):
        """Loss and correct predictions without training: (Σ wᵢ lᵢ, correct, Σ w)."""
        machine, recipe, dtype = state.machine, state.recipe, state.dtype
        if len(x) == 0:
            return 0.0, 0.0, 0.0
        with machine.current():
            data = resident(state, EVALUATED, x, labels, targets, weights)
            if state.inference is None:
                state.inference = network.make_work(machine, state.sizes, state.activations, state.dropout,
                                                    block_rows(state.sizes, len(x)), dtype)
            work, order, sums = state.inference, machine.zeros(1, np.int64), machine.zeros(4, np.float64)
            unit = network.correct_unit(recipe.loss, state.sizes[-1])
            for control in block_controls(machine, data, work.rows):
                machine.run(machine.prepared([
                    Launch(steps.sum_weights, 1, steps.THREADS, (data.weights, order, control, sums)),
                    network.gather(work, data, order, control, recipe.scale, dtype),
                    *network.forward(work, state.parameters, control, dtype, self.tiles),
                    network.loss(work, data, order, control, sums, recipe.loss, recipe.parameter, dtype, False),
                    Launch(steps.add_totals, 1, steps.THREADS,
                           (data.weights, order, work.losses, work.correct, unit, control, sums)),
                ]))
            return tuple(machine.download(sums)[:3].tolist())

    def forward(self, parameters, sizes, activations, x, scale, n_threads, out):
        """out (m, outputs) = the net's output for every row of x. Arguments: `kernels`, on the host or the GPU."""
        machine, dtype = self.machine, np.dtype(str(parameters.dtype).removeprefix("torch.")).type
        sizes, activations, rows = tuple(map(int, sizes)), tuple(map(int, activations)), int(x.shape[0])
        if rows == 0:
            return
        with machine.current():
            parameters = machine.upload(parameters)
            block = block_rows(sizes, rows)
            work = network.make_work(machine, sizes, activations, (0.0,) * len(activations), block, dtype)
            last, order = work.layers[-1], machine.zeros(1, np.int64)
            for start in range(0, rows, block):
                part = x[start:start + block]
                data = make_data(machine, part, dtype)
                control = next(block_controls(machine, data, block))
                launches = [network.gather(work, data, order, control, scale, dtype),
                            *network.forward(work, parameters, control, dtype, self.tiles)]
                if activations[-1] == codes.SOFTMAX:
                    launches.append(Launch(losses.kernels(dtype).softmax, network.blocks(block, losses.WARPS),
                                           32 * losses.WARPS,
                                           (work.h, last.y_at, data.rows, last.n_out, work.h, last.y_at)))
                machine.run(machine.prepared(launches))
                found = work.h[last.y_at:last.y_at + data.rows * last.n_out].reshape(data.rows, last.n_out)
                if is_on_gpu(out):
                    machine.upload(out)[start:start + block] = found
                else:
                    out[start:start + block] = machine.download(found)

    def read_parameters(self, state, parameters):
        """Copies the weights out into the flat layout."""
        with state.machine.current():
            parameters[...] = state.machine.download(state.parameters)

    def write_parameters(self, state, parameters):
        """The way back; optimizer and step stay as they are."""
        with state.machine.current():
            state.machine.write(state.parameters, parameters)

    def read_optimizer(self, state, s1, s2):
        """Copies the optimizer's slots out; arrays of size 0 for slots that its rule does not use."""
        with state.machine.current():
            for ours, theirs in ((state.s1, s1), (state.s2, s2)):
                if theirs.size:
                    theirs[...] = state.machine.download(ours)

    def write_optimizer(self, state, step, s1, s2):
        """Puts slots and the step count back."""
        with state.machine.current():
            gradient.set_step(state, step)
            for ours, theirs in ((state.s1, s1), (state.s2, s2)):
                if theirs.size:
                    state.machine.write(ours, theirs)

    def warm_up(self, dtype):
        """Compiles what training in graphs and inference enter, for one dtype. The persistent kernel of narrow nets, 4
        seconds of compiling, waits for the first such net."""
        dtype = np.dtype(dtype)
        if dtype in self.warm:
            return
        labels, none, no_weights = np.zeros(2, np.int64), np.empty((0, 0), dtype), np.empty(0, dtype)
        graphs = Training(self.machine, self.tiles, lambda *shape: None)
        state = graphs.prepare(np.zeros(14, dtype), (3, 2, 2), (codes.RELU, codes.IDENTITY), dropout=(0.0, 0.0),
                               loss=0, rule=update_rules.SGD, hyper=(0, 0, 0, 0), l2=0.0, batch_size=2, scale=1.0,
                               seed=0, n_threads=None)
        x = np.ones((2, 3), dtype)
        graphs.train_epoch(state, x, labels, none, no_weights, np.arange(2), np.zeros(1))
        graphs.evaluate(state, x, labels, none, no_weights)
        self.warm.add(dtype)

    def needs_compiling(self, dtype):
        """Whether `warm_up` has yet to run in this process; what it compiles may lie on disk (`disk_cache`)."""
        return np.dtype(dtype) not in self.warm


# ------------------------------------------------------------------------------- data

def load_epoch(state, data, order, rates):
    """Rows to visit and each step's constants into the GPU's memory; `control` at rest before the first step."""
    machine, control = state.machine, state.machine.download(state.control)
    constants = constants_of_steps(state.recipe, rates, control[STEP] + 1).astype(state.dtype)
    if len(order) > len(state.order) or constants.size > len(state.all_constants):
        state.order = machine.zeros(len(order), np.int64)
        state.all_constants = machine.zeros(constants.size, state.dtype)
        state.graph = None                   # it reads from the arrays before
    machine.write(state.order, np.asarray(order, np.int64))
    machine.write(state.all_constants, constants)
    control[START] = control[ROWS] = 0
    control[TOTAL_ROWS], control[BATCH], control[LISTED] = len(order), state.recipe.batch, 1
    control[LABELLED], control[WEIGHTED] = data.labelled, data.weighted
    machine.write(state.control, control)


def constants_of_steps(recipe, rates, first):
    """float64 (steps, L2): the `catalogue.StepConstants` of every step, the first of them with that number. A rule's
    formula of them is arithmetic, and so is computed for all at once."""
    rates = np.asarray(rates, np.float64)
    constants = update_rules.TABLE.record(recipe.rule, "rule").constants(
        [float(h) for h in recipe.hyper], rates, np.arange(first, first + len(rates), dtype=np.float64))
    return np.stack([np.broadcast_to(each, rates.shape) for each in constants], axis=1)


def training_step(state, data):
    """(the launch that begins an epoch, the launches of one step, or for a narrow net the one of many steps)."""
    if state.graph is not None and state.graph[0] is data:
        return state.first, state.graph[3]
    machine, recipe, work, dtype = state.machine, state.recipe, state.work, state.dtype
    control, sums, order, constants = state.control, state.sums, state.order, state.constants

    def finish(first):
        return Launch(steps.kernels(dtype).finish_step, 1, steps.THREADS, (
            first, data.weights, order, state.all_constants, recipe.l2, recipe.alpha, work.losses, work.correct,
            network.correct_unit(recipe.loss, state.sizes[-1]), control, sums, constants))

    if state.plan:
        state.first, *step = machine.prepared([finish(1), narrow.launch(state, data)])
        return state.first, step
    state.first, *step = machine.prepared([
        finish(1),
        network.gather(work, data, order, control, recipe.scale, dtype),
        *network.forward(work, state.parameters, control, dtype, state.tiles, recipe.seed, training=True),
        network.loss(work, data, order, control, sums, recipe.loss, recipe.parameter, dtype, True),
        *network.backward(work, state.parameters, control, dtype, state.tiles),
        *network.weight_update(machine, work, state.parameters, state.s1, state.s2, control, constants, recipe.rule,
                               dtype, state.tiles),
        finish(0),
    ])
    return state.first, step


def steps_at_once(state, n_steps):
    """Steps of a replay: so many launches of the persistent kernel's, or as many in the graph, spread evenly."""
    if state.plan:
        return narrow.STEPS
    limit = int(min(GRAPH_STEPS, max(1, GRAPH_FLOPS // network.step_flops(state.sizes, state.recipe.batch))))
    return -(-n_steps // -(-n_steps // limit))


def block_rows(sizes, rows):
    return max(1, min(rows, BLOCK_ROWS, max(32, BLOCK_NUMBERS // sum(sizes))))


def block_controls(machine, data, block):
    """A control for every block of rows, in the GPU's memory."""
    starts = np.arange(0, data.rows, block)
    controls = np.zeros((len(starts), LENGTH), np.int64)
    controls[:, START], controls[:, ROWS] = starts, np.minimum(block, data.rows - starts)
    controls[:, LABELLED], controls[:, WEIGHTED] = data.labelled, data.weighted
    yield from machine.upload(controls)


@functools.cache
def _on(machine):
    return Training(machine)


def on(index=None):
    """The kernels on the GPU of that number; None: on the one that is current in CuPy."""
    return _on(gpu(index))
