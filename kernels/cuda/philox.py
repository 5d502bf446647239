"""Philox4x32-10, the counter-based generator of dropout masks: the same words as the other packages' give.

Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011). Reference twin: `reference.masks`.
"""
import numpy as np

from .shims import cuda, device

M0, M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
W0, W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
LOW, WORD = np.uint64(0xFFFFFFFF), np.uint64(32)
THREADS = 128


@device
def words(c0, c1, c2, c3, k0, k1):
    """Four words; all uint64 below 2³², so that products are exact."""
    for _ in range(10):
        p0, p1 = M0 * c0, M1 * c2
        c0, c1, c2, c3 = (p1 >> WORD) ^ c1 ^ k0, p1 & LOW, (p0 >> WORD) ^ c3 ^ k1, p0 & LOW
        k0, k1 = (k0 + W0) & LOW, (k1 + W1) & LOW
    return c0, c1, c2, c3


@device
def kept(row, column, layer, step, seed, threshold):
    """Whether dropout keeps this element: its word is at least `threshold`, floor(rate 2³²)."""
    seed = np.uint64(seed)
    w0, w1, w2, w3 = words(np.uint64(column), np.uint64(row >> 2), np.uint64(layer), np.uint64(step) & LOW,
                           seed & LOW, seed >> WORD)
    part = row & 3
    word = w0 if part == 0 else w1 if part == 1 else w2 if part == 2 else w3
    return word >= np.uint64(threshold)


@device
def dropped(value, slope, factor, threshold, row, column, layer, step, seed):
    """An output and its slope after dropout: times `factor` where kept. Dropped is 0 whatever it was: infinity times 0
    is not."""
    if threshold > 0:
        if kept(row, column, layer, step, seed, threshold):
            return value * factor, slope * factor
        return factor - factor, slope * (factor - factor)
    return value, slope


def keep_threshold(rate):
    """floor(rate 2³²)."""
    return int(rate * 4294967296.0)


@cuda.jit
def drop(x, m, n, factor, threshold, seed, step, layer, y):
    """y (m, n) = x · factor where kept, else 0. A thread an element."""
    i = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
    if i < m * n:
        y[i] = x[i] * factor if kept(i // n, i % n, layer, step, seed, threshold) else factor - factor


@cuda.jit
def four_words(c0, c1, c2, c3, k0, k1, out):
    out[0], out[1], out[2], out[3] = words(np.uint64(c0), np.uint64(c1), np.uint64(c2), np.uint64(c3),
                                           np.uint64(k0), np.uint64(k1))
