"""Between two steps: sum up the one that is done, set `control`, `sums` and `constants` for the next; gather its rows.

    finish_step(first, weights, order, rates, rule, hyper, l2, alpha, losses, right, right_unit, control, sums,
                constants)
        One block. `first` starts an epoch: no step is done yet. Past the last step ROWS is 0, and all kernels rest: a
        graph of steps may be replayed beyond the end of an epoch.
    gather(x, order, control, k, scale, out, out_at)
        out (rows, k) = x[order] · scale, in out's dtype; a thread an element.

Sums over rows run in float64, in an order that depends on their number alone. Learning rates and their corrections are
float64 as well: these kernels are the only ones that use it beside those for float64 nets.
"""
import functools
from types import SimpleNamespace

import numpy as np

from .control import (
    BATCH,
    BATCH_WEIGHT,
    L2,
    LOSS,
    POSITION,
    RIGHT,
    ROWS,
    START,
    STEP,
    TOTAL_ROWS,
    WEIGHTED,
    WEIGHTS,
    row_number,
)
from .scalars import functions
from .shims import cuda, device

THREADS = 256
double = np.float64


@device
def block_sum(value, shared):
    """The sum over the block's threads, in every thread."""
    t = cuda.threadIdx.x
    shared[t] = value
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if t < half:
            shared[t] += shared[t + half]
        cuda.syncthreads()
        half //= 2
    total = shared[0]
    cuda.syncthreads()
    return total


@device
def weight_of(weights, order, control, r):
    return double(weights[row_number(control, order, r)]) if control[WEIGHTED] != 0 else double(1)


@cuda.jit(launch_bounds=THREADS)
def sum_weights(weights, order, control, sums):
    """sums[BATCH_WEIGHT] = Σ w over the step's rows."""
    shared = cuda.shared.array(THREADS, double)
    total = double(0)
    for r in range(cuda.threadIdx.x, control[ROWS], THREADS):
        total += weight_of(weights, order, control, r)
    total = block_sum(total, shared)
    if cuda.threadIdx.x == 0:
        sums[BATCH_WEIGHT] = total


@cuda.jit(launch_bounds=THREADS)
def add_totals(weights, order, losses, right, right_unit, control, sums):
    """Adds the step's Σ w l, Σ right · right_unit and Σ w to sums."""
    shared = cuda.shared.array(THREADS, double)
    _add_totals(weights, order, losses, right, right_unit, control, sums, shared)


@device
def _add_totals(weights, order, losses, right, right_unit, control, sums, shared):
    loss, good = double(0), double(0)
    for r in range(cuda.threadIdx.x, control[ROWS], THREADS):
        weight = weight_of(weights, order, control, r)
        if weight != double(0):
            loss += weight * double(losses[r])
        good += double(right[r])
    loss = block_sum(loss, shared)
    good = block_sum(good, shared)
    if cuda.threadIdx.x == 0:
        sums[LOSS] += loss
        sums[RIGHT] += good * right_unit
        sums[WEIGHTS] += sums[BATCH_WEIGHT]


@functools.cache
def kernels(dtype):
    step_constants = functions(double).step_constants

    @cuda.jit(launch_bounds=THREADS)
    def finish_step(first, weights, order, rates, rule, hyper, l2, alpha, losses, right, right_unit, control, sums,
                    constants):
        shared = cuda.shared.array(THREADS, double)
        t = cuda.threadIdx.x
        if first != 0:
            if t == 0:
                control[POSITION] = 0
                sums[LOSS], sums[RIGHT], sums[WEIGHTS] = double(0), double(0), double(0)
        elif control[ROWS] > 0:
            _add_totals(weights, order, losses, right, right_unit, control, sums, shared)
            if t == 0:
                control[POSITION] += 1
                control[STEP] += 1
        cuda.syncthreads()
        position = control[POSITION]
        start = position * control[BATCH]
        rows = max(0, min(control[BATCH], control[TOTAL_ROWS] - start))
        cuda.syncthreads()
        if t == 0:
            control[START], control[ROWS] = start, rows
            if rows > 0:
                values = step_constants(rule, hyper, rates[position], control[STEP] + 1)
                for i in range(L2):
                    constants[i] = values[i]
        cuda.syncthreads()
        total = double(0)
        for r in range(t, rows, THREADS):
            total += weight_of(weights, order, control, r)
        total = block_sum(total, shared)
        if t == 0:
            sums[BATCH_WEIGHT] = total
            if rows > 0:
                constants[L2] = l2 + (alpha / total if total > double(0) else alpha - alpha)

    @cuda.jit
    def gather(x, order, control, k, scale, out, out_at):
        i = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
        r = i // k
        if r < control[ROWS]:
            out[out_at + i] = dtype(x[row_number(control, order, r) * k + i - r * k]) * scale

    return SimpleNamespace(finish_step=finish_step, gather=gather)
