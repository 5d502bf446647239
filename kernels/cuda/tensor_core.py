"""One block's tile of a matrix product on the tensor cores, in TF32 or bfloat16, summed in float32.

Operands stay float32 in memory and are rounded on their way into the instruction: TF32 keeps 10 bits of the mantissa,
bfloat16 7. The interface is that of `tile`; four warps share a tile as 2 × 2 and compute 16 × 8 pieces of it by
mma.sync. A and B come by asynchronous copies of 4 bytes, which serve any strides and alignment and fill with zeros past
the edge, into two buffers in turn: one is filled while the other is used.

Relative error of a product of normal numbers against float64, in the simulator: 3e-4 in TF32, 2.4e-3 in bfloat16.
Speed has not been measured: no GPU was at hand.
"""
import functools

import numpy as np

from .control import index
from .ptx import (
    cp_async,
    cp_async_commit,
    cp_async_wait_all,
    cp_async_wait_older,
    mma_bf16,
    mma_tf32,
    pack_bf16,
    to_tf32,
)
from .shims import cuda, device
from .tile import Tile

DEPTH = 16                       # of A and B in one buffer
STRIDE = DEPTH + 4               # the 32 lanes of a fragment lie in 32 different banks
THREADS = 128
# Pieces of 16 rows and of 8 columns for each warp.
SIZES = {"small": (1, 2), "large": (2, 4)}
PRECISIONS = ("tf32", "bf16")


@functools.cache
def define(precision, size):
    down, across = SIZES[size]
    rows_, columns_ = 2 * 16 * down, 2 * 8 * across
    shared_b, buffer = rows_ * STRIDE, (rows_ + columns_) * STRIDE
    zero, one = np.float32(0), np.float32(1)
    four, none = np.int32(4), np.int32(0)

    @device
    def fetch(a, a_at, a_row, a_step, ones, rows, b, b_at, b_step, b_column, columns, p, depth, shared, at):
        """DEPTH columns of A and rows of B from p on, as [row or column][depth]; lanes along the contiguous index."""
        for e in range(cuda.threadIdx.x, rows_ * DEPTH, THREADS):
            if a_step == 1:
                i, q = e // DEPTH, e % DEPTH
            else:
                i, q = e % rows_, e // rows_
            to = index(at + i * STRIDE + q)
            if i == ones:
                shared[to] = one if p + q < depth else zero
            elif i < rows and p + q < depth:
                cp_async(shared, to, a, index(a_at + i * a_row + (p + q) * a_step), four)
            else:
                cp_async(shared, to, a, index(0), none)
        for e in range(cuda.threadIdx.x, columns_ * DEPTH, THREADS):
            if b_step == 1:
                j, q = e // DEPTH, e % DEPTH
            else:
                j, q = e % columns_, e // columns_
            to = index(at + shared_b + j * STRIDE + q)
            if j < columns and p + q < depth:
                cp_async(shared, to, b, index(b_at + (p + q) * b_step + j * b_column), four)
            else:
                cp_async(shared, to, b, index(0), none)
        cp_async_commit()

    @device
    def add_tf32(shared, a0, b0, acc):
        """acc += A B over one buffer; a0 and b0: this lane's index in the warp's part of A and B."""
        for k in range(0, DEPTH, 8):
            for i in range(down):
                at = a0 + index(i * 16 * STRIDE + k)
                x0, x1 = to_tf32(shared[at]), to_tf32(shared[at + index(8 * STRIDE)])
                x2, x3 = to_tf32(shared[at + index(4)]), to_tf32(shared[at + index(8 * STRIDE + 4)])
                for j in range(across):
                    bt = b0 + index(j * 8 * STRIDE + k)
                    d = mma_tf32(x0, x1, x2, x3, to_tf32(shared[bt]), to_tf32(shared[bt + index(4)]),
                                 acc[i, j, 0], acc[i, j, 1], acc[i, j, 2], acc[i, j, 3])
                    acc[i, j, 0] = d[0]
                    acc[i, j, 1] = d[1]
                    acc[i, j, 2] = d[2]
                    acc[i, j, 3] = d[3]

    @device
    def pair(shared, at):
        return pack_bf16(shared[at], shared[at + index(1)])

    @device
    def add_bf16(shared, a0, b0, acc):
        for i in range(down):
            at = a0 + index(i * 16 * STRIDE)
            x0, x1 = pair(shared, at), pair(shared, at + index(8 * STRIDE))
            x2, x3 = pair(shared, at + index(8)), pair(shared, at + index(8 * STRIDE + 8))
            for j in range(across):
                bt = b0 + index(j * 8 * STRIDE)
                d = mma_bf16(x0, x1, x2, x3, pair(shared, bt), pair(shared, bt + index(8)),
                             acc[i, j, 0], acc[i, j, 1], acc[i, j, 2], acc[i, j, 3])
                acc[i, j, 0] = d[0]
                acc[i, j, 1] = d[1]
                acc[i, j, 2] = d[2]
                acc[i, j, 3] = d[3]

    add, lane_step = (add_tf32, 1) if precision == "tf32" else (add_bf16, 2)

    @device
    def multiply(a, a_at, a_row, a_step, ones, rows, b, b_at, b_step, b_column, columns, depth, shared):
        acc = cuda.local.array((down, across, 4), np.float32)
        warp, lane = cuda.threadIdx.x >> 5, cuda.threadIdx.x & 31
        group, quad = lane >> 2, lane & 3
        i0, j0 = (warp >> 1) * 16 * down, (warp & 1) * 8 * across
        a0, b0 = (i0 + group) * STRIDE + quad * lane_step, shared_b + (j0 + group) * STRIDE + quad * lane_step
        for i in range(down):
            for j in range(across):
                for r in range(4):
                    acc[i, j, r] = zero
        if depth > 0:                                       # else nobody would wait for it
            fetch(a, a_at, a_row, a_step, ones, rows, b, b_at, b_step, b_column, columns, 0, depth, shared, 0)
        at = 0
        for p in range(0, depth, DEPTH):
            if p + DEPTH < depth:
                fetch(a, a_at, a_row, a_step, ones, rows, b, b_at, b_step, b_column, columns, p + DEPTH, depth, shared,
                      buffer - at)
                cp_async_wait_older()
            else:
                cp_async_wait_all()
            cuda.syncthreads()
            add(shared, index(at + a0), index(at + b0), acc)
            cuda.syncthreads()
            at = buffer - at
        for i in range(down):
            for j in range(across):
                for r in range(4):
                    row, column = i0 + i * 16 + group + (r >> 1) * 8, j0 + j * 8 + quad * 2 + (r & 1)
                    shared[index(row * columns_ + column)] = acc[i, j, r]
        cuda.syncthreads()

    return Tile(f"{size}_{precision}", rows_, columns_, THREADS, max(2 * buffer, rows_ * columns_), multiply)


def choose_tile(precision, rows, columns):
    """As `dense.choose_tile`."""
    large = define(precision, "large")
    return large if large.count(rows, columns) >= 2 * 132 else define(precision, "small")
