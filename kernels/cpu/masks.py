"""Philox4x32-10: the counter-based generator of dropout masks, a vector of counters at a time.

Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011). Ten rounds of
    (c0, c1, c2, c3) <- (hi(M1 c2) ^ c1 ^ k0, lo(M1 c2), hi(M0 c0) ^ c3 ^ k1, lo(M0 c0)),  k0 += W0, k1 += W1
"""
import numpy as np
from numba import uint32, uint64

from .gemm import panel_width
from .jit import inlined, operation, outlined
from .operands import apart, contiguous, operand, output, same_start, whole
from .pointers import at, constant, lanes, load, load_first, store, store_first
from .simd import products, ramp, select, words_at_least

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


@operation
def philox(c0, c1, c2, c3, k0, k1):
    """One call: counter (c0, c1, c2, c3), key (k0, k1), all below 2³² -> four uint32 numbers.

    Cost: 20 products of 32-bit words; no memory. Source: Philox4x32-10, Salmon et al., SC 2011.
    """
    k0, k1 = uint64(k0), uint64(k1)
    c0, c1, c2, c3 = uint64(c0), uint64(c1), uint64(c2), uint64(c3)
    mask = uint64(0xFFFFFFFF)
    for _ in range(10):
        p0, p1 = uint64(M0) * c0, uint64(M1) * c2
        c0, c1, c2, c3 = (p1 >> uint64(32)) ^ c1 ^ k0, p1 & mask, (p0 >> uint64(32)) ^ c3 ^ k1, p0 & mask
        k0, k1 = (k0 + uint64(W0)) & mask, (k1 + uint64(W1)) & mask
    return uint32(c0), uint32(c1), uint32(c2), uint32(c3)


@operation
def dropout(x, rate, seed, step, layer, y=None):
    """y = x / (1 - rate) where kept, else 0; returns y.

    Parameters
    ----------
    x, y : (m, n) float32 or float64, C-contiguous. y may be x, and is allocated if left out.
    rate : float, 0 <= rate < 1, the expected share of zeros.
    seed, step, layer : int, the place of this mask: the same place gives the same mask.

    Raises
    ------
    ValueError : shapes differ, or rate is out of range.

    Notes
    -----
    Cost: ten rounds of Philox for four numbers; 2 m n numbers. Source: Srivastava et al. 2014, inverted (scaled in
    training); words from `philox`.
    """
    if y is None:
        y = np.empty(x.shape, x.dtype)
    operand(x, 2, "dropout: x")
    output(y, 2, "dropout: y")
    whole(seed, "dropout: seed")
    whole(step, "dropout: step")
    whole(layer, "dropout: layer")
    if x.shape != y.shape:
        raise ValueError("dropout: y must have the shape of x")
    if not 0.0 <= rate < 1.0:
        raise ValueError("dropout: rate must be at least 0 and below 1")
    contiguous((x, y))
    if not (same_start(x, y) or apart((y,), (x,))):
        raise ValueError("dropout: y may be x, but must not overlap it otherwise")
    if seed < 0 or step < 0 or layer < 0:
        raise ValueError("dropout: seed, step and layer must be at least 0")
    m, n = x.shape
    p, q = at(x, 0), at(y, 0)
    threshold = keep_threshold(rate)
    for r in range(0, m, 4):
        for c in range(0, n, lanes(p)):
            w0, w1, w2, w3 = four_rows(r, c, layer, step, seed, p)
            _drop_row(p, q, w0, threshold, rate, r, c, m, n)
            _drop_row(p, q, w1, threshold, rate, r + 1, c, m, n)
            _drop_row(p, q, w2, threshold, rate, r + 2, c, m, n)
            _drop_row(p, q, w3, threshold, rate, r + 3, c, m, n)
    return y


@inlined
def _drop_row(p, q, words, threshold, rate, r, c, m, n):
    if r < m:
        value = load_first(p, r * n + c, n - c) * (1.0 / (1.0 - rate))
        store_first(q, r * n + c, select(words_at_least(words, threshold), value, 0.0), n - c)
