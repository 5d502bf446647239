"""A first layer whose input is mostly zeros: lists for tiles that step over what is zero throughout.

While rows are gathered, a bit is kept for each number that is not zero (`network.gather_row`). From these come lists:
for ROWS neighbouring rows, the in-features that any of them has (X W); for two quads of in-features, the rows that
have any of them (Xᵀ dZ). Of MNIST's steps, 0.47 and 0.32 are left (0.39 if quads went with their neighbours: `zeros`).
Tiles of 4 rows and two panels would leave less, but read twice as much of B for as many products: measured, no faster.
"""
from ..jit import inlined, outlined
from ..vector.pointers import at, copy_quad, get, lanes, load, put, reinterpret, step, store
from ..vector.simd import QUAD, ROWS, VECTOR_BYTES, compress, count_bits, mask_bits, mask_of_bits, ramp

LIST_SLACK = VECTOR_BYTES // 4           # lists of int32 are written by whole vectors


def room_for_lists(n_in, batch, block, width):
    """int32 numbers that a thread's lists take, those of a block or those of a panel of in-features."""
    return max(block // ROWS * (2 * (n_in + LIST_SLACK) + 1), width // ROWS * (batch + 1)) + LIST_SLACK


@outlined
def list_inputs(nonzero, rows, n, width, index):
    """In-features that any of ROWS neighbouring rows has: how many, their positions in x, and, n + LIST_SLACK further,
    in w."""
    count = 0
    for q in range((n + width - 1) // width):
        marks = 0
        for r in range(ROWS):
            marks |= get(nonzero, q * rows + r)
        for v in range(0, width, lanes(index)):
            here = (marks >> v) & ((1 << lanes(index)) - 1)
            i = compress(ramp(v, index), mask_of_bits(here, index))
            store(index, 1 + count, i + q * rows * width)
            store(index, 1 + n + LIST_SLACK + count, (i + q * width) * width)
            count += count_bits(here)
    put(index, 0, count)


@outlined
def list_rows(nonzero, m, one, other, width, index):
    """Rows that have any of the in-features of two quads: their positions in a panel; after m numbers, how many."""
    capacity = nonzero.shape[1]
    first, second = at(nonzero, one * QUAD // width * capacity), at(nonzero, other * QUAD // width * capacity)
    marks_1, marks_2 = _quad_bits(one, width), _quad_bits(other, width)
    count, complete = 0, m - m % lanes(index)
    for r in range(0, complete, lanes(index)):
        here = (load(reinterpret(first, index), r) & marks_1 | load(reinterpret(second, index), r) & marks_2) != 0
        store(index, count, compress(ramp(r, index) * width, here))
        count += count_bits(mask_bits(here))
    for r in range(complete, m):
        put(index, count, r * width)             # writing first and counting after needs no branch
        count += 1 if (get(first, r) & marks_1) | (get(second, r) & marks_2) != 0 else 0
    put(index, m, count)


@inlined
def _quad_bits(quad, width):
    return ((1 << QUAD) - 1) << (quad * QUAD % width)


@outlined
def pack_rows(h, capacity, one, other, width, index, count, packed):
    """The listed rows of two quads of in-features, side by side: what a tile reads of them."""
    first, second = quad_offset(one, capacity, width), quad_offset(other, capacity, width)
    for t in range(count):
        copy_quad(h, first + get(index, t), packed, t * ROWS)
        copy_quad(h, second + get(index, t), packed, t * ROWS + QUAD)


@inlined
def quad_offset(quad, rows, width):
    """Where a quad of in-features begins in panels of so many rows."""
    return quad * QUAD // width * rows * width + quad * QUAD % width


@inlined
def inputs_length(n_in):
    return 2 * (n_in + LIST_SLACK) + 1


@inlined
def list_of(work, thread, number, length):
    """A thread's list of that number, all so long."""
    return step(at(work.index, thread * work.index.shape[1]), number * length)
