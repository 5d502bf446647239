"""A training step in two halves, for processes that train one net together, each on a GPU of its own: the gradient of a
batch, which is then summed over them, and the optimizer on the sum. Elsewhere the two are one (`dense.weight_update`).

`state.gradients` lies on the GPU, in the flat layout: NCCL sums it there (`fastmlp.distributed.collectives`).
"""
import functools
from copy import copy
from types import SimpleNamespace

import numpy as np

from .. import update_rules
from .control import CONSTANTS, L2, LENGTH, STEP
from .dense import ELEMENTWISE
from .machine import Launch
from .network import blocks
from .optimizer import define
from .shims import cuda


@functools.cache
def kernel(dtype):
    in_registers, move = define(dtype).in_registers, define(dtype).move

    @cuda.jit
    def apply_gradient(rule, at, weights, count, constants, w, g, s1, s2):
        """The optimizer on a layer: `count` parameters from `at` on, the first `weights` of them no biases."""
        i = cuda.blockIdx.x * ELEMENTWISE + cuda.threadIdx.x
        if i < count:
            move(rule, in_registers(constants), g[at + i], i < weights, w, at + i, s1, s2, at + i)

    return apply_gradient


def half_of(state):
    """A state of the same weights and buffers, whose optimizer only sums: s1 ← s1 + share × gradient, where s1 is
    state.gradients."""
    zeros, half = state.machine.zeros, copy(state)
    half.recipe = SimpleNamespace(**vars(state.recipe) | {"rule": update_rules.GRADIENT, "l2": 0.0, "alpha": 0.0})
    half.s1, half.s2 = state.gradients, zeros(1, state.dtype)
    half.control, half.sums, half.constants = zeros(LENGTH, np.int64), zeros(4, np.float64), zeros(CONSTANTS,
                                                                                                  state.dtype)
    half.order, half.all_constants = zeros(state.recipe.batch, np.int64), zeros(L2, state.dtype)
    half.data, half.graph, half.inference = {}, None, None
    return half


def set_step(state, step):
    control = state.machine.download(state.control)
    control[STEP] = step
    state.machine.write(state.control, control)


def batch_gradient(training, state, x, labels, targets, weights, rows, share):
    """state.gradients = share × the gradient of the batch `rows`; returns its totals. Arguments: `kernels`."""
    machine, rows = state.machine, np.asarray(rows, np.int64)
    if len(rows) > state.recipe.batch:
        raise ValueError(f"rows must be at most a batch of {state.recipe.batch}, got {len(rows)}")
    if len(rows) and (rows.min() < 0 or rows.max() >= len(x)):
        raise ValueError(f"rows must lie in 0 .. {len(x) - 1}, got {rows.min()} to {rows.max()}")
    step = state.step
    with machine.current():
        if state.half is None:
            state.gradients = machine.zeros(int(state.parameters.shape[0]), state.dtype)
            state.half = half_of(state)
        state.gradients[:] = 0
        set_step(state.half, step)                             # dropout's masks depend on it
    rates = np.full(min(1, len(rows)), share, np.float64)
    return training.train_epoch(state.half, x, labels, targets, weights, rows, rates)


def apply_gradients(state, learning_rate):
    """One optimizer step by state.gradients. Arguments: `kernels`."""
    machine, recipe, step = state.machine, state.recipe, state.step + 1
    constants = np.empty(CONSTANTS, state.dtype)
    constants[:L2] = update_rules.step_constants(recipe.rule, recipe.hyper, learning_rate, step)
    constants[L2] = recipe.l2
    with machine.current():
        here = state.half.constants
        machine.write(here, constants)
        machine.run(machine.prepared([
            Launch(kernel(state.dtype), blocks(count, ELEMENTWISE), ELEMENTWISE, (
                recipe.rule, layer.w_at, layer.n_in * layer.n_out, count, here, state.parameters, state.gradients,
                state.s1, state.s2))
            for layer in state.work.layers for count in [(layer.n_in + 1) * layer.n_out]]))
        set_step(state, step)
