"""The tile of dot products: C (DOTS, ACROSS) += Σᵣ a[:, r] b[:, r], rows of the batch in lanes.

For nets so narrow that a panel of columns would be mostly padding (`narrow`), activations are kept transposed, as
panels of P rows: feature f of panel p starts at p · panel step + f P. X W and dZ Wᵀ are then the tiles of `gemm`; only
Xᵀ dZ sums over lanes. DOTS x ACROSS accumulators hold a sum per lane each; at the end they are added pairwise, each
addition halving both the number of vectors and what is left to add within one, so that 16 vectors of 16 lanes take 45
instructions instead of 16 trees of 8.

Operands of the tile
    a, a_step       feature i of A in panel p starts at a + p a_step + i P
    b, b_step       the same for B
    panels          how many panels of rows
    rows            how many of the DOTS rows of C are real; the others are not touched
    c, c_step       row i of C starts at c + i c_step; what is found is added to it
"""
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ..jit import outlined
from ..vector.panels import VECTORS
from ..vector.simd import ROWS
from .gemm import _Emitter, const

DOTS = 4
ACROSS = VECTORS * ROWS // DOTS          # as many accumulators as the tiles of `gemm` have


def _add_lanes(builder, sums):
    """Σ over the lanes of each vector: the totals in order, as many to a vector as it has lanes."""
    count = sums[0].type.count
    index, group = ir.VectorType(ir.IntType(32), count), count
    while group > 1:
        starts = [start + half for half in (0, count) for start in range(0, count, group)]
        low = [start + i for start in starts for i in range(group // 2)]
        high = [lane + group // 2 for lane in low]
        sums = [builder.fadd(builder.shuffle_vector(u, v, ir.Constant(index, low)),
                             builder.shuffle_vector(u, v, ir.Constant(index, high)))
                for u, v in zip(sums[::2], sums[1::2], strict=True)]
        group //= 2
    return sums


@intrinsic
def _dots(typingctx, a, a_step, b, b_step, panels, rows, c, c_step):
    i = types.intp
    sig = types.void(a, i, b, i, i, i, c, i)

    def codegen(context, builder, sig, args):
        a, a_step, b, b_step, panels, rows, c, c_step = args
        emit = _Emitter(builder, sig.args[0].dtype, VECTORS)

        def read(pointer, feature, v):
            where = emit.vector_at(pointer, const(feature * emit.panel + v * emit.width))
            return builder.load(where, align=emit.size, typ=emit.vector)

        def body(p, sums):
            here_a, here_b = emit.at(a, builder.mul(p, a_step)), emit.at(b, builder.mul(p, b_step))
            for v in range(VECTORS):
                factors = [read(here_b, j, v) for j in range(ACROSS)]
                following = []
                for k in range(DOTS):
                    x = read(here_a, k, v)
                    following += [builder.call(emit.fma, [x, factors[j], sums[k * ACROSS + j]]) for j in range(ACROSS)]
                sums = following
            return sums

        totals = _add_lanes(builder, emit.loop(const(0), panels, 1, emit.zeros(), body))
        piece = min(ACROSS, emit.width)
        for k in range(DOTS):
            with builder.if_then(builder.icmp_signed(">", rows, const(k))):
                for first in range(k * ACROSS, (k + 1) * ACROSS, piece):
                    vector, lane = divmod(first, emit.width)
                    index = ir.Constant(ir.VectorType(ir.IntType(32), piece), list(range(lane, lane + piece)))
                    found = builder.shuffle_vector(totals[vector], totals[vector], index)
                    offset = builder.add(builder.mul(c_step, const(k)), const(first - k * ACROSS))
                    where = builder.bitcast(emit.at(c, offset), found.type.as_pointer())
                    before = builder.load(where, align=emit.size, typ=found.type)
                    builder.store(builder.fadd(before, found), where, align=emit.size)
        return context.get_dummy_value()

    return sig, codegen


@outlined
def dots_tile(a, a_step, b, b_step, panels, rows, c, c_step):
    """C += the dot products of DOTS features of A with ACROSS of B."""
    _dots(a, a_step, b, b_step, panels, rows, c, c_step)
