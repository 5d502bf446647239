"""One block's tile of a matrix product, C (rows, columns) = A (rows, depth) B (depth, columns), summed in float32 or
float64 on the ordinary cores.

    multiply(a, a_at, a_row, a_step, ones, rows, b, b_at, b_step, b_column, columns, depth, shared)
        A(i, p) = a[a_at + i a_row + p a_step], except that A(ones, p) = 1: the row of dW that is db
        B(p, j) = b[b_at + p b_step + j b_column]; rows and columns: how many there are from the tile's corner on
        shared[i * tile.columns + j] = C(i, j), for every thread to read
The order of the sums is that of p: the same bits in every run.

While one part of the depth is multiplied from shared memory, the next is on its way into registers.

Two sizes: 32 × 32, of which a batch of 256 rows has enough for the processors of a large GPU, and 64 × 64, which reads
shared memory less often. Not measured yet: no GPU was at hand.
"""
import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .control import index
from .shims import cuda, device

ALIGNMENT = 16                   # bytes: a thread reads four neighbours at once
# Rows, columns, and of these a thread's; how deep A and B lie in shared memory. Twice the depth halves the waiting
# between parts, but what is on its way takes registers: the large tile and float64 have none to spare.
SIZES = {"small": (32, 32, 4, 2, 32), "large": (64, 64, 4, 4, 16)}
DOUBLE_DEPTH = 16


@dataclass(frozen=True, eq=False)
class Tile:
    """What `dense` builds its kernels from."""

    name: str
    rows: int                    # what a block computes
    columns: int
    threads: int                 # of a block, one-dimensional
    shared: int                  # elements of shared memory that the kernel provides, aligned to ALIGNMENT
    multiply: Callable

    def count(self, rows, columns):
        """How many tiles a matrix of that size has."""
        return -(-rows // self.rows) * -(-columns // self.columns)


@functools.cache
def define(dtype, size):
    rows_, columns_, per_row, per_column, part = SIZES[size] if isinstance(size, str) else size
    part = part if dtype is np.float32 else min(part, DOUBLE_DEPTH)      # of the depth, at a time
    across = columns_ // per_column                      # threads along a row
    threads = rows_ // per_row * across
    stride_a, stride_b = rows_ + 4, columns_ + 4         # whole vectors of four, and other banks for other rows
    shared_b = part * stride_a                          # where B begins in shared memory
    zero, one = dtype(0), dtype(1)

    # A block's share of A is loads_a numbers a thread, of B loads_b.
    loads_a, loads_b = rows_ * part // threads, columns_ * part // threads

    @device
    def position_in_a(s, a_step):
        """(row, step) of this thread's number s; threads run along whichever index is contiguous in memory."""
        e = cuda.threadIdx.x + s * threads
        return (e // part, e % part) if a_step == 1 else (e % rows_, e // rows_)

    @device
    def position_in_b(s, b_step):
        e = cuda.threadIdx.x + s * threads
        return (e // part, e % part) if b_step == 1 else (e % columns_, e // columns_)

    @device
    def fetch(a, a_at, a_row, a_step, ones, rows, b, b_at, b_step, b_column, columns, p, depth, from_a, from_b):
        """The part of A and B from p on, into registers."""
        for s in range(loads_a):
            i, q = position_in_a(s, a_step)
            value = zero
            if i < rows and p + q < depth:
                value = one if i == ones else a[index(a_at + i * a_row + (p + q) * a_step)]
            from_a[s] = value
        for s in range(loads_b):
            j, q = position_in_b(s, b_step)
            value = zero
            if j < columns and p + q < depth:
                value = b[index(b_at + (p + q) * b_step + j * b_column)]
            from_b[s] = value

    @device
    def put(a_step, b_step, from_a, from_b, shared):
        for s in range(loads_a):
            i, q = position_in_a(s, a_step)
            shared[index(q * stride_a + i)] = from_a[s]
        for s in range(loads_b):
            j, q = position_in_b(s, b_step)
            shared[index(shared_b + q * stride_b + j)] = from_b[s]

    @device
    def multiply(a, a_at, a_row, a_step, ones, rows, b, b_at, b_step, b_column, columns, depth, shared):
        acc = cuda.local.array((per_row, per_column), dtype)
        from_a = cuda.local.array(loads_a, dtype)
        from_b = cuda.local.array(loads_b, dtype)
        i0, j0 = cuda.threadIdx.x // across * per_row, cuda.threadIdx.x % across * per_column
        a0, b0 = index(i0), index(shared_b + j0)
        for i in range(per_row):
            for j in range(per_column):
                acc[i, j] = zero
        fetch(a, a_at, a_row, a_step, ones, rows, b, b_at, b_step, b_column, columns, 0, depth, from_a, from_b)
        for p in range(0, depth, part):
            put(a_step, b_step, from_a, from_b, shared)
            cuda.syncthreads()
            if p + part < depth:                            # on their way while this part is multiplied
                fetch(a, a_at, a_row, a_step, ones, rows, b, b_at, b_step, b_column, columns, p + part, depth, from_a,
                      from_b)
            left, a_here, b_here = index(part), a0, b0
            while left > index(0):                          # a range is not unrolled: 3 times the instructions
                for i in range(per_row):
                    for j in range(per_column):
                        acc[i, j] += shared[a_here + index(i)] * shared[b_here + index(j)]
                a_here, b_here, left = a_here + index(stride_a), b_here + index(stride_b), left - index(1)
            cuda.syncthreads()
        for i in range(per_row):
            for j in range(per_column):
                shared[index((i0 + i) * columns_ + j0 + j)] = acc[i, j]
        cuda.syncthreads()

    return Tile(size if isinstance(size, str) else "x".join(map(str, size)), rows_, columns_, threads,
                max(part * (stride_a + stride_b), rows_ * columns_), multiply)
