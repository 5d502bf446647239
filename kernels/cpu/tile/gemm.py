"""The GEMM tile: C (ROWS, P) = Σₖ A[:, k] B[k, :], every accumulator in a register.

One tile serves X W, Xᵀ dZ and dZ Wᵀ; only the strides differ. Matrices that training owns are stored in
panels: P = two vectors' worth of columns, all rows of a panel one after the other,

    element (r, c) of an (m, n) matrix  ->  panel (c // P), row r, column (c % P):  (c // P) m P + r P + c % P

so that B is read in whole cache lines with no stride, a tile of C is one contiguous piece, and ROWS
neighbouring columns read as rows of A (Xᵀ dZ) stay within a panel. The plain row-major matrices of the
plug-in operations go through the same tile with masked column edges.

Operands of a tile
    a, row_step     row r of A starts at a + min(r, rows - 1) row_step: rows past the edge repeat the last one
    a_panel, a_step element k of a row lies (k // P) a_panel + (k % P) a_step further on
    b, b_step       row k of B starts at b + k b_step
    columns         how many columns of B are real
    count           k runs over 0 .. count - 1
    prefetch        what will be read next: one cache line of it is asked for every UNROLL steps
    c               the result, (ROWS, P) contiguous
The sparse tile runs over lists instead: a_offsets[t] and b_offsets[t] for t < count, the steps in which A is not
zero throughout. Leaving out x · 0 changes no bits while B is finite. The order of the sum is that of k: it does not
depend on threads or on where a tile's neighbours run. After every SUM_BLOCK steps the sums go to C and begin anew, so
that rounding errors grow with the block and the number of blocks, not with the length: docs/performance.md has figures.

Measured (Ice Lake, 2 x 512-bit FMA, ratios to a register-only FMA loop): what an integer instruction costs
is not nothing, it takes an FMA's port. Steps of 1 or P known to the compiler and four steps of k a turn: 0.75
-> 0.93 of the ceiling in the first-level cache. Weights beyond the second level arrive too late without `prefetch`: X W
of 256 x 784 x 500 0.74 -> 0.81. Fetching B into the first level as well cost more than it brought.
"""
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

from ..jit import outlined
from ..vector.panels import VECTORS, panel_width
from ..vector.pointers import lanes, masked_load
from ..vector.simd import I64, QUAD, ROWS, Vector, splat, vector_ir

UNROLL = 4                               # steps of k a turn; divides every P
# Terms of a sum in one run; a longer sum is one of such blocks. A multiple of UNROLL. Blocks of 1024 make of 10⁶ terms
# two sums of 10³, the least error that two levels can have, and touch C once in a thousand steps.
SUM_BLOCK = 1024


class _Emitter:
    """The LLVM of one tile: ROWS x `vectors` accumulators, for one element type."""

    def __init__(self, builder, dtype, vectors):
        self.builder, self.vectors = builder, vectors
        self.vector = vector_ir(Vector(dtype))
        self.element, self.width, self.size = self.vector.element, self.vector.count, dtype.bitwidth // 8
        self.panel = VECTORS * self.width
        self.fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(self.vector, [self.vector] * 3),
            f"llvm.fma.v{self.width}{'f32' if self.size == 4 else 'f64'}")

    def at(self, pointer, offset):
        return self.builder.gep(pointer, [offset], source_etype=self.element)

    def vector_at(self, pointer, offset):
        return self.builder.bitcast(self.at(pointer, offset), self.vector.as_pointer())

    def rows_of(self, a, row_step, rows):
        """Pointers to the rows of A; past the edge, to the last one."""
        builder, last = self.builder, self.builder.sub(rows, const(1))
        nearest = [builder.select(builder.icmp_signed("<", const(r), rows), const(r), last) for r in range(ROWS)]
        return [self.at(a, builder.mul(r, row_step)) for r in nearest]

    def masks(self, columns):
        ramp = ir.VectorType(I64, self.width)
        return [self.builder.icmp_signed("<", ir.Constant(ramp, list(range(v * self.width, (v + 1) * self.width))),
                                         splat(self.builder, columns, ramp)) for v in range(self.vectors)]

    def zeros(self):
        return [ir.Constant(self.vector, [0.0] * self.width)] * (ROWS * self.vectors)

    def line_at(self, pointer, line):
        """Cache line `line` after the pointer."""
        i8 = ir.IntType(8)
        return self.builder.gep(self.builder.bitcast(pointer, i8.as_pointer()), [self.builder.mul(line, const(64))],
                                source_etype=i8)

    def fetch(self, pointer, line):
        """Asks for cache line `line` after the pointer, into the second level, where a tile's B is read from."""
        i8, i32 = ir.IntType(8), ir.IntType(32)
        where = self.line_at(pointer, line)
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(ir.VoidType(), [i8.as_pointer(), i32, i32, i32]), "llvm.prefetch.p0")
        self.builder.call(function, [where, ir.Constant(i32, 0), ir.Constant(i32, 2), ir.Constant(i32, 1)])

    def place_in_c(self, c, i):
        r, v = divmod(i, self.vectors)
        return self.vector_at(c, const(r * self.panel + v * self.width))

    def store_c(self, c, sums):
        for i, value in enumerate(sums):
            self.builder.store(value, self.place_in_c(c, i), align=self.size)

    def add_to_c(self, c, sums):
        for i, value in enumerate(sums):
            before = self.builder.load(self.place_in_c(c, i), align=self.size, typ=self.vector)
            self.builder.store(self.builder.fadd(before, value), self.place_in_c(c, i), align=self.size)

    def sum_in_blocks(self, count, c, sums_of):
        """C = Σ over 0 .. count - 1 of what sums_of(first, steps) emits for each SUM_BLOCK of it."""
        builder, entry = self.builder, self.builder.block
        block, done = builder.append_basic_block("block"), builder.append_basic_block("blocks_done")
        builder.branch(block)
        builder.position_at_end(block)
        first = builder.phi(I64)
        first.add_incoming(const(0), entry)
        left = builder.sub(count, first)
        sums = sums_of(first, builder.select(builder.icmp_signed("<", left, const(SUM_BLOCK)), left, const(SUM_BLOCK)))
        with builder.if_else(builder.icmp_signed("==", first, const(0)), likely=True) as (at_first, later):
            with at_first:
                self.store_c(c, sums)
            with later:
                self.add_to_c(c, sums)
        end = builder.add(first, const(SUM_BLOCK))
        first.add_incoming(end, builder.block)
        builder.cbranch(builder.icmp_signed("<", end, count), block, done)
        builder.position_at_end(done)

    def step(self, sums, row_at, a_offset, b_row, masks):
        """One k: a row of B against an element of each row of A."""
        builder = self.builder
        bs = []
        for v in range(self.vectors):
            where = self.vector_at(b_row, const(v * self.width))
            bs.append(masked_load(builder, where, masks[v], self.vector, self.size) if masks
                      else builder.load(where, align=self.size, typ=self.vector))
        following = []
        for r in range(ROWS):
            x = splat(builder, builder.load(self.at(row_at[r], a_offset), typ=self.element), self.vector)
            following += [builder.call(self.fma, [x, bs[v], sums[r * self.vectors + v]]) for v in range(self.vectors)]
        return following

    def loop(self, first, limit, stride, sums, body):
        """for t in range(first, limit, stride): sums = body(t, sums)"""
        builder = self.builder
        entry = builder.block
        loop, done = builder.append_basic_block("k"), builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed("<", first, limit), loop, done)
        builder.position_at_end(loop)
        t = builder.phi(I64)
        carried = [builder.phi(self.vector) for _ in sums]
        results = body(t, carried)
        following = builder.add(t, const(stride))
        t.add_incoming(first, entry)
        t.add_incoming(following, builder.block)
        for phi, before, after in zip(carried, sums, results, strict=True):
            phi.add_incoming(before, entry)
            phi.add_incoming(after, builder.block)
        last = builder.block
        builder.cbranch(builder.icmp_signed("<", following, limit), loop, done)
        builder.position_at_end(done)
        out = []
        for before, after in zip(sums, results, strict=True):
            phi = builder.phi(self.vector)
            phi.add_incoming(before, entry)
            phi.add_incoming(after, last)
            out.append(phi)
        return out


def const(value):
    return ir.Constant(I64, value)


def _same_dtype(*pointers):
    if any(pointer.dtype != pointers[0].dtype for pointer in pointers):
        raise TypingError(f"kernels take arrays of one dtype, got {', '.join(str(p.dtype) for p in pointers)}")


def _make_tile(vectors, a_unit, b_panel, masked=False, blocks=True):
    """A dense tile. a_unit: 'one' or 'panel' where a_step is 1 or P, known when compiling; b_panel: b_step is P;
    blocks: whether `count` may be more than SUM_BLOCK."""

    @intrinsic
    def tile(typingctx, a, row_step, rows, a_panel, a_step, b, b_step, columns, count, prefetch, c):
        i = types.intp
        _same_dtype(a, b, c)
        sig = types.void(a, i, i, i, i, b, i, i, i, prefetch, c)

        def codegen(context, builder, sig, args):
            a, row_step, rows, a_panel, a_step, b, b_step, columns, count, prefetch, c = args
            emit = _Emitter(builder, sig.args[0].dtype, vectors)
            a_step = {"one": const(1), "panel": const(emit.panel)}.get(a_unit, a_step)
            b_step = const(emit.panel) if b_panel else b_step
            masks = emit.masks(columns) if masked else None
            shift = emit.panel.bit_length() - 1

            def steps(how_many, row_at, b, prefetch):
                def body(k, sums):
                    position = builder.add(builder.mul(builder.lshr(k, const(shift)), a_panel),
                                        builder.mul(builder.and_(k, const(emit.panel - 1)), a_step))
                    b_row = emit.at(b, builder.mul(k, b_step))
                    if how_many == UNROLL and b_panel:
                        emit.fetch(prefetch, builder.udiv(k, const(UNROLL)))
                    for u in range(how_many):
                        sums = emit.step(sums, row_at, builder.add(position, builder.mul(const(u), a_step)),
                                         emit.at(b_row, builder.mul(const(u), b_step)), masks)
                    return sums

                return body

            def block(first, count):
                here = emit.at(a, builder.mul(builder.lshr(first, const(shift)), a_panel))
                operands = (emit.rows_of(here, row_step, rows), emit.at(b, builder.mul(first, b_step)),
                            emit.line_at(prefetch, builder.udiv(first, const(UNROLL))))
                complete = builder.and_(count, const(-UNROLL))
                sums = emit.loop(const(0), complete, UNROLL, emit.zeros(), steps(UNROLL, *operands))
                return emit.loop(complete, count, 1, sums, steps(1, *operands))

            if blocks:
                emit.sum_in_blocks(count, c, block)
            else:
                emit.store_c(c, block(const(0), count))
            return context.get_dummy_value()

        return sig, codegen

    return tile


def _make_sparse_tile(vectors, reads):
    """A tile that runs over lists. A is read by 'rows': ROWS rows of a panel matrix, the listed elements of each; by
    'quads': QUAD neighbouring columns and QUAD others, the listed rows of both; or 'packed': what a step reads side by
    side, step after step."""

    @intrinsic
    def tile(typingctx, a, other, a_offsets, b, b_offsets, count, prefetch, c):
        i = types.intp
        sig = types.void(a, a, a_offsets, b, b_offsets, i, prefetch, c)

        def codegen(context, builder, sig, args):
            a, other, a_offsets, b, b_offsets, count, prefetch, c = args
            emit = _Emitter(builder, sig.args[0].dtype, vectors)
            if reads == "quads":
                row_at = [emit.at(start, const(r)) for start in (a, other) for r in range(QUAD)]
            else:
                row_at = [emit.at(a, const(r * (emit.panel if reads == "rows" else 1))) for r in range(ROWS)]

            i32 = ir.IntType(32)

            def listed(offsets, t):
                return builder.zext(builder.load(builder.gep(offsets, [t], source_etype=i32), typ=i32), I64)

            def body(t, sums):
                position = builder.mul(t, const(ROWS)) if reads == "packed" else listed(a_offsets, t)
                if reads == "rows":
                    emit.fetch(prefetch, builder.udiv(t, const(2)))
                return emit.step(sums, row_at, position, emit.at(b, listed(b_offsets, t)), None)

            emit.sum_in_blocks(count, c, lambda first, count: emit.loop(
                first, builder.add(first, count), 1, emit.zeros(), body))
            return context.get_dummy_value()

        return sig, codegen

    return tile


_dense_rows_1, _dense_rows_2 = (_make_tile(v, "one", True) for v in (1, 2))
_short_dense_rows, _short_dense_columns = (_make_tile(2, unit, True, blocks=False) for unit in ("one", "panel"))
_dense_columns_1, _dense_columns_2 = (_make_tile(v, "panel", True) for v in (1, 2))
_sparse_rows_1, _sparse_rows_2 = (_make_sparse_tile(v, "rows") for v in (1, 2))
_sparse_quads_1, _sparse_quads_2 = (_make_sparse_tile(v, "quads") for v in (1, 2))
_packed_quads_1, _packed_quads_2 = (_make_sparse_tile(v, "packed") for v in (1, 2))
_packed_panel_1, _packed_panel_2 = (_make_tile(v, None, True) for v in (1, 2))
_row_major_2 = _make_tile(2, None, False)
_row_major_edge_1, _row_major_edge_2 = (_make_tile(v, None, False, masked=True) for v in (1, 2))


@outlined
def rows_tile(a, a_panel, b, columns, count, prefetch, c):
    """ROWS rows of a panel matrix times a panel of B."""
    width = panel_width(a)
    if columns > lanes(a):
        _dense_rows_2(a, width, ROWS, a_panel, 1, b, width, columns, count, prefetch, c)
    else:
        _dense_rows_1(a, width, ROWS, a_panel, 1, b, width, columns, count, prefetch, c)


@outlined
def columns_tile(a, b, columns, count, prefetch, c):
    """ROWS neighbouring columns of a panel of A, as rows, times a panel of B."""
    width = panel_width(a)
    if columns > lanes(a):
        _dense_columns_2(a, 1, ROWS, width * width, width, b, width, columns, count, prefetch, c)
    else:
        _dense_columns_1(a, 1, ROWS, width * width, width, b, width, columns, count, prefetch, c)


@outlined
def short_rows_tile(a, a_panel, b, count, c):
    """`rows_tile` of a whole panel, at most SUM_BLOCK steps: asking for more costs nets of 8 and 24 units 10 %."""
    width = panel_width(a)
    _short_dense_rows(a, width, ROWS, a_panel, 1, b, width, width, count, b, c)


@outlined
def short_columns_tile(a, b, count, c):
    """`columns_tile` likewise."""
    width = panel_width(a)
    _short_dense_columns(a, 1, ROWS, width * width, width, b, width, width, count, b, c)


@outlined
def sparse_tile(a, a_offsets, b, b_offsets, columns, count, prefetch, c):
    """ROWS rows of a panel matrix times the listed rows of a panel of B."""
    if columns > lanes(a):
        _sparse_rows_2(a, a, a_offsets, b, b_offsets, count, prefetch, c)
    else:
        _sparse_rows_1(a, a, a_offsets, b, b_offsets, count, prefetch, c)


@outlined
def quads_tile(a, other, offsets, b, columns, count, c):
    """Two quads of columns of a panel matrix, as rows, times the listed rows of a panel of B."""
    if columns > lanes(a):
        _sparse_quads_2(a, other, offsets, b, offsets, count, b, c)
    else:
        _sparse_quads_1(a, other, offsets, b, offsets, count, b, c)


@outlined
def packed_quads_tile(a, b, offsets, columns, count, c):
    """The same where what is listed of the quads has been packed."""
    if columns > lanes(a):
        _packed_quads_2(a, a, offsets, b, offsets, count, b, c)
    else:
        _packed_quads_1(a, a, offsets, b, offsets, count, b, c)


@outlined
def plain_tile(a, row_step, rows, a_step, b, b_step, columns, count, packed, c):
    """Row-major A: rows past `rows` are never read. B is row-major too, columns past `columns` never read; or packed
    into a panel."""
    a_panel, width = panel_width(a) * a_step, panel_width(a)
    if packed and columns > lanes(a):
        _packed_panel_2(a, row_step, rows, a_panel, a_step, b, width, columns, count, b, c)
    elif packed:
        _packed_panel_1(a, row_step, rows, a_panel, a_step, b, width, columns, count, b, c)
    elif columns >= panel_width(a):
        _row_major_2(a, row_step, rows, a_panel, a_step, b, b_step, columns, count, b, c)
    elif columns > lanes(a):
        _row_major_edge_2(a, row_step, rows, a_panel, a_step, b, b_step, columns, count, b, c)
    else:
        _row_major_edge_1(a, row_step, rows, a_panel, a_step, b, b_step, columns, count, b, c)
