"""What every operation asks of its operands, before anything touches raw memory.

From Python and from other people's compiled code alike. Dtype, dimensions, contiguity and writability are known when
a call is compiled: `operand`, `output`, `indices` and `integer` cost nothing at run time, and raise a TypingError that
names the argument. Where the arrays lie shows at each call, in a comparison or two for each (pair): `contiguous`, and
`apart`, the one rule for all operations: what is written shares no byte with any other operand, unless it may be that
very operand. `net.arguments` does the same for the calls
of `net.training`, which are plain Python.
"""

from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

from ..jit import inlined

FLOATS = (types.float32, types.float64)
_DIMENSIONS = {1: "one-dimensional", 2: "two-dimensional"}


def _value(literal):
    """What a literal stands for. After a TypingError Numba tries again without literals, for a message of its own."""
    if not isinstance(literal, types.Literal):
        raise TypingError("names of operands are literals")
    return literal.literal_value


def _refuse_other_arrays(array, ndim, name, dtypes, wanted):
    if not isinstance(array, types.Array) or array.ndim != ndim or array.dtype not in dtypes:
        raise TypingError(f"{name} must be a {_DIMENSIONS[ndim]} NumPy array of {wanted}, got {array}")
    if array.layout != "C":
        raise TypingError(f"{name}: kernels take C-contiguous NumPy arrays, got {array}: "
                          "pass np.ascontiguousarray(...)")


def _nothing(context, builder, sig, args):
    return context.get_dummy_value()


@intrinsic(prefer_literal=True)
def operand(typingctx, array, ndim, name):
    """Compile only for a C-contiguous array of float32 or float64 with so many dimensions."""
    _refuse_other_arrays(array, _value(ndim), _value(name), FLOATS, "float32 or float64")
    return types.void(array, ndim, name), _nothing


@intrinsic(prefer_literal=True)
def output(typingctx, array, ndim, name):
    """The same, and only for one that may be written: a read-only array may be a file mapped into memory."""
    _refuse_other_arrays(array, _value(ndim), _value(name), FLOATS, "float32 or float64")
    if not array.mutable:
        raise TypingError(f"{_value(name)} is written, but it is read-only: "
                          "pass an array of your own, such as np.empty(...)")
    return types.void(array, ndim, name), _nothing


@intrinsic(prefer_literal=True)
def indices(typingctx, array, name):
    """Compile only for a one-dimensional C-contiguous array of integers."""
    _refuse_other_arrays(array, 1, _value(name), types.integer_domain, "integers")
    return types.void(array, name), _nothing


@intrinsic(prefer_literal=True)
def integer(typingctx, number, name):
    """Compile only for an integer."""
    if not isinstance(number, types.Integer | types.IntegerLiteral):
        raise TypingError(f"{_value(name)} must be a whole number, got {number}")
    return types.void(number, name), _nothing


def _bounds(context, builder, array_type, array):
    """First address and the one past the end."""
    struct = context.make_array(array_type)(context, builder, array)
    start = builder.ptrtoint(struct.data, context.get_value_type(types.intp))
    return start, builder.add(start, builder.mul(struct.nitems, struct.itemsize))


def _items(context, builder, typ, value):
    """(type, value) of each array in a tuple; what else is there, such as an operand left out, is no array."""
    return [(item, builder.extract_value(value, i)) for i, item in enumerate(typ) if isinstance(item, types.Array)]


@intrinsic
def apart(typingctx, written, read):
    """Whether no array of the tuple `written` shares a byte with another one there or one of `read`. C-contiguous."""

    def codegen(context, builder, sig, args):
        written, read = ([_bounds(context, builder, *item) for item in _items(context, builder, typ, value)]
                         for typ, value in zip(sig.args, args, strict=True))
        answer = cgutils.true_bit
        for i, (start, end) in enumerate(written):
            for other_start, other_end in written[i + 1:] + read:
                # Of no bytes, an array shares none: its start is its end.
                shared = builder.and_(builder.icmp_unsigned("<", start, other_end),
                                      builder.icmp_unsigned("<", other_start, end))
                empty = builder.or_(builder.icmp_unsigned("==", start, end),
                                    builder.icmp_unsigned("==", other_start, other_end))
                answer = builder.and_(answer, builder.or_(empty, builder.not_(shared)))
        return answer

    return types.boolean(written, read), codegen


@intrinsic
def _are_contiguous(typingctx, arrays):
    def codegen(context, builder, sig, args):
        answer = cgutils.true_bit
        for typ, value in _items(context, builder, sig.args[0], args[0]):
            struct = context.make_array(typ)(context, builder, value)
            shape, strides = (cgutils.unpack_tuple(builder, part) for part in (struct.shape, struct.strides))
            step, ordered = struct.itemsize, cgutils.true_bit
            for size, stride in zip(reversed(shape), reversed(strides), strict=True):
                one = builder.icmp_signed("<=", size, size.type(1))
                ordered = builder.and_(ordered, builder.or_(one, builder.icmp_signed("==", stride, step)))
                step = builder.mul(step, size)
            empty = builder.icmp_signed("==", struct.nitems, struct.nitems.type(0))
            answer = builder.and_(answer, builder.or_(ordered, empty))
        return answer

    return types.boolean(arrays), codegen


@inlined
def contiguous(arrays):
    """ValueError unless each of a tuple of arrays is what its type says. guvectorize hands over strided arrays where
    its signature says `[:, ::1]`."""
    if not _are_contiguous(arrays):
        raise ValueError("operations take C-contiguous arrays, got an argument with other strides: "
                         "pass np.ascontiguousarray(...)")


@intrinsic
def same_start(typingctx, one, other):
    """Whether two arrays begin at the same byte: element for element, one may then be computed into the other."""

    def codegen(context, builder, sig, args):
        (start, _), (other_start, _) = (_bounds(context, builder, t, a) for t, a in zip(sig.args, args, strict=True))
        return builder.icmp_unsigned("==", start, other_start)

    return types.boolean(one, other), codegen
