"""Philox4x32-10: the counter-based generator of dropout masks, a vector of counters at a time.

Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011). Ten rounds of
    (c0, c1, c2, c3) <- (hi(M1 c2) ^ c1 ^ k0, lo(M1 c2), hi(M0 c0) ^ c3 ^ k1, lo(M0 c0)),  k0 += W0, k1 += W1
"""
import numpy as np
from numba import uint32, uint64

from ..jit import inlined, outlined
from ..vector.panels import panel_width
from ..vector.pointers import constant, lanes, load, store
from ..vector.simd import products, ramp, select, words_at_least

M0, M1 = 0xD2511F53, 0xCD9E8D57
W0, W1 = np.uint32(0x9E3779B9), np.uint32(0xBB67AE85)


@inlined
def rounds(c0, c1, c2, c3, k0, k1):
    """Counters as word vectors, the key as two uint32 numbers -> four word vectors."""
    for _ in range(10):
        h0, l0 = products(c0, M0)
        h1, l1 = products(c2, M1)
        c0, c1, c2, c3 = h1 ^ c1 ^ k0, l1, h0 ^ c3 ^ k1, l0
        k0, k1 = uint32(k0 + W0), uint32(k1 + W1)
    return c0, c1, c2, c3


@inlined
def four_rows(row, column, layer, step, seed, like):
    """Random words of rows 4 (row // 4) .. + 3 in one vector of columns from `column`."""
    zero = ramp(0, like) ^ ramp(0, like)
    key_low, key_high = uint32(uint64(seed) & uint64(0xFFFFFFFF)), uint32(uint64(seed) >> uint64(32))
    return rounds(ramp(column, like), zero + row // 4, zero + layer, zero + step, key_low, key_high)


@inlined
def keep_threshold(rate):
    """floor(rate 2³²): an element is kept when its random word is at least this."""
    return uint64(rate * 4294967296.0)


@outlined
def drop_panel(y, slopes, first, rows, column, columns, rate, seed, step_number, layer):
    """Dropout on a panel: y and slope times 1 / (1 - rate) where kept, 0 elsewhere."""
    width = panel_width(y)
    threshold, factor = keep_threshold(rate), constant(1.0 / (1.0 - rate), y)
    for r in range(0, rows, 4):
        for v in range(0, min(columns, width), lanes(y)):
            w0, w1, w2, w3 = four_rows(first + r, column + v, layer, step_number, seed, y)
            _drop_vector(y, slopes, r * width + v, w0, threshold, factor)
            _drop_vector(y, slopes, (r + 1) * width + v, w1, threshold, factor)
            _drop_vector(y, slopes, (r + 2) * width + v, w2, threshold, factor)
            _drop_vector(y, slopes, (r + 3) * width + v, w3, threshold, factor)


@inlined
def _drop_vector(y, slopes, i, words, threshold, factor):
    keep = words_at_least(words, threshold)
    store(y, i, select(keep, load(y, i) * factor, 0.0))
    store(slopes, i, select(keep, load(slopes, i) * factor, 0.0))
