"""The vector vocabulary of the CPU kernels: vectors and masks as Numba values. Their way to memory is `pointers`.

A `Vector` is one SIMD register of float32, float64 or their integer twins. Inside compiled code it
adds, multiplies, compares and shifts like a number; a Python number beside it becomes a constant of
the vector's own type, so formulas carry no casts:

    z = load(p, i);  y = select(z < 0.0, 0.01 * z, z);  store(q, i, y)

The host's instruction set is read here, once, and nowhere else (`LEVEL`). LLVM does the rest: it splits a
vector the machine lacks.
"""
import operator

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.core.datamodel import PrimitiveModel, register_default
from numba.core.errors import TypingError
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin

# ------------------------------------------------------------------------------- the host

# level -> (vector bytes, rows of a GEMM tile). Two vectors times the rows are the tile's accumulators:
# AVX-512 and NEON have 32 registers, so 16 accumulators hide the FMA's latency with room for operands;
# AVX2 has 16, of which 8 accumulate (rows must divide a panel of two vectors: 6 would not).
LEVELS = {"avx512": (64, 8), "avx2": (32, 4), "neon": (16, 8), "portable": (16, 4)}
_WITHOUT_AVX512 = ("haswell", "broadwell", "skylake", "alderlake", "znver1", "znver2", "znver3")


def host_level():
    """'avx512', 'avx2', 'neon' or 'portable': what Numba compiles for (NUMBA_CPU_NAME and _FEATURES count)."""
    if config.CPU_FEATURES is not None:
        features = {f[1:] for f in config.CPU_FEATURES.split(",") if f.startswith("+")}
    else:
        features = {f for f, present in binding.get_host_cpu_features().items() if present}
    if "avx512f" in features and config.CPU_NAME not in _WITHOUT_AVX512:
        return "avx512"
    if "avx2" in features and "fma" in features:
        return "avx2"
    if "neon" in features or "asimd" in features:
        return "neon"
    return "portable"


LEVEL = host_level()
I64 = ir.IntType(64)
VECTOR_BYTES, ROWS = LEVELS[LEVEL]
QUAD = ROWS // 2                 # neighbours that stay together where in-features are regrouped


def lanes_of(dtype):
    """Elements of a Numba number type in one vector."""
    return VECTOR_BYTES * 8 // dtype.bitwidth


# ------------------------------------------------------------------------------- types

class Vector(types.Type):
    """One register of `lanes` numbers of type `dtype`."""

    def __init__(self, dtype):
        self.dtype = dtype
        self.lanes = lanes_of(dtype)
        super().__init__(name=f"Vector({dtype}, {self.lanes})")

    def same_width_integer(self):
        return Vector(types.int32 if self.dtype.bitwidth == 32 else types.int64)

    def same_width_float(self):
        return Vector(types.float32 if self.dtype.bitwidth == 32 else types.float64)

    @property
    def is_float(self):
        return isinstance(self.dtype, types.Float)


class Mask(types.Type):
    """One truth value per lane."""

    def __init__(self, lanes):
        self.lanes = lanes
        super().__init__(name=f"Mask({lanes})")


def element_ir(dtype):
    if isinstance(dtype, types.Float):
        return ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType()
    return ir.IntType(dtype.bitwidth)


def vector_ir(vector):
    return ir.VectorType(element_ir(vector.dtype), vector.lanes)


@register_default(Vector)
class _VectorModel(PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, vector_ir(fe_type))


@register_default(Mask)
class _MaskModel(PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, ir.VectorType(ir.IntType(1), fe_type.lanes))


def splat(builder, scalar, vector_type):
    """LLVM: the same scalar in every lane."""
    undefined = ir.Constant(vector_type, ir.Undefined)
    index = ir.VectorType(ir.IntType(32), vector_type.count)
    first = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(index, [0] * vector_type.count))


def as_vector(context, builder, value, from_type, vector):
    """LLVM: `value` as `vector`, numbers converted to its dtype and repeated."""
    if isinstance(from_type, Vector):
        return value
    return splat(builder, context.cast(builder, value, from_type, vector.dtype), vector_ir(vector))


# ------------------------------------------------------------------------------- operators

def _operands(args):
    """The vector that both operands become, or None if this is not a vector operation."""
    vectors = [a for a in args if isinstance(a, Vector)]
    if not vectors or any(v != vectors[0] for v in vectors):
        return None
    if any(not isinstance(types.unliteral(a), (Vector, types.Number)) for a in args):
        return None
    return vectors[0]


def _register_binary(op, on_float, on_integer, compares=False):
    @infer_global(op)
    class Template(AbstractTemplate):
        def generic(self, args, kws):
            if kws or len(args) != 2 or (vector := _operands(args)) is None:
                return None
            return signature(Mask(vector.lanes) if compares else vector, *(types.unliteral(a) for a in args))

    def lower(context, builder, sig, args):
        vector = _operands(sig.args)
        a, b = (as_vector(context, builder, v, t, vector) for v, t in zip(args, sig.args, strict=True))
        emit = on_float if vector.is_float else on_integer
        if emit is None:
            raise TypingError(f"{op.__name__} is not defined for {vector}")
        return emit(builder, a, b)

    for pair in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(op, *pair)(lower)


def _compare(sign):
    return (lambda b, x, y: b.fcmp_ordered(sign, x, y)), (lambda b, x, y: b.icmp_signed(sign, x, y))


_register_binary(operator.add, ir.IRBuilder.fadd, ir.IRBuilder.add)
_register_binary(operator.sub, ir.IRBuilder.fsub, ir.IRBuilder.sub)
_register_binary(operator.mul, ir.IRBuilder.fmul, ir.IRBuilder.mul)
_register_binary(operator.truediv, ir.IRBuilder.fdiv, None)
_register_binary(operator.lshift, None, ir.IRBuilder.shl)
_register_binary(operator.rshift, None, ir.IRBuilder.ashr)
_register_binary(operator.and_, None, ir.IRBuilder.and_)
_register_binary(operator.or_, None, ir.IRBuilder.or_)
_register_binary(operator.xor, None, ir.IRBuilder.xor)
for _op, _sign in ((operator.lt, "<"), (operator.gt, ">"), (operator.ge, ">=")):
    _register_binary(_op, *_compare(_sign), compares=True)
# NaN differs from everything.
_register_binary(operator.ne, lambda b, x, y: b.fcmp_unordered("!=", x, y), lambda b, x, y: b.icmp_signed("!=", x, y),
                 compares=True)


@infer_global(operator.neg)
class _Negation(AbstractTemplate):
    def generic(self, args, kws):
        if len(args) == 1 and isinstance(args[0], Vector):
            return signature(args[0], args[0])
        return None


@lower_builtin(operator.neg, Vector)
def _negate(context, builder, sig, args):
    return builder.fneg(args[0]) if sig.args[0].is_float else builder.neg(args[0])


def _llvm_call(builder, name, vector, args):
    suffix = f".v{vector.count}{'f32' if isinstance(vector.element, ir.FloatType) else 'f64'}"
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(vector, [a.type for a in args]), name + suffix)
    return builder.call(function, args)


@intrinsic
def fma(typingctx, a, b, c):
    """a * b + c, rounded once."""
    vector = _operands((a, b, c))
    if vector is None:
        raise TypingError("fma takes vectors and numbers, at least one of them a vector")
    sig = vector(a, b, c)

    def codegen(context, builder, sig, args):
        values = [as_vector(context, builder, v, t, vector) for v, t in zip(args, sig.args, strict=True)]
        return _llvm_call(builder, "llvm.fma", vector_ir(vector), values)

    return sig, codegen


@intrinsic
def sqrt(typingctx, a):
    """Correctly rounded square root."""

    def codegen(context, builder, sig, args):
        return _llvm_call(builder, "llvm.sqrt", vector_ir(sig.args[0]), args)

    return a(a), codegen


@intrinsic
def absolute(typingctx, a):

    def codegen(context, builder, sig, args):
        return _llvm_call(builder, "llvm.fabs", vector_ir(sig.args[0]), args)

    return a(a), codegen


@intrinsic
def select(typingctx, mask, a, b):
    """a where the mask is true, else b."""
    vector = _operands((a, b))
    if vector is None or not isinstance(mask, Mask):
        raise TypingError("select takes a mask and two values, at least one of them a vector")

    def codegen(context, builder, sig, args):
        yes, no = (as_vector(context, builder, v, t, vector)
                   for v, t in zip(args[1:], sig.args[1:], strict=True))
        return builder.select(args[0], yes, no)

    return vector(mask, a, b), codegen


@intrinsic
def bits(typingctx, a):
    """The integer vector with the same bits."""

    def codegen(context, builder, sig, args):
        return builder.bitcast(args[0], vector_ir(sig.return_type))

    return a.same_width_integer()(a), codegen


@intrinsic
def floats(typingctx, a):
    """The float vector with the same bits."""

    def codegen(context, builder, sig, args):
        return builder.bitcast(args[0], vector_ir(sig.return_type))

    return a.same_width_float()(a), codegen


@intrinsic
def numbers(typingctx, a):
    """The integers as floats of the same width."""

    def codegen(context, builder, sig, args):
        return builder.sitofp(args[0], vector_ir(sig.return_type))

    return a.same_width_float()(a), codegen


@intrinsic
def products(typingctx, a, b):
    """(high 32 bits, low 32 bits) of each lane's 32-bit word times b."""

    def codegen(context, builder, sig, args):
        word = vector_ir(sig.args[0])
        wide = ir.VectorType(I64, word.count * word.element.width // 64)
        factor = splat(builder, builder.zext(context.cast(builder, args[1], sig.args[1], types.uint32), I64), wide)
        shift, low_half = (ir.Constant(wide, [value] * wide.count) for value in (32, 0xFFFFFFFF))
        pairs = builder.bitcast(args[0], wide)
        even = builder.mul(builder.and_(pairs, low_half), factor)
        if word.element.width == 64:
            halves = builder.lshr(even, shift), builder.and_(even, low_half)
        else:
            # Odd words are multiplied where they stand, in the upper halves of the same 64-bit lanes.
            odd = builder.mul(builder.lshr(pairs, shift), factor)
            even, odd = builder.bitcast(even, word), builder.bitcast(odd, word)
            index = ir.VectorType(ir.IntType(32), word.count)
            halves = [builder.shuffle_vector(even, odd, ir.Constant(index, [
                lane + half if lane % 2 == 0 else word.count + lane - 1 + half for lane in range(word.count)]))
                for half in (1, 0)]
        return context.make_tuple(builder, sig.return_type, halves)

    return types.UniTuple(a, 2)(a, b), codegen


@intrinsic
def words_at_least(typingctx, a, threshold):
    """Mask: lanes whose 32-bit word, read as unsigned, is >= threshold, which is below 2³²."""

    def codegen(context, builder, sig, args):
        limit = context.cast(builder, args[1], sig.args[1], sig.args[0].dtype)
        return builder.icmp_unsigned(">=", args[0], splat(builder, limit, vector_ir(sig.args[0])))

    return Mask(a.lanes)(a, threshold), codegen


@intrinsic
def mask_bits(typingctx, mask):
    """The mask as an integer, lane 0 in bit 0."""

    def codegen(context, builder, sig, args):
        lanes = sig.args[0].lanes
        return builder.zext(builder.bitcast(args[0], ir.IntType(lanes)), I64)

    return types.int64(mask), codegen


@intrinsic
def count_bits(typingctx, bits):
    """How many bits of an integer are set."""

    def codegen(context, builder, sig, args):
        return builder.ctpop(args[0])

    return types.int64(types.int64), codegen


@intrinsic
def mask_of_bits(typingctx, bits, like):
    """`mask_bits` undone: the mask whose lane i is bit i, as wide as a vector of the pointer `like`."""
    count = lanes_of(like.dtype)

    def codegen(context, builder, sig, args):
        return builder.bitcast(builder.trunc(args[0], ir.IntType(count)), ir.VectorType(ir.IntType(1), count))

    return Mask(count)(types.int64, like), codegen


@intrinsic
def compress(typingctx, a, mask):
    """The lanes under the mask, moved together to the front; what follows them is undefined."""

    def codegen(context, builder, sig, args):
        vector = args[0].type
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector, args[1].type, vector]),
            f"llvm.experimental.vector.compress.v{vector.count}i{vector.element.width}")
        return builder.call(function, [args[0], args[1], ir.Constant(vector, ir.Undefined)])

    return a(a, mask), codegen


@intrinsic
def ramp(typingctx, start, like):
    """Integer vector start, start + 1, ... as wide as a vector of the pointer `like`."""
    vector = Vector(like.dtype).same_width_integer()

    def codegen(context, builder, sig, args):
        word = vector_ir(vector)
        first = splat(builder, context.cast(builder, args[0], sig.args[0], vector.dtype), word)
        return builder.add(first, ir.Constant(word, list(range(vector.lanes))))

    return vector(start, like), codegen


@intrinsic
def first_lanes(typingctx, count, like):
    """Mask: true in lanes 0 .. count - 1 of a vector like `like` (a vector or a pointer)."""
    vector = like if isinstance(like, Vector) else Vector(like.dtype)

    def codegen(context, builder, sig, args):
        index = ir.VectorType(ir.IntType(64), vector.lanes)
        limit = splat(builder, context.cast(builder, args[0], sig.args[0], types.int64), index)
        return builder.icmp_signed("<", ir.Constant(index, list(range(vector.lanes))), limit)

    return Mask(vector.lanes)(count, like), codegen


def _reduction(combine):
    @intrinsic
    def reduce(typingctx, a):
        def codegen(context, builder, sig, args):
            # A tree of halves: the same order on every machine with this many lanes.
            value, count = args[0], sig.args[0].lanes
            while count > 1:
                count //= 2
                low, high = (builder.shuffle_vector(value, value, ir.Constant(
                    ir.VectorType(ir.IntType(32), count), list(range(start, start + count)))) for start in (0, count))
                value = combine(builder, low, high)
            return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

        return a.dtype(a), codegen

    return reduce


sum_lanes = _reduction(lambda builder, a, b: builder.fadd(a, b))
max_lanes = _reduction(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))
