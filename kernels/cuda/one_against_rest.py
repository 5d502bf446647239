"""scikit-learn's perceptron: a unit for each class against the rest, and its order of rows. Contract: `kernels`.

Every row waits for the one before: the parallel work is a warp a unit, and a unit's features over the warp's lanes. A
lane reads and writes its own features only, so that nobody waits for memory. The order of rows is one thread's work.
"""
import functools

import numpy as np

from .losses import warp_sum
from .operands import check, inside, is_given
from .shims import cuda
from .streams import Queue, constant, is_on_gpu, type_of

double = np.float64


@functools.cache
def kernel(dtype):
    zero = dtype(0)

    @cuda.jit(launch_bounds=32)
    def one_against_rest(x, rows, m, k, labels, weights, weighted, positive, negative, l2, l1, intercept, steps, active,
                         theta, bias, shrunk, totals):
        c, lane = cuda.blockIdx.x, cuda.threadIdx.x
        if not active[c]:
            return
        at, shift, keep = c * k, bias[c], dtype(max(double(0), double(1) - l2))
        penalised, losses, squares, sizes = l1 != double(0) or l2 != double(0), double(0), double(0), double(0)
        for i in range(m):
            row = rows[i]
            here, score, square, size = row * k, zero, zero, zero
            for j in range(lane, k, 32):
                weight = theta[at + j]
                score += x[here + j] * weight
                square += weight * weight
                size += abs(weight)
            if penalised:
                squares += double(warp_sum(square)) / double(2)
                sizes += double(warp_sum(size))
            mine = labels[row] == c
            margin = warp_sum(score) + shift
            margin = margin if mine else -margin
            move, limit = double(0), dtype(double(steps + i + 1) * l1)
            if not margin > zero:                              # NaN is a mistake, and is seen
                losses -= double(margin)
                move = positive[c] if mine else -negative[c]
                if weighted != 0:
                    move *= double(weights[row])
                shift = dtype(double(shift) + intercept * move)
            pull = dtype(move)
            for j in range(lane, k, 32):
                weight = theta[at + j]
                if l2 != double(0):
                    weight *= keep
                if pull != zero:
                    weight += pull * x[here + j]
                if l1 != double(0):                            # as far towards 0 as it has not been moved yet
                    before, done = weight, shrunk[at + j]
                    if before > zero:
                        weight = max(zero, before - (limit + done))
                    elif before < zero:
                        weight = min(zero, before + (limit - done))
                    shrunk[at + j] = done + (weight - before)
                theta[at + j] = weight
        if lane == 0:
            bias[c] = shift
            totals[c * 3] += losses
            totals[c * 3 + 1] += squares
            totals[c * 3 + 2] += sizes

    return one_against_rest


@cuda.jit(launch_bounds=1)
def exchange_rows(rows, m, state):
    """Fisher and Yates' shuffle by one thread; state: of xorshift32, not 0."""
    for i in range(m - 1):
        state ^= (state << 13) & 0xFFFFFFFF
        state ^= state >> 17
        state ^= (state << 5) & 0xFFFFFFFF
        j = i + (state & 0x7FFFFFFF) % (m - i)
        rows[i], rows[j] = rows[j], rows[i]


def perceptron_epoch(x, rows, labels, weights, positive, negative, l2, l1, intercept, steps, active, theta, bias,
                     shrunk, totals, *, stream=None):
    """K perceptrons, one against the rest each, through the rows `rows` in order. What each means: `kernels`, and
    `kernels.cpu.perceptron_epoch` in detail.

    x (any, k), rows int64 (m,), labels int64 (any,), weights (any,) or empty or None for ones, positive, negative
    float64 (K,), active bool (K,); changed: theta (K, k), bias (K,), shrunk (K, k) or empty where l1 is 0, totals
    float64 (K, 3). The others are all float32 or all float64. stream, rows on the GPU: as `ops.gather`. Raises
    TypeError and ValueError for operands that do not fit.
    Cost: 2 m k K flops and 2 k for each mistake, a warp a unit.
    """
    sizes = check("perceptron_epoch", "x (rows, k), rows int64 (m,), labels int64 (rows,), weights (rows,)?, "
                  "positive float64 (K,), negative float64 (K,), active bool (K,) -> theta (K, k), bias (K,), "
                  "shrunk (K, k)?, totals float64 (K, 3)",
                  x, rows, labels, weights, positive, negative, active, theta, bias, shrunk, totals)
    queue, dtype, weighted, cut = Queue(stream), type_of(x), is_given(weights), is_given(shrunk)
    if l1 != 0 and not cut and theta.shape[1]:
        raise ValueError("perceptron_epoch: needs shrunk (K, k) where l1 is not 0")
    if not is_on_gpu(rows):
        inside("perceptron_epoch", "rows", rows, sizes["rows"], queue)
    if sizes["m"] * sizes["K"] == 0:
        return
    none = constant(0.0, dtype=dtype)
    queue.run(kernel(dtype), sizes["K"], 32, queue.read(x), queue.read(rows), sizes["m"], sizes["k"],
              queue.read(labels), queue.read(weights) if weighted else none, int(weighted), queue.read(positive),
              queue.read(negative), float(l2), float(l1), float(intercept), int(steps), queue.read(active),
              queue.written(theta), queue.written(bias), queue.written(shrunk) if cut else none, queue.written(totals))


def shuffle(rows, seed, *, stream=None):
    """Fisher and Yates' shuffle of rows (m,) int64 in place, by Marsaglia's xorshift32 from `seed`, 32 bits; as in the
    other packages, and by one thread. stream: as in `ops`. Cost: one number and one exchange a row."""
    m, queue = check("shuffle", "-> rows int64 (m,)", rows)["m"], Queue(stream)
    if m > 1:
        queue.run(exchange_rows, 1, 1, queue.written(rows), m, int(seed) or 1)
