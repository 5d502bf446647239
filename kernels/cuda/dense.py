"""The dense layer's kernels: forward, gradient of the input, and gradient of the weights with the optimizer on it.

    forward           y = dropout(f(x W + b)), and f' (times what dropout does) into `slopes`
    input_gradient    dx = dz Wᵀ, times what was in `dx` if that is slopes
    weight_gradient   dW = xᵀ dz, db = Σ_rows dz
    split_gradient    the same for each piece of so many rows, from x_at and dz_at on: out (pieces, k + 1, n); tiles:
                      blocks of a piece
    weight_update     the same for every layer in one launch, followed by the optimizer on each tile while it is in
                      registers: no gradient goes to memory
    local_gradient    dz = dy ⊙ f'(z)

Matrices lie row-major in flat arrays, each from its `_at` on; m, the rows, stands in `control`. The bias lies behind
its weights like one more row of W, whose input is 1. A block computes a tile of the result; blocks are numbered in one
dimension, as there may be 65,535 in the others, which are 2 million rows in tiles of 32. They go along the columns
first: those at work at one time share few rows of x, and all of W where it is small.

Reference twin: `kernels.reference.dense`.
"""
import functools
from types import SimpleNamespace

import numpy as np

from . import optimizer
from . import tile as plain_tile
from .control import ROWS, STEP
from .philox import dropped
from .scalars import functions
from .shims import cuda, device
from .tile import ALIGNMENT

ELEMENTWISE = 256                # threads of a block that treats one element a thread
# A layer's row in the table of `weight_update`.
FIRST_BLOCK, W_AT, X_AT, DZ_AT, N_IN, N_OUT = range(6)


@functools.cache
def kernels(dtype, tile):
    """The kernels for one dtype and one way to compute a tile (`tile.define`, `tensor_core.define`)."""
    tile_rows, tile_columns, threads, elements = tile.rows, tile.columns, tile.threads, tile.shared
    multiply, size = tile.multiply, tile_rows * tile_columns
    with_slope, rules = functions(dtype).with_slope, optimizer.define(dtype)
    in_registers, move = rules.in_registers, rules.move

    @device
    def corner(block, columns):
        """The first row and column of tile number `block` of a matrix with so many columns. Divided in 32 bits, which
        take 112 instructions less than 64."""
        across = np.uint32((columns + tile_columns - 1) // tile_columns)
        return np.int64(np.uint32(block) // across) * tile_rows, np.int64(np.uint32(block) % across) * tile_columns

    @cuda.jit(launch_bounds=threads)
    def forward(x, x_at, w, w_at, b, b_at, control, k, n, activation, y, y_at, slopes, slopes_at, training, factor,
                threshold, seed, layer):
        shared = cuda.shared.array(elements, dtype, alignment=ALIGNMENT)
        m, t = control[ROWS], cuda.threadIdx.x
        r0, c0 = corner(cuda.blockIdx.x, n)
        if r0 >= m:
            return
        multiply(x, x_at + r0 * k, k, 1, -1, m - r0, w, w_at + c0, n, 1, n - c0, k, shared)
        for e in range(t, size, threads):
            r, c = r0 + e // tile_columns, c0 + e % tile_columns
            if r < m and c < n:
                value, slope = with_slope(activation, shared[e] + b[b_at + c])
                if training != 0:
                    value, slope = dropped(value, slope, factor, threshold, r, c, layer, control[STEP], seed)
                    slopes[slopes_at + r * n + c] = slope
                y[y_at + r * n + c] = value

    @cuda.jit(launch_bounds=threads)
    def input_gradient(dz, dz_at, w, w_at, control, k, n, times_slope, dx, dx_at):
        shared = cuda.shared.array(elements, dtype, alignment=ALIGNMENT)
        m, t = control[ROWS], cuda.threadIdx.x
        r0, c0 = corner(cuda.blockIdx.x, k)
        if r0 >= m:
            return
        multiply(dz, dz_at + r0 * n, n, 1, -1, m - r0, w, w_at + c0 * n, 1, n, k - c0, n, shared)
        for e in range(t, size, threads):
            r, c = r0 + e // tile_columns, c0 + e % tile_columns
            if r < m and c < k:
                here = dx_at + r * k + c
                dx[here] = shared[e] * dx[here] if times_slope != 0 else shared[e]

    @cuda.jit(launch_bounds=threads)
    def weight_gradient(x, dz, control, k, n, dw, db):
        shared = cuda.shared.array(elements, dtype, alignment=ALIGNMENT)
        t = cuda.threadIdx.x
        r0, c0 = corner(cuda.blockIdx.x, n)
        multiply(x, r0, 1, k, k - r0, k + 1 - r0, dz, c0, n, 1, n - c0, control[ROWS], shared)
        for e in range(t, size, threads):
            r, c = r0 + e // tile_columns, c0 + e % tile_columns
            if r < k and c < n:
                dw[r * n + c] = shared[e]
            elif r == k and c < n:
                db[c] = shared[e]

    @cuda.jit(launch_bounds=threads)
    def split_gradient(x, x_at, dz, dz_at, control, k, n, tiles, piece_rows, out):
        shared = cuda.shared.array(elements, dtype, alignment=ALIGNMENT)
        t, piece = cuda.threadIdx.x, cuda.blockIdx.x // tiles
        first = piece * piece_rows
        r0, c0 = corner(cuda.blockIdx.x - piece * tiles, n)
        multiply(x, x_at + first * k + r0, 1, k, k - r0, k + 1 - r0, dz, dz_at + first * n + c0, n, 1, n - c0,
                 min(piece_rows, control[ROWS] - first), shared)
        for e in range(t, size, threads):
            r, c = r0 + e // tile_columns, c0 + e % tile_columns
            if r <= k and c < n:
                out[(piece * (k + 1) + r) * n + c] = shared[e]

    @cuda.jit(launch_bounds=threads)
    def weight_update(h, dz, table, layers, control, constants, rule, w, s1, s2):
        shared = cuda.shared.array(elements, dtype, alignment=ALIGNMENT)
        m, t = control[ROWS], cuda.threadIdx.x
        if m == 0:
            return
        entry = 0
        while entry + 1 < layers and cuda.blockIdx.x >= table[entry + 1, FIRST_BLOCK]:
            entry += 1
        k, n = table[entry, N_IN], table[entry, N_OUT]
        r0, c0 = corner(cuda.blockIdx.x - table[entry, FIRST_BLOCK], n)
        multiply(h, table[entry, X_AT] + r0, 1, k, k - r0, k + 1 - r0, dz, table[entry, DZ_AT] + c0, n, 1, n - c0, m,
                 shared)
        step = in_registers(constants)
        for e in range(t, size, threads):
            r, c = r0 + e // tile_columns, c0 + e % tile_columns
            if r <= k and c < n:
                here = table[entry, W_AT] + r * n + c
                move(rule, step, shared[e], r < k, w, here, s1, s2, here)

    return SimpleNamespace(forward=forward, input_gradient=input_gradient, weight_gradient=weight_gradient,
                           split_gradient=split_gradient, weight_update=weight_update)


@functools.cache
def local_gradient(dtype):
    slope = functions(dtype).slope

    @cuda.jit
    def local_gradient(y, dy, activation, count, dz):
        i = cuda.blockIdx.x * ELEMENTWISE + cuda.threadIdx.x
        if i < count:
            dz[i] = dy[i] * slope(activation, y[i])

    return local_gradient


def choose_tile(dtype, rows, columns):
    """The larger tile where there are enough of it to occupy a large GPU twice over; never in float64, whose
    accumulators would not fit into the registers."""
    large = plain_tile.define(dtype, "large")
    return large if dtype is np.float32 and large.count(rows, columns) >= 2 * 132 else plain_tile.define(dtype, "small")
