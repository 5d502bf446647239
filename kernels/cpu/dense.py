"""The dense layer on plain row-major arrays: y = f(x W + b) and its gradients.

The reference twins are in `kernels.reference.dense`. Training uses the same tiles on panels (`network`);
these are the operations for everybody else: callable from Python and from other people's compiled
code, every shape checked, since what follows works on raw memory.
"""
import numpy as np

from .. import activations as codes
from .functions import activate, slope_vector
from .gemm import panel_width, plain_tile
from .jit import entry, inlined
from .simd import ROWS, at, lanes, load, load_first, store, store_first


@inlined
def _store_tile(tile, rows, columns, out, out_step):
    """The first rows and columns of a (ROWS, P) tile into a row-major matrix."""
    width = panel_width(tile)
    for r in range(rows):
        for v in range(0, min(columns, width), lanes(tile)):
            store_first(out, r * out_step + v, load(tile, r * width + v), columns - v)


@entry
def dense_forward(x, w, b, activation, y):
    """y = f(x W + b) in one pass over y.

    Parameters
    ----------
    x : (m, k), w : (k, n), b : (n,), y : (m, n), all float32 or all float64, C-contiguous; y is written.
    activation : int, a code of `kernels.activations` (RELU, ...; SOFTMAX is not a function of one element).

    Raises
    ------
    ValueError : shapes that do not fit together, or an unknown code.

    Notes
    -----
    2 m n k flops; reads x n / P times, W m / ROWS times from cache. Formula: standard.
    """
    m, k = x.shape
    n = w.shape[1]
    if w.shape[0] != k or b.shape[0] != n or y.shape[0] != m or y.shape[1] != n:
        raise ValueError("dense_forward: needs x (m, k), w (k, n), b (n,), y (m, n)")
    if not codes.IDENTITY <= activation <= codes.SIGN:
        raise ValueError("dense_forward: activation must be a code of kernels.activations, identity to sign")
    px, pb = at(x, 0), at(b, 0)
    width = panel_width(px)
    tile, slopes, bias = np.empty(ROWS * width, x.dtype), np.empty(ROWS * width, x.dtype), np.zeros(width, x.dtype)
    for c in range(0, n, width):
        for v in range(0, min(width, n - c), lanes(px)):
            store(at(bias, v), 0, load_first(pb, c + v, n - c - v))
        for r in range(0, m, ROWS):
            rows = min(ROWS, m - r)
            plain_tile(at(x, r * k), k, rows, 1, at(w, c), n, n - c, k, at(tile, 0))
            activate(activation, at(tile, 0), at(bias, 0), rows, n - c, at(tile, 0), at(slopes, 0))
            _store_tile(at(tile, 0), rows, n - c, at(y, r * n + c), n)


@entry
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
    4 m n k flops (2 m n k without dx); allocates Wᵀ in panels and one tile. Formula: standard.
    """
    m, k = x.shape
    n = w.shape[1]
    if w.shape[0] != k or y.shape != (m, n) or dy.shape != (m, n) or dz.shape != (m, n):
        raise ValueError("dense_backward: needs x (m, k), w (k, n) and y, dy, dz (m, n)")
    if dw.shape != (k, n) or db.shape[0] != n or (dx.size > 0 and dx.shape != (m, k)):
        raise ValueError("dense_backward: needs dw (k, n), db (n,), dx (m, k) or empty")
    if not codes.IDENTITY <= activation <= codes.SILU:
        raise ValueError("dense_backward: activation must be a trainable code of kernels.activations")
    width = panel_width(at(x, 0))
    tile = np.empty(ROWS * width, x.dtype)
    _local_gradient(at(y, 0), at(dy, 0), activation, m * n, at(dz, 0))
    for c in range(0, n, lanes(at(x, 0))):
        _column_sums(at(dz, c), m, n, n - c, at(db, c))
    for g in range(0, k, ROWS):
        rows = min(ROWS, k - g)
        for c in range(0, n, width):
            plain_tile(at(x, g), 1, rows, k, at(dz, c), n, n - c, m, at(tile, 0))
            _store_tile(at(tile, 0), rows, n - c, at(dw, g * n + c), n)
    if dx.size > 0:
        transposed = np.zeros(n * width, x.dtype)
        for c in range(0, k, width):
            for i in range(min(width, k - c)):
                for j in range(n):
                    transposed[j * width + i] = w[c + i, j]
            for r in range(0, m, ROWS):
                rows = min(ROWS, m - r)
                plain_tile(at(dz, r * n), n, rows, 1, at(transposed, 0), width, width, n, at(tile, 0))
                _store_tile(at(tile, 0), rows, k - c, at(dx, r * k + c), k)


@inlined
def _local_gradient(y, dy, activation, count, dz):
    for i in range(0, count, lanes(y)):
        left = count - i
        slope = slope_vector(activation, load_first(y, i, left))
        store_first(dz, i, load_first(dy, i, left) * slope, left)


@inlined
def _column_sums(dz, rows, step, columns, db):
    total = load_first(dz, 0, 0)
    for r in range(rows):
        total = total + load_first(dz, r * step, columns)
    store_first(db, 0, total, columns)
