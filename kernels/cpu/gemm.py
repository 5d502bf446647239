"""The GEMM tile: C (ROWS, P) = Σₖ A[:, k] B[k, :], every accumulator in a register.

One tile serves X W, Xᵀ dZ and dZ Wᵀ; only the strides differ. Matrices that training owns are stored in
panels: P = two vectors' worth of columns, all rows of a panel one after the other,

    element (r, c) of an (m, n) matrix  ->  panel (c // P), row r, column (c % P):  (c // P) m P + r P + c % P

so that B is read in whole cache lines with no stride, a tile of C is one contiguous piece, and ROWS
neighbouring columns read as rows of A (Xᵀ dZ) stay within a panel. The plain row-major matrices of the
plug-in operations go through the same tile with masked column edges.

Operands of `tile`
    a, row_step       row r of A starts at a + min(r, rows - 1) row_step: rows past the edge repeat the last one
    a_panel, a_step   element k of a row lies (k // P) a_panel + (k % P) a_step further on
    b, b_step         row k of B starts at b + k b_step
    index, count      k runs over 0 .. count - 1, or over index[0 .. count - 1] in the sparse tile: the steps
                      in which A is not zero throughout. Leaving out x · 0 changes no bits while B is finite.
    c                 the result, (ROWS, P) contiguous
The order of the sum is that of k: it does not depend on threads or on where a tile's neighbours run.
"""
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import inlined, outlined
from .simd import ROWS, Vector, lanes, lanes_of, masked_load, splat, vector_ir

VECTORS = 2                              # vectors across a panel

I64 = ir.IntType(64)


@inlined
def panel_width(pointer):
    """P: columns of a panel of this pointer's type."""
    return VECTORS * lanes(pointer)


@inlined
def panels(columns, pointer):
    """Panels that `columns` columns need."""
    return (columns + panel_width(pointer) - 1) // panel_width(pointer)


def _make_tile(vectors, sparse=False, masked=False):
    """A tile of ROWS x `vectors` accumulators; `masked` reads only the first `columns` columns of B."""

    @intrinsic
    def tile(typingctx, a, row_step, rows, a_panel, a_step, b, b_step, columns, index, count, c):
        i = types.intp
        dtype = a.dtype
        vector = vector_ir(Vector(dtype))
        element, width, size = vector.element, vector.count, dtype.bitwidth // 8
        panel = VECTORS * lanes_of(dtype)
        log_panel = panel.bit_length() - 1
        sig = types.void(a, i, i, i, i, b, i, i, index, i, c)

        def codegen(context, builder, sig, args):
            a, row_step, rows, a_panel, a_step, b, b_step, columns, index, count, c = args

            def const(value):
                return ir.Constant(I64, value)

            def vector_at(pointer, offset):
                return builder.bitcast(builder.gep(pointer, [offset], source_etype=element), vector.as_pointer())

            fma = cgutils.get_or_insert_function(
                builder.module, ir.FunctionType(vector, [vector] * 3),
                f"llvm.fma.v{width}{'f32' if size == 4 else 'f64'}")
            last = builder.sub(rows, const(1))
            row_at = []
            for r in range(ROWS):
                inside = builder.icmp_signed("<", const(r), rows)
                nearest = builder.select(inside, const(r), last)
                row_at.append(builder.gep(a, [builder.mul(nearest, row_step)], source_etype=element))
            if masked:
                ramp = ir.VectorType(I64, width)
                masks = [builder.icmp_signed("<", ir.Constant(ramp, list(range(v * width, (v + 1) * width))),
                                             splat(builder, columns, ramp)) for v in range(vectors)]

            entry = builder.block
            loop, done = builder.append_basic_block("k"), builder.append_basic_block("done")
            builder.cbranch(builder.icmp_signed(">", count, const(0)), loop, done)

            builder.position_at_end(loop)
            t = builder.phi(I64)
            zero = ir.Constant(vector, [0.0] * width)
            accumulators = [[builder.phi(vector) for _ in range(vectors)] for _ in range(ROWS)]
            if sparse:
                k = builder.sext(builder.load(builder.gep(index, [t], source_etype=ir.IntType(32)),
                                              typ=ir.IntType(32)), I64)
            else:
                k = t
            a_offset = builder.add(builder.mul(builder.lshr(k, const(log_panel)), a_panel),
                                   builder.mul(builder.and_(k, const(panel - 1)), a_step))
            b_row = builder.gep(b, [builder.mul(k, b_step)], source_etype=element)
            bs = []
            for v in range(vectors):
                where = vector_at(b_row, const(v * width))
                bs.append(masked_load(builder, where, masks[v], vector, size) if masked
                          else builder.load(where, align=size, typ=vector))
            sums = []
            for r in range(ROWS):
                x = builder.load(builder.gep(row_at[r], [a_offset], source_etype=element), typ=element)
                x = splat(builder, x, vector)
                sums.append([builder.call(fma, [x, bs[v], accumulators[r][v]]) for v in range(vectors)])
            following = builder.add(t, const(1))
            t.add_incoming(const(0), entry)
            t.add_incoming(following, loop)
            for phis, values in zip(accumulators, sums, strict=True):
                for phi, value in zip(phis, values, strict=True):
                    phi.add_incoming(zero, entry)
                    phi.add_incoming(value, loop)
            builder.cbranch(builder.icmp_signed("<", following, count), loop, done)

            builder.position_at_end(done)
            for r in range(ROWS):
                for v in range(vectors):
                    result = builder.phi(vector)
                    result.add_incoming(zero, entry)
                    result.add_incoming(sums[r][v], loop)
                    sums[r][v] = result
            for r in range(ROWS):
                for v in range(vectors):
                    store = builder.store(sums[r][v], vector_at(c, const(r * panel + v * width)))
                    store.align = size
            return context.get_dummy_value()

        return sig, codegen

    return tile


_dense_1, _dense_2 = _make_tile(1), _make_tile(2)
_sparse_1, _sparse_2 = _make_tile(1, sparse=True), _make_tile(2, sparse=True)
_edge_1, _edge_2 = _make_tile(1, masked=True), _make_tile(2, masked=True)


@outlined
def dense_tile(a, row_step, rows, a_panel, a_step, b, b_step, columns, index, count, c):
    """B is a panel: columns past the last are there to be read; a narrow panel takes half the work."""
    if columns > lanes(a):
        _dense_2(a, row_step, rows, a_panel, a_step, b, b_step, columns, index, count, c)
    else:
        _dense_1(a, row_step, rows, a_panel, a_step, b, b_step, columns, index, count, c)


@outlined
def sparse_tile(a, row_step, rows, a_panel, a_step, b, b_step, columns, index, count, c):
    """The same over the listed steps only."""
    if columns > lanes(a):
        _sparse_2(a, row_step, rows, a_panel, a_step, b, b_step, columns, index, count, c)
    else:
        _sparse_1(a, row_step, rows, a_panel, a_step, b, b_step, columns, index, count, c)


@outlined
def edge_tile(a, row_step, rows, a_panel, a_step, b, b_step, columns, index, count, c):
    """B is a plain matrix: columns past the last are never read."""
    if columns >= panel_width(a):
        _dense_2(a, row_step, rows, a_panel, a_step, b, b_step, columns, index, count, c)
    elif columns > lanes(a):
        _edge_2(a, row_step, rows, a_panel, a_step, b, b_step, columns, index, count, c)
    else:
        _edge_1(a, row_step, rows, a_panel, a_step, b, b_step, columns, index, count, c)
