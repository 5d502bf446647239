"""Where everything lies: one table of offsets per net, and the way between row-major and panels.

Row l of the table describes layer l (columns N_IN ... DZ). Weights are kept as panels (`gemm`), and a second
time transposed for every layer but the first, because dZ Wᵀ reads W by columns. Activations
h₀ = x, h₁, ..., h_L and gradients dz₁ ... dz_L are panel matrices of `rows` rows, a multiple of ROWS, so no
tile of theirs needs an edge. What lies in a panel past the last column never mixes with real columns.
"""
from typing import NamedTuple

import numpy as np

from ..jit import loop_entry
from ..vector.panels import panel_width, python_panel_width, round_up
from ..vector.pointers import at, get, lanes, load, load_first, put, store, store_first
from ..vector.simd import ROWS

N_IN, N_OUT, ACTIVATION, W, WT, B, X, Y, DZ, FLAT = range(10)


class Sizes(NamedTuple):
    """Elements that each buffer of a net needs."""

    weights: int
    transposed: int
    biases: int
    activations: int
    gradients: int


def padded_rows(rows, dtype):
    """`rows` in whole tiles and whole panels."""
    return round_up(rows, max(ROWS, python_panel_width(dtype)))


def buffer_rows(rows, dtype):
    """Rows that the buffers of `rows` rows hold: an odd number of tiles, so that one row's panels do not all lie a
    multiple of 4 KiB apart, which is in the same few lines of the first-level cache."""
    tiles = padded_rows(rows, dtype) // ROWS
    return (tiles + 1 - tiles % 2) * ROWS


def plan(sizes, activations, rows, dtype):
    """The table (layers, 10) int64 of a net whose buffers hold `rows` rows, and the buffers' sizes."""
    width = python_panel_width(dtype)
    rows = buffer_rows(rows, dtype)
    table = np.zeros((len(sizes) - 1, 10), np.int64)
    w = wt = b = dz = flat = 0
    x = 0
    for layer, (n_in, n_out, activation) in enumerate(zip(sizes[:-1], sizes[1:], activations, strict=True)):
        padded_in, padded_out = round_up(n_in, width), round_up(n_out, width)
        y = x + rows * padded_in
        table[layer] = n_in, n_out, activation, w, wt, b, x, y, dz, flat
        w += n_in * padded_out
        wt += padded_in * n_out if layer > 0 else 0
        b += padded_out
        dz += rows * padded_out
        flat += (n_in + 1) * n_out
        x = y
    return table, Sizes(w, wt, b, x + rows * round_up(sizes[-1], width), dz)


def cache_aligned(count, dtype):
    """Zeros whose first element starts a cache line."""
    itemsize = np.dtype(dtype).itemsize
    raw = np.zeros(count * itemsize + 64, np.uint8)
    start = -raw.__array_interface__["data"][0] % 64
    return raw[start:start + count * itemsize].view(dtype)


def aligned_rows(rows, columns, dtype):
    """Zeros (rows, at least columns) whose rows all start cache lines."""
    columns = round_up(columns, 64 // np.dtype(dtype).itemsize)
    return cache_aligned(rows * columns, dtype).reshape(rows, columns)


@loop_entry
def to_panels(flat, table, w, wt, b):
    """Weights and biases (or an optimizer's slots) from the model's flat layout into panels."""
    width = panel_width(at(w, 0))
    for layer in range(table.shape[0]):
        n_in, n_out = table[layer, N_IN], table[layer, N_OUT]
        source, pw, pb = at(flat, table[layer, FLAT]), at(w, table[layer, W]), at(b, table[layer, B])
        for r in range(n_in):
            for c in range(0, n_out, width):
                for v in range(0, width, lanes(pw)):
                    store(pw, c * n_in + r * width + v, load_first(source, r * n_out + c + v, n_out - c - v))
        if layer > 0 and wt.size > 0:
            pt = at(wt, table[layer, WT])
            for r in range(n_in):
                offset = (r // width) * n_out * width + r % width
                for c in range(n_out):
                    put(pt, offset + c * width, get(source, r * n_out + c))
        for c in range(n_out):
            put(pb, c, get(source, n_in * n_out + c))


@loop_entry
def from_panels(flat, table, w, b):
    """The way back."""
    width = panel_width(at(w, 0))
    for layer in range(table.shape[0]):
        n_in, n_out = table[layer, N_IN], table[layer, N_OUT]
        target, pw, pb = at(flat, table[layer, FLAT]), at(w, table[layer, W]), at(b, table[layer, B])
        for r in range(n_in):
            for c in range(0, n_out, width):
                for v in range(0, width, lanes(pw)):
                    store_first(target, r * n_out + c + v, load(pw, c * n_in + r * width + v), n_out - c - v)
        for c in range(n_out):
            put(target, n_in * n_out + c, get(pb, c))
