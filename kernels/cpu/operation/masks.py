"""Dropout and its generator on plain arrays. Masks: `tile.masks`."""
import numpy as np
from numba import uint32, uint64

from ..jit import inlined, operation
from ..tile.masks import M0, M1, W0, W1, four_rows, keep_threshold
from ..vector.pointers import at, lanes, load_first, store_first
from ..vector.simd import select, words_at_least
from .operands import apart, contiguous, integer, operand, output, same_start


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
    seed, step, layer : int, the position of this mask: the same position gives the same mask.

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
    integer(seed, "dropout: seed")
    integer(step, "dropout: step")
    integer(layer, "dropout: layer")
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
