"""Large products are cuBLAS's (`cublas`); what `dense` fuses onto a product are kernels of their own here.

    finish_forward   y = dropout(f(z + b)) in place of z = x W, and f' (times what dropout does) into `slopes`
    times_slopes     dz = product ⊙ dz, where dz was slopes
    clear_rows       0 into all rows from ROWS on
    column_sums      db = Σ_rows dz: 32 columns a block, 32 groups of rows, added up in their order
    update           the optimizer on a layer's gradient, the sum of `pieces` of it in their order

Which products: those of FLOPS or more, no side below SIDE. By arithmetic for an H100, not measured: our tile reads
shared memory for every 2 to 4 multiply-adds, so it may reach about 25 TFLOP/s in float32 where cuBLAS reaches about 45
of the 67; a FLOP handed over saves some 1.8e-14 s, a product of 1e9 some 18 µs of 40. It costs a launch more, about
2 µs, and 8 bytes for each number of the result, written and read once more: 3 µs for 1000 × 1000 numbers at 3.3 TB/s,
less from the L2 cache. The two are equal near 1.5e8; 1e9 leaves room for cuBLAS's own start on few tiles. On tensor
cores cuBLAS gains more. Below 64 deep, the numbers written and read again outweigh the product (1.8e-14 · 2 · depth
against 8 / 3.3e12); results of few columns give cuBLAS's tiles too little to do.

cuBLAS is told the number of rows by the host, which during an epoch does not know it. It always multiplies a whole
batch. Rows of an output depend on no other rows, so what stands in the rows past ROWS does not matter, but for
dW = xᵀ dz, before which `clear_rows` puts zeros there: they add exactly 0. A short last batch costs as much as a whole
one, and so does a step past the end of an epoch, which then changes nothing: fewer of them than graphs are replayed.

Gradients of few tiles are split along the batch (`pieces_of`), by arithmetic as well. A block alone on its
multiprocessor waits for memory in every 32 rows, some 700 cycles or 0.4 µs: 0.4 µs in a batch of 32, 3 in 256, 48 in
4096. dW of lab 1 has 25 + 1 tiles of 32 × 32 for 132 multiprocessors, the last layers of labs 2 and 4 have 16 and 10;
their first layers have 400, and in batches of 4096 they are cuBLAS's. In 4096 rows, 5 pieces of 25 tiles take 10 µs of
the 48 and 2 for the launch more. In 256 rows the launch costs what it saves: what is left there is narrower tiles, as a
tile of 32 columns computes 3.2 times what 10 outputs need. To be measured first.
"""
import functools
from types import SimpleNamespace
from typing import NamedTuple

from . import optimizer
from .control import ROWS, STEP, index
from .losses import ends_block
from .philox import dropped
from .scalars import functions
from .shims import cuda

FLOPS, SIDE = 1e9, 64
THREADS = 256
PROCESSORS, PIECE = 132, 512     # multiprocessors of an H100; rows of a piece at least
CLEARING = 128                   # blocks of clear_rows, which mostly finds nothing to do
COLUMNS, SUMMING = 32, 1024      # columns and threads of a block of column_sums
GROUPS = SUMMING // COLUMNS      # of rows: 32, as `losses.ends_block` has it


class Product(NamedTuple):
    """C (rows, columns) = A (rows, depth) B (depth, columns), row-major in flat arrays, each from its `_at` on.

    A transposed operand lies there as its transpose, (depth, rows) or (columns, depth).
    """

    a: object
    a_at: int
    a_transposed: bool
    b: object
    b_at: int
    b_transposed: bool
    c: object
    c_at: int
    rows: int
    depth: int
    columns: int
    precision: str = "float32"


def handed_over(rows, depth, columns):
    """Whether a product of these sizes is cuBLAS's."""
    return min(rows, depth, columns) >= SIDE and 2.0 * rows * depth * columns >= FLOPS


def pieces_of(rows, tiles):
    """Into how many pieces of its rows a gradient of so many tiles is split."""
    return max(1, min(rows // PIECE, PROCESSORS // tiles))


@functools.cache
def kernels(dtype):
    with_slope, rules = functions(dtype).with_slope, optimizer.define(dtype)
    in_registers, move = rules.in_registers, rules.move
    zero = dtype(0)

    @cuda.jit
    def finish_forward(b, b_at, control, n, activation, y, y_at, slopes, slopes_at, training, factor, threshold, seed,
                       layer):
        i = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
        r = i // n
        if r < control[ROWS]:
            c = i - r * n
            value, slope = with_slope(activation, y[y_at + i] + b[b_at + c])
            if training != 0:
                value, slope = dropped(value, slope, factor, threshold, r, c, layer, control[STEP], seed)
                slopes[slopes_at + i] = slope
            y[y_at + i] = value

    @cuda.jit
    def times_slopes(product, control, n, dz, dz_at):
        i = cuda.blockIdx.x * THREADS + cuda.threadIdx.x
        if i < control[ROWS] * n:
            dz[dz_at + i] = product[i] * dz[dz_at + i]

    @cuda.jit
    def clear_rows(out, out_at, n, count, control):
        first = control[ROWS] * n + cuda.blockIdx.x * THREADS + cuda.threadIdx.x
        for i in range(first, count, CLEARING * THREADS):
            out[out_at + i] = zero

    @cuda.jit(launch_bounds=SUMMING)
    def column_sums(dz, dz_at, control, n, out, out_at):
        shared = cuda.shared.array(SUMMING, dtype)
        t = cuda.threadIdx.x
        c = cuda.blockIdx.x * COLUMNS + t % COLUMNS
        total = zero
        if c < n:
            part = zero
            for r in range(t // COLUMNS, control[ROWS], GROUPS):
                part += dz[index(dz_at + r * n + c)]
                if ends_block(r):
                    total, part = total + part, zero
            total += part
        shared[t] = total
        cuda.syncthreads()
        if t < COLUMNS and c < n:
            for group in range(1, GROUPS):
                total += shared[group * COLUMNS + t]
            out[out_at + c] = total

    @cuda.jit
    def update(gradient, pieces, k, n, control, constants, rule, w, w_at, s1, s2):
        i, count = cuda.blockIdx.x * THREADS + cuda.threadIdx.x, (k + 1) * n
        if control[ROWS] > 0 and i < count:
            total = gradient[i]
            for piece in range(1, pieces):
                total += gradient[piece * count + i]
            move(rule, in_registers(constants), total, i < k * n, w, w_at + i, s1, s2, w_at + i)

    return SimpleNamespace(finish_forward=finish_forward, times_slopes=times_slopes, clear_rows=clear_rows,
                           column_sums=column_sums, update=update)
