"""The dense layer on plain row-major arrays: y = f(x W + b) and its gradients.

The reference twins are in `kernels.reference.dense`. Training uses the same tiles on panels (`network`);
these are the operations for everybody else: callable from Python and from other compiled
code, every shape checked, since what follows works on raw memory.
"""
import numpy as np

from ... import activations as codes
from ..jit import allocating, inlined, operation
from ..tile.epilogues import activate, store_tile
from ..tile.gemm import SUM_BLOCK, columns_tile, plain_tile
from ..vector.functions import slope_vector
from ..vector.panels import panel_width, panels
from ..vector.pointers import at, get, keep_alive, lanes, load_first, next_line, put, step, store, store_first
from ..vector.simd import ROWS
from .operands import apart, contiguous, integer, operand, output, same_start

ELEMENTWISE, TRAINABLE = codes.ELEMENTWISE, codes.TABLE.codes(lambda record: record.trainable)
# Packing a panel of B is a pass over it: it pays from three tiles of rows on, later where B stays in the first level of
# cache by itself.
PACK_FROM, PACK_SMALL_FROM, SMALL_BYTES = 2 * ROWS, 16 * ROWS, 1 << 16


@inlined
def _pack(b, rows, step, columns, panel):
    """The first columns of a row-major B as a panel. Its rows start cache lines; those of B need not."""
    width = panel_width(b)
    for r in range(rows):
        for v in range(0, width, lanes(b)):
            store(panel, r * width + v, load_first(b, r * step + v, columns - v))


@operation
def dense_forward(x, w, b, activation, y=None):
    """y = f(x W + b) in one pass over y, which is returned.

    Parameters
    ----------
    x : (m, k), w : (k, n), b : (n,), y : (m, n), all float32 or all float64, C-contiguous; y is written,
        and allocated if left out.
    activation : int, a code of `kernels.activations` (RELU, ...; SOFTMAX is not a function of one element).

    Raises
    ------
    ValueError : shapes that do not fit together, or an unknown code.

    Notes
    -----
    Cost: 2 m n k flops; m k + k n + m n numbers at least. Reads x n / P times, W m / ROWS times from cache.
    Source: standard.
    """
    operand(x, 2, "dense_forward: x")
    operand(w, 2, "dense_forward: w")
    operand(b, 1, "dense_forward: b")
    integer(activation, "dense_forward: activation")
    m, k = x.shape
    n = w.shape[1]
    if y is None:
        y = np.empty((m, n), x.dtype)
    output(y, 2, "dense_forward: y")
    if w.shape[0] != k or b.shape[0] != n or y.shape[0] != m or y.shape[1] != n:
        raise ValueError("dense_forward: needs x (m, k), w (k, n), b (n,), y (m, n)")
    if activation not in ELEMENTWISE:
        raise ValueError("dense_forward: activation must be a code of kernels.activations.ELEMENTWISE")
    contiguous((x, w, b, y))
    if not apart((y,), (x, w, b)):
        raise ValueError("dense_forward: y is written and must not share memory with x, w or b")
    px, pb = at(x, 0), at(b, 0)
    width = panel_width(px)
    packs = m > (PACK_SMALL_FROM if w.size * x.itemsize <= SMALL_BYTES else PACK_FROM)
    scratch = np.empty((2 * ROWS + 1) * width + (k * width + 64 if packs else 0), x.dtype)
    tile = at(scratch, 0)
    slopes = step(tile, ROWS * width)
    bias = step(slopes, ROWS * width)
    panel = next_line(step(bias, width))
    for c in range(0, n, width):
        for v in range(0, min(width, n - c), lanes(px)):
            store(bias, v, load_first(pb, c + v, n - c - v))
        if packs:
            _pack(at(w, c), k, n, n - c, panel)
        for r in range(0, m, ROWS):
            rows = min(ROWS, m - r)
            plain_tile(at(x, r * k), k, rows, 1, panel if packs else at(w, c), n, n - c, k, packs, tile)
            activate(activation, tile, bias, 0, rows, n - c, tile, slopes)
            store_tile(tile, rows, n - c, at(y, r * n + c), n)
    keep_alive(scratch)
    return y


@operation
def dense_backward(x, w, y, dy, activation, dz, dx, dw, db):
    """dz = dy ⊙ f'(z), dx = dz Wᵀ, dw = xᵀ dz, db = Σ_rows dz.

    Parameters
    ----------
    x : (m, k), w : (k, n), y, dy, dz : (m, n), dx : (m, k) or (0, 0) when not wanted, dw : (k, n), db : (n,),
        all float32 or all float64, C-contiguous; dz, dx, dw, db are written; dz may be dy.
    activation : int, a trainable code of `kernels.activations`; for GELU and SILU pass z = x W + b as y,
        because their output does not determine their slope.

    Raises
    ------
    ValueError : shapes that do not fit together, or an unknown code.

    Notes
    -----
    Cost: 4 m n k flops (2 m n k without dx); 2 m k + 2 k n + 3 m n numbers at least. Allocates dz and single panels
    of x and Wᵀ, packed. Source: standard (chain rule).
    """
    operand(x, 2, "dense_backward: x")
    operand(w, 2, "dense_backward: w")
    operand(y, 2, "dense_backward: y")
    operand(dy, 2, "dense_backward: dy")
    integer(activation, "dense_backward: activation")
    output(dz, 2, "dense_backward: dz")
    output(dx, 2, "dense_backward: dx")
    output(dw, 2, "dense_backward: dw")
    output(db, 1, "dense_backward: db")
    m, k = x.shape
    n = w.shape[1]
    if w.shape[0] != k or y.shape != (m, n) or dy.shape != (m, n) or dz.shape != (m, n):
        raise ValueError("dense_backward: needs x (m, k), w (k, n) and y, dy, dz (m, n)")
    if dw.shape != (k, n) or db.shape[0] != n or (dx.size > 0 and dx.shape != (m, k)):
        raise ValueError("dense_backward: needs dw (k, n), db (n,), dx (m, k) or empty")
    if activation not in TRAINABLE:
        raise ValueError("dense_backward: activation must be a trainable code of kernels.activations")
    contiguous((x, w, y, dy, dz, dx, dw, db))
    if not (same_start(dz, dy) or apart((dz,), (dy,))):
        raise ValueError("dense_backward: dz may be dy, but must not overlap it otherwise")
    if not (apart((dz, dx, dw, db), (x, w, y)) and apart((dx, dw, db), (dy,))):
        raise ValueError("dense_backward: dz, dx, dw and db are written and must not share memory with x, w, "
                         "y, dy or each other")
    width = panel_width(at(x, 0))
    tile = np.empty(ROWS * width, x.dtype)
    _local_gradient(at(y, 0), at(dy, 0), activation, m * n, at(dz, 0))
    for c in range(0, n, lanes(at(x, 0))):
        _column_sums(at(dz, c), m, n, n - c, at(db, c))
    _weight_gradient(x, dz, at(tile, 0), dw)
    if dx.size > 0:
        _input_gradient(dz, w, at(tile, 0), dx)
    keep_alive(tile)


@allocating
def _weight_gradient(x, dz, tile, dw):
    """dw = xᵀ dz. Both are packed: a column of x alone would touch a page of memory for every row."""
    (m, k), n, width = x.shape, dz.shape[1], panel_width(tile)
    scratch = np.empty((panels(n, tile) + 1) * m * width + 64, x.dtype)
    packed_dz = next_line(at(scratch, 0))
    packed_x = step(packed_dz, panels(n, tile) * m * width)
    for c in range(0, n, width):
        _pack(at(dz, c), m, n, n - c, step(packed_dz, c * m))
    for q in range(0, k, width):
        _pack(at(x, q), m, k, k - q, packed_x)
        for c in range(0, n, width):
            panel = step(packed_dz, c * m)
            for g in range(0, min(width, k - q), ROWS):
                columns_tile(step(packed_x, g), panel, n - c, m, panel, tile)
                store_tile(tile, min(ROWS, k - q - g), n - c, at(dw, (q + g) * n + c), n)
    keep_alive(scratch)


@allocating
def _input_gradient(dz, w, tile, dx):
    """dx = dz wᵀ, a panel of wᵀ at a time."""
    (m, n), k, width = dz.shape, w.shape[0], panel_width(tile)
    scratch = np.zeros(n * width + 64, w.dtype)
    panel = next_line(at(scratch, 0))
    for c in range(0, k, width):
        for j in range(n):
            for i in range(min(width, k - c)):
                put(panel, j * width + i, get(at(w, (c + i) * n + j), 0))
        for r in range(0, m, ROWS):
            rows = min(ROWS, m - r)
            plain_tile(at(dz, r * n), n, rows, 1, panel, width, k - c, n, True, tile)
            store_tile(tile, rows, k - c, at(dx, r * k + c), k)
    keep_alive(scratch)


@inlined
def _local_gradient(y, dy, activation, count, dz):
    for i in range(0, count, lanes(y)):
        left = count - i
        slope = slope_vector(activation, load_first(y, i, left))
        store_first(dz, i, load_first(dy, i, left) * slope, left)


@inlined
def _column_sums(dz, rows, step, columns, db):
    total = load_first(dz, 0, 0)
    for first in range(0, rows, SUM_BLOCK):
        part = load_first(dz, 0, 0)
        for r in range(first, min(rows, first + SUM_BLOCK)):
            part = part + load_first(dz, r * step, columns)
        total = total + part
    store_first(db, 0, total, columns)
