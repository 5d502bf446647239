"""The vector vocabulary of the CPU kernels: pointers, vectors and masks as Numba values.

A `Vector` is one SIMD register of float32, float64 or their integer twins. Inside compiled code it
adds, multiplies, compares and shifts like a number; a Python number beside it becomes a constant of
the vector's own type, so formulas carry no casts:

    z = load(p, i);  y = select(z < 0.0, 0.01 * z, z);  store(q, i, y)

The host's instruction set is read here, once, and nowhere else (`LEVEL`). LLVM does the rest: it splits a
vector the machine lacks. Nothing here checks a bound: callers own shapes, and `at` accepts
only C-contiguous arrays.
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


def _element(dtype):
    if isinstance(dtype, types.Float):
        return ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType()
    return ir.IntType(dtype.bitwidth)


def vector_ir(vector):
    return ir.VectorType(_element(vector.dtype), vector.lanes)


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


def _as_vector(context, builder, value, from_type, vector):
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
        a, b = (_as_vector(context, builder, v, t, vector) for v, t in zip(args, sig.args, strict=True))
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
        values = [_as_vector(context, builder, v, t, vector) for v, t in zip(args, sig.args, strict=True)]
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
        yes, no = (_as_vector(context, builder, v, t, vector)
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
def transpose(typingctx, source, source_step, out, out_step):
    """out[c out_step + r] = source[r source_step + c] for all r and c below the lanes of a vector."""

    def codegen(context, builder, sig, args):
        source, source_step, out, out_step = args
        vector = vector_ir(Vector(sig.args[0].dtype))
        count, size = vector.count, sig.args[0].dtype.bitwidth // 8

        def row(pointer, step, r):
            where = builder.gep(pointer, [builder.mul(step, ir.Constant(I64, r))], source_etype=vector.element)
            return builder.bitcast(where, vector.as_pointer())

        rows = [builder.load(row(source, source_step, r), align=size, typ=vector) for r in range(count)]
        block = 1
        while block < count:
            for i in range(count):
                if i & block:
                    continue
                u, v = rows[i], rows[i + block]
                index = ir.VectorType(ir.IntType(32), count)
                upper = [lane - block + count if lane & block else lane for lane in range(count)]
                lower = [lane + count if lane & block else lane + block for lane in range(count)]
                rows[i] = builder.shuffle_vector(u, v, ir.Constant(index, upper))
                rows[i + block] = builder.shuffle_vector(u, v, ir.Constant(index, lower))
            block *= 2
        for c, value in enumerate(rows):
            builder.store(value, row(out, out_step, c), align=size)
        return context.get_dummy_value()

    return types.void(source, types.intp, out, types.intp), codegen


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


# ------------------------------------------------------------------------------- memory

@intrinsic
def at(typingctx, array, index):
    """Pointer to element `index` of a C-contiguous array, counted in elements from its start."""
    if not isinstance(array, types.Array) or array.layout != "C":
        raise TypingError(f"kernels take C-contiguous NumPy arrays, got {array}: pass np.ascontiguousarray(...)")

    def codegen(context, builder, sig, args):
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        return builder.gep(data, [context.cast(builder, args[1], sig.args[1], types.intp)])

    return types.CPointer(array.dtype)(array, index), codegen


@intrinsic
def keep_alive(typingctx, array):
    """Does nothing, last: Numba frees an array after its last use, and does not see uses through pointers."""

    def codegen(context, builder, sig, args):
        return context.get_dummy_value()

    return types.void(array), codegen


@intrinsic
def step(typingctx, pointer, count):
    """The pointer `count` elements further on."""

    def codegen(context, builder, sig, args):
        return builder.gep(args[0], [context.cast(builder, args[1], sig.args[1], types.intp)],
                           source_etype=_element(pointer.dtype))

    return pointer(pointer, count), codegen


@intrinsic
def next_line(typingctx, pointer):
    """The first address from here on that starts a cache line of 64 bytes."""

    def codegen(context, builder, sig, args):
        missing = builder.and_(builder.neg(builder.ptrtoint(args[0], I64)), ir.Constant(I64, 63))
        count = builder.udiv(missing, ir.Constant(I64, pointer.dtype.bitwidth // 8))
        return builder.gep(args[0], [count], source_etype=_element(pointer.dtype))

    return pointer(pointer), codegen


@intrinsic
def fetch(typingctx, pointer):
    """Asks for the cache line there, which need not exist."""

    def codegen(context, builder, sig, args):
        i8, i32 = ir.IntType(8), ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [i8.as_pointer(), i32, i32, i32]), "llvm.prefetch.p0")
        builder.call(function, [builder.bitcast(args[0], i8.as_pointer()), *(ir.Constant(i32, n) for n in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(pointer), codegen


@intrinsic
def reinterpret(typingctx, pointer, like):
    """The same address as a pointer of the type of `like`."""

    def codegen(context, builder, sig, args):
        return builder.bitcast(args[0], context.get_value_type(sig.return_type))

    return like(pointer, like), codegen


def _address(builder, pointer, base, index):
    return builder.gep(base, [index], source_etype=_element(pointer.dtype))


@intrinsic
def get(typingctx, pointer, index):
    """One element."""

    def codegen(context, builder, sig, args):
        index = context.cast(builder, args[1], sig.args[1], types.intp)
        return builder.load(_address(builder, pointer, args[0], index), typ=_element(pointer.dtype))

    return pointer.dtype(pointer, index), codegen


@intrinsic
def put(typingctx, pointer, index, value):
    """Store one element, converted to the pointer's type."""

    def codegen(context, builder, sig, args):
        index = context.cast(builder, args[1], sig.args[1], types.intp)
        value = context.cast(builder, args[2], sig.args[2], pointer.dtype)
        builder.store(value, _address(builder, pointer, args[0], index))
        return context.get_dummy_value()

    return types.void(pointer, index, value), codegen


@intrinsic
def load(typingctx, pointer, index):
    """A vector from `index`, `index + 1`, ..."""
    vector = Vector(pointer.dtype)

    def codegen(context, builder, sig, args):
        index = context.cast(builder, args[1], sig.args[1], types.intp)
        where = builder.bitcast(_address(builder, pointer, args[0], index), vector_ir(vector).as_pointer())
        return builder.load(where, align=pointer.dtype.bitwidth // 8, typ=vector_ir(vector))

    return vector(pointer, index), codegen


def _stored(pointer, value):
    """The vector that `value` is stored as: it must be one of the pointer's type, or a number."""
    vector = Vector(pointer.dtype)
    if isinstance(value, Vector) and value != vector:
        raise TypingError(f"kernels take arrays of one dtype, got {pointer.dtype} and {value.dtype}")
    return vector


@intrinsic
def store(typingctx, pointer, index, value):
    """A vector to `index`, `index + 1`, ...; a number fills every lane."""
    vector = _stored(pointer, value)

    def codegen(context, builder, sig, args):
        index = context.cast(builder, args[1], sig.args[1], types.intp)
        where = builder.bitcast(_address(builder, pointer, args[0], index), vector_ir(vector).as_pointer())
        builder.store(_as_vector(context, builder, args[2], sig.args[2], vector), where,
                      align=pointer.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(pointer, index, value), codegen


@intrinsic
def copy_quad(typingctx, source, i, out, j):
    """QUAD neighbouring elements from source[i], ... to out[j], ..."""
    quad, size = ir.VectorType(_element(source.dtype), QUAD), source.dtype.bitwidth // 8

    def codegen(context, builder, sig, args):
        i, j = (context.cast(builder, args[n], sig.args[n], types.intp) for n in (1, 3))
        start = builder.bitcast(_address(builder, source, args[0], i), quad.as_pointer())
        target = builder.bitcast(_address(builder, out, args[2], j), quad.as_pointer())
        builder.store(builder.load(start, align=size, typ=quad), target, align=size)
        return context.get_dummy_value()

    return types.void(source, i, out, j), codegen


def masked_load(builder, where, mask, vector, bytes_per_element):
    """LLVM: the lanes under the mask, zero elsewhere; memory under false lanes is not touched."""
    kind = "f32" if isinstance(vector.element, ir.FloatType) else "f64"
    pointer = vector.as_pointer()
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(vector, [pointer, ir.IntType(32), mask.type, vector]),
        f"llvm.masked.load.v{vector.count}{kind}.p0")
    zero = ir.Constant(vector, [0.0] * vector.count)
    return builder.call(function, [builder.bitcast(where, pointer),
                                   ir.Constant(ir.IntType(32), bytes_per_element), mask, zero])


@intrinsic
def load_first(typingctx, pointer, index, count):
    """The first `count` lanes from memory, zero in the others, whose memory is not read."""
    vector = Vector(pointer.dtype)

    def codegen(context, builder, sig, args):
        index, count = (context.cast(builder, v, t, types.int64) for v, t in zip(args[1:], sig.args[1:], strict=True))
        lanes = ir.VectorType(ir.IntType(64), vector.lanes)
        mask = builder.icmp_signed("<", ir.Constant(lanes, list(range(vector.lanes))), splat(builder, count, lanes))
        where = _address(builder, pointer, args[0], index)
        return masked_load(builder, where, mask, vector_ir(vector), pointer.dtype.bitwidth // 8)

    return vector(pointer, index, count), codegen


@intrinsic
def store_first(typingctx, pointer, index, value, count):
    """Store the first `count` lanes; memory of the others is not touched."""
    vector = _stored(pointer, value)

    def codegen(context, builder, sig, args):
        index = context.cast(builder, args[1], sig.args[1], types.int64)
        count = context.cast(builder, args[3], sig.args[3], types.int64)
        lanes = ir.VectorType(ir.IntType(64), vector.lanes)
        mask = builder.icmp_signed("<", ir.Constant(lanes, list(range(vector.lanes))), splat(builder, count, lanes))
        kind = "f32" if pointer.dtype.bitwidth == 32 else "f64"
        out = vector_ir(vector)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [out, out.as_pointer(), ir.IntType(32), mask.type]),
            f"llvm.masked.store.v{vector.lanes}{kind}.p0")
        where = builder.bitcast(_address(builder, pointer, args[0], index), out.as_pointer())
        value = _as_vector(context, builder, args[2], sig.args[2], vector)
        builder.call(function, [value, where, ir.Constant(ir.IntType(32), pointer.dtype.bitwidth // 8), mask])
        return context.get_dummy_value()

    return types.void(pointer, index, value, count), codegen


@intrinsic
def load_bytes(typingctx, pointer, index, like):
    """Consecutive uint8 values as a float vector as wide as one of the pointer `like`."""
    vector = Vector(like.dtype)

    def codegen(context, builder, sig, args):
        index = context.cast(builder, args[1], sig.args[1], types.intp)
        small = ir.VectorType(ir.IntType(8), vector.lanes)
        where = builder.bitcast(_address(builder, pointer, args[0], index), small.as_pointer())
        return builder.uitofp(builder.load(where, align=1, typ=small), vector_ir(vector))

    return vector(pointer, index, like), codegen


@intrinsic
def lanes(typingctx, pointer):
    """Elements in one vector of the pointer's type: a compile-time constant."""

    def codegen(context, builder, sig, args):
        return ir.Constant(ir.IntType(64), lanes_of(pointer.dtype))

    return types.intp(pointer), codegen


@intrinsic
def constant(typingctx, value, pointer):
    """`value` as a number of the pointer's type."""

    def codegen(context, builder, sig, args):
        return context.cast(builder, args[0], sig.args[0], pointer.dtype)

    return pointer.dtype(value, pointer), codegen


@intrinsic
def broadcast(typingctx, value, pointer):
    """`value` in every lane of a vector of the pointer's type."""
    vector = Vector(pointer.dtype)

    def codegen(context, builder, sig, args):
        return _as_vector(context, builder, args[0], sig.args[0], vector)

    return vector(value, pointer), codegen
