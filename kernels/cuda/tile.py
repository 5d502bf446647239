"""One block's tile of a matrix product, C (rows, columns) = A (rows, depth) B (depth, columns), summed in float32 or
float64 on the ordinary cores.

    multiply(a, a_at, a_row, a_step, ones, rows, b, b_at, b_step, b_column, columns, depth, shared)
        A(i, p) = a[a_at + i a_row + p a_step], except that A(ones, p) = 1: the row of dW that is db
        B(p, j) = b[b_at + p b_step + j b_column]; rows and columns: how many there are from the tile's corner on
        shared[i * tile.columns + j] = C(i, j), for every thread to read
The order of the sums is that of p: the same bits in every run.

Two sizes: 32 × 32, of which a batch of 256 rows has enough for the processors of a large GPU, and 64 × 64, which reads
shared memory less often. Not measured yet: no GPU was at hand.
"""
import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .shims import cuda, device

# An index that is not negative: Numba does not compile the question whether it counts from the end.
place = np.uint64

DEPTH = 16                       # of A and B in shared memory
ALIGNMENT = 16                   # bytes: a thread reads four neighbours at once
SIZES = {"small": (32, 32, 4, 2), "large": (64, 64, 4, 4)}


@dataclass(frozen=True, eq=False)
class Tile:
    """What `dense` builds its kernels from."""

    name: str
    rows: int                    # what a block computes
    columns: int
    threads: int                 # of a block, one-dimensional
    shared: int                  # elements of shared memory that the kernel provides, aligned to ALIGNMENT
    multiply: Callable


@functools.cache
def define(dtype, size):
    rows_, columns_, per_row, per_column = SIZES[size] if isinstance(size, str) else size
    across = columns_ // per_column                      # threads along a row
    threads = rows_ // per_row * across
    stride_a, stride_b = rows_ + 4, columns_ + 4         # whole vectors of four, and other banks for other rows
    shared_b = DEPTH * stride_a                          # where B begins in shared memory
    zero, one = dtype(0), dtype(1)

    @device
    def load_a(a, a_at, a_row, a_step, ones, rows, p, depth, shared):
        """DEPTH columns of A from p on; threads run along whichever index is contiguous in memory."""
        for e in range(cuda.threadIdx.x, rows_ * DEPTH, threads):
            if a_step == 1:
                i, q = e // DEPTH, e % DEPTH
            else:
                i, q = e % rows_, e // rows_
            value = zero
            if i < rows and p + q < depth:
                value = one if i == ones else a[place(a_at + i * a_row + (p + q) * a_step)]
            shared[place(q * stride_a + i)] = value

    @device
    def load_b(b, b_at, b_step, b_column, columns, p, depth, shared):
        for e in range(cuda.threadIdx.x, columns_ * DEPTH, threads):
            if b_step == 1:
                j, q = e // DEPTH, e % DEPTH
            else:
                j, q = e % columns_, e // columns_
            value = zero
            if j < columns and p + q < depth:
                value = b[place(b_at + (p + q) * b_step + j * b_column)]
            shared[place(shared_b + q * stride_b + j)] = value

    @device
    def multiply(a, a_at, a_row, a_step, ones, rows, b, b_at, b_step, b_column, columns, depth, shared):
        acc = cuda.local.array((per_row, per_column), dtype)
        i0, j0 = cuda.threadIdx.x // across * per_row, cuda.threadIdx.x % across * per_column
        a0, b0 = place(i0), place(shared_b + j0)
        for i in range(per_row):
            for j in range(per_column):
                acc[i, j] = zero
        for p in range(0, depth, DEPTH):
            load_a(a, a_at, a_row, a_step, ones, rows, p, depth, shared)
            load_b(b, b_at, b_step, b_column, columns, p, depth, shared)
            cuda.syncthreads()
            for q in range(DEPTH):
                for i in range(per_row):
                    for j in range(per_column):
                        acc[i, j] += (shared[a0 + place(q * stride_a + i)] * shared[b0 + place(q * stride_b + j)])
            cuda.syncthreads()
        for i in range(per_row):
            for j in range(per_column):
                shared[place((i0 + i) * columns_ + j0 + j)] = acc[i, j]
        cuda.syncthreads()

    return Tile(size if isinstance(size, str) else "x".join(map(str, size)), rows_, columns_, threads,
                max(DEPTH * (stride_a + stride_b), rows_ * columns_), multiply)
