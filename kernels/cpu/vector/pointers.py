"""Pointers as Numba values, and vectors on their way from and to memory.

Nothing here checks a bound: callers own shapes, and `at` accepts only C-contiguous arrays.
"""
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

from .simd import I64, QUAD, Vector, as_vector, element_ir, lanes_of, splat, vector_ir


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
                           source_etype=element_ir(pointer.dtype))

    return pointer(pointer, count), codegen


@intrinsic
def next_line(typingctx, pointer):
    """The first address from here on that starts a cache line of 64 bytes."""

    def codegen(context, builder, sig, args):
        missing = builder.and_(builder.neg(builder.ptrtoint(args[0], I64)), ir.Constant(I64, 63))
        count = builder.udiv(missing, ir.Constant(I64, pointer.dtype.bitwidth // 8))
        return builder.gep(args[0], [count], source_etype=element_ir(pointer.dtype))

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
    return builder.gep(base, [index], source_etype=element_ir(pointer.dtype))


@intrinsic
def get(typingctx, pointer, index):
    """One element."""

    def codegen(context, builder, sig, args):
        index = context.cast(builder, args[1], sig.args[1], types.intp)
        return builder.load(_address(builder, pointer, args[0], index), typ=element_ir(pointer.dtype))

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
        builder.store(as_vector(context, builder, args[2], sig.args[2], vector), where,
                      align=pointer.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(pointer, index, value), codegen


@intrinsic
def copy_quad(typingctx, source, i, out, j):
    """QUAD neighbouring elements from source[i], ... to out[j], ..."""
    quad, size = ir.VectorType(element_ir(source.dtype), QUAD), source.dtype.bitwidth // 8

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
        value = as_vector(context, builder, args[2], sig.args[2], vector)
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
def like(typingctx, value, other):
    """The number in the type of another."""

    def codegen(context, builder, sig, args):
        return context.cast(builder, args[0], sig.args[0], sig.return_type)

    return other(value, other), codegen


@intrinsic
def broadcast(typingctx, value, pointer):
    """`value` in every lane of a vector of the pointer's type."""
    vector = Vector(pointer.dtype)

    def codegen(context, builder, sig, args):
        return as_vector(context, builder, args[0], sig.args[0], vector)

    return vector(value, pointer), codegen


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
