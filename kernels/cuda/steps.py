"""Between two steps: sum up the one that is done, set `control`, `sums` and `constants` for the next; gather its rows.

    finish_step(first, weights, order, all_constants, l2, alpha, losses, correct, correct_unit, control, sums,
                constants)
        One block. all_constants: `catalogue.StepConstants` of every step of the epoch. `first` starts an epoch: no
        step is done yet. Past the last step ROWS is 0, and all kernels rest: a graph of steps may be replayed beyond
        the end of an epoch.
    gather(x, order, control, k, scale, out, out_at)
        out (rows, k) = x[order] · scale, in out's dtype; a thread an element.

Sums over rows run in float64, in an order that depends on their number alone: these kernels are the only ones that use
it next to those for float64 nets. Learning rates and their corrections, powers in float64, are the host's work.
"""
import functools
from types import SimpleNamespace

import numpy as np

from .control import (
    BATCH,
    BATCH_WEIGHT,
    CORRECT,
    L2,
    LOSS,
    POSITION,
    ROWS,
    START,
    STEP,
    TOTAL_ROWS,
    WEIGHTED,
    WEIGHTS,
    row_number,
)
from .losses import warp_sum
from .shims import cuda, device

THREADS = 256
WARPS = THREADS // 32
double = np.float64


@device
def block_sum(value, shared):
    """The sum over the block's threads, in every thread: within the warps, then warp by warp."""
    value = warp_sum(value)
    if cuda.threadIdx.x & 31 == 0:
        shared[cuda.threadIdx.x >> 5] = value
    cuda.syncthreads()
    total = shared[0]
    for warp in range(1, WARPS):
        total += shared[warp]
    cuda.syncthreads()
    return total


@device
def weight_of(weights, order, control, r):
    return double(weights[row_number(control, order, r)]) if control[WEIGHTED] != 0 else double(1)


@cuda.jit(launch_bounds=THREADS)
def sum_weights(weights, order, control, sums):
    """sums[BATCH_WEIGHT] = Σ w over the step's rows."""
    shared = cuda.shared.array(WARPS, double)
    total = double(0)
    for r in range(cuda.threadIdx.x, control[ROWS], THREADS):
        total += weight_of(weights, order, control, r)
    total = block_sum(total, shared)
    if cuda.threadIdx.x == 0:
        sums[BATCH_WEIGHT] = total


@cuda.jit(launch_bounds=THREADS)
def add_totals(weights, order, losses, correct, correct_unit, control, sums):
    """Adds the step's Σ w l, Σ correct · correct_unit and Σ w to sums."""
    shared = cuda.shared.array(WARPS, double)
    _add_totals(weights, order, losses, correct, correct_unit, control, sums, shared)


@device
def _add_totals(weights, order, losses, correct, correct_unit, control, sums, shared):
    loss, good = double(0), double(0)
    for r in range(cuda.threadIdx.x, control[ROWS], THREADS):
        weight = weight_of(weights, order, control, r)
        if weight != double(0):
            loss += weight * double(losses[r])
        good += double(correct[r])
    loss = block_sum(loss, shared)
    good = block_sum(good, shared)
    if cuda.threadIdx.x == 0:
        sums[LOSS] += loss
        sums[CORRECT] += good * correct_unit
        sums[WEIGHTS] += sums[BATCH_WEIGHT]


@functools.cache
def kernels(dtype):

    @device
    def advance(first, weights, order, losses, correct, correct_unit, control, sums, shared):
        """Adds up the step that is done and moves `control` on to the next."""
        t = cuda.threadIdx.x
        if first != 0:
            if t == 0:
                control[POSITION] = 0
                sums[LOSS], sums[CORRECT], sums[WEIGHTS] = double(0), double(0), double(0)
        elif control[ROWS] > 0:
            _add_totals(weights, order, losses, correct, correct_unit, control, sums, shared)
            if t == 0:
                control[POSITION] += 1
                control[STEP] += 1
        cuda.syncthreads()
        start = control[POSITION] * control[BATCH]
        rows = max(0, min(control[BATCH], control[TOTAL_ROWS] - start))
        cuda.syncthreads()
        if t == 0:
            control[START], control[ROWS] = start, rows
        cuda.syncthreads()

    @device
    def weigh_rows(weights, order, l2, alpha, control, sums, constants, shared):
        """The weight of the step's rows, and what depends on it; there for all after the next barrier."""
        total = double(0)
        for r in range(cuda.threadIdx.x, control[ROWS], THREADS):
            total += weight_of(weights, order, control, r)
        total = block_sum(total, shared)
        if cuda.threadIdx.x == 0:
            sums[BATCH_WEIGHT] = total
            constants[L2] = l2 + (alpha / total if total > double(0) else alpha - alpha)

    @device
    def set_constants(all_constants, control, constants):
        """The optimizer's constants of the step."""
        i = cuda.threadIdx.x
        if i < L2 and control[ROWS] > 0:
            constants[i] = all_constants[control[POSITION] * L2 + i]

    @cuda.jit(launch_bounds=THREADS)
    def finish_step(first, weights, order, all_constants, l2, alpha, losses, correct, correct_unit, control, sums,
                    constants):
        shared = cuda.shared.array(WARPS, double)
        advance(first, weights, order, losses, correct, correct_unit, control, sums, shared)
        set_constants(all_constants, control, constants)
        weigh_rows(weights, order, l2, alpha, control, sums, constants, shared)

    @cuda.jit
    def gather(x, order, control, k, scale, out, out_at):
        i = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
        r = i // k
        if r < control[ROWS]:
            out[out_at + i] = dtype(x[row_number(control, order, r) * k + i - r * k]) * scale

    return SimpleNamespace(advance=advance, weigh_rows=weigh_rows, set_constants=set_constants,
                           finish_step=finish_step, gather=gather)
