"""The perceptron's two passes over the data (Rosenblatt 1958). Reference twins: `kernels.reference.perceptron`.

    online  one block: rows wait for each other, so all there is to share is a row's features
    batch   `mark`: a warp a row decides whether it is a mistake; `pull`: a thread a feature sums the mistakes in row
            order; `move`: theta and bias
"""
import functools
from types import SimpleNamespace

import numpy as np

from .losses import WARPS, warp_sum
from .operands import check
from .shims import cuda
from .steps import THREADS
from .streams import Queue, type_of


@functools.cache
def kernels(dtype):
    zero, half_block = dtype(0), THREADS // 2

    @cuda.jit(launch_bounds=THREADS)
    def online(x, y, m, k, theta, bias, updates):
        shared = cuda.shared.array(THREADS, dtype)
        t = cuda.threadIdx.x
        shift, count = bias[0], 0
        for i in range(m):
            score = zero
            for j in range(t, k, THREADS):
                score += x[i * k + j] * theta[j]
            shared[t] = score
            cuda.syncthreads()
            half = half_block
            while half > 0:
                if t < half:
                    shared[t] += shared[t + half]
                cuda.syncthreads()
                half //= 2
            score = shared[0]
            cuda.syncthreads()
            if y[i] * (score + shift) <= zero:              # every thread sees the same
                for j in range(t, k, THREADS):
                    theta[j] += y[i] * x[i * k + j]
                shift += y[i]
                count += 1
        if t == 0:
            bias[0] = shift
            updates[0] = count

    @cuda.jit(launch_bounds=32 * WARPS)
    def mark(x, y, m, k, theta, bias, signs):
        """signs[i] = y[i] for a mistake, else 0."""
        lane, i = cuda.threadIdx.x & 31, cuda.blockIdx.x * WARPS + (cuda.threadIdx.x >> 5)
        if i >= m:
            return
        score = zero
        for j in range(lane, k, 32):
            score += x[i * k + j] * theta[j]
        score = warp_sum(score)
        if lane == 0:
            signs[i] = y[i] if y[i] * (score + bias[0]) <= zero else zero

    @cuda.jit(launch_bounds=THREADS)
    def pull(x, signs, m, k, delta, mistakes):
        j = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
        if j > k:
            return
        total, count = zero, 0
        for i in range(m):
            if signs[i] != zero:
                total += signs[i] * x[i * k + j] if j < k else signs[i]
                count += 1
        delta[j] = total
        if j == k:
            mistakes[0] = count

    @cuda.jit(launch_bounds=THREADS)
    def move(delta, m, k, theta, bias):
        j = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
        if j < k:
            theta[j] += delta[j] / dtype(m)
        elif j == k:
            bias[0] += delta[k] / dtype(m)

    return SimpleNamespace(online=online, mark=mark, pull=pull, move=move)


def perceptron_online(x, y, theta, bias, *, stream=None):
    """One pass in order: where yᵢ (θᵀxᵢ + b) ≤ 0, θ ← θ + yᵢ xᵢ and b ← b + yᵢ. Returns the number of updates.

    x (m, k), y (m,) of ±1, theta (k,), bias (1,), all float32 or all float64, in C order; theta and bias are changed.
    stream: as in `ops`. Raises TypeError and ValueError for operands that do not fit.
    Cost: 2 m k flops and 2 k for each update, one block: no row can begin before the one above is done.
    """
    sizes, queue = check("perceptron_online", "x (m, k), y (m,) -> theta (k,), bias (1,)", x, y, theta, bias), \
        Queue(stream)
    if sizes["m"] == 0:
        return 0
    updates = queue.empty(1, np.int64)
    queue.run(kernels(type_of(x)).online, 1, THREADS, queue.read(x), queue.read(y), sizes["m"], sizes["k"],
              queue.written(theta), queue.written(bias), updates)
    return int(queue.download(updates)[0])


def perceptron_batch(x, y, theta, bias, delta, *, stream=None):
    """One pass: Δ = Σ over rows with yᵢ (θᵀxᵢ + b) ≤ 0 of yᵢ (xᵢ, 1), then (θ, b) ← (θ, b) + Δ / m. Returns the
    number of mistakes.

    x (m, k), y (m,) of ±1, theta (k,), bias (1,), delta (k + 1,) scratch that receives Δ, all float32 or all float64,
    in C order; theta and bias are changed. stream: as in `ops`. Raises TypeError and ValueError for operands that do
    not fit.
    Cost: 4 m k flops; reads x twice.
    """
    sizes, queue = check("perceptron_batch", "x (m, k), y (m,) -> theta (k,), bias (1,), delta (k + 1,)", x, y, theta,
                         bias, delta), Queue(stream)
    m, k = sizes["m"], sizes["k"]
    if m == 0:
        return 0
    found, dtype = kernels(type_of(x)), type_of(x)
    x, columns = queue.read(x), -(-(k + 1) // THREADS)
    theta, bias, delta = queue.written(theta), queue.written(bias), queue.written(delta)
    signs, mistakes = queue.empty(m, dtype), queue.empty(1, np.int64)
    queue.run(found.mark, -(-m // WARPS), 32 * WARPS, x, queue.read(y), m, k, theta, bias, signs)
    queue.run(found.pull, columns, THREADS, x, signs, m, k, delta, mistakes)
    queue.run(found.move, columns, THREADS, delta, m, k, theta, bias)
    return int(queue.download(mistakes)[0])
