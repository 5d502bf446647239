"""What every operation asks of its operands, before anything touches raw memory.

From Python and from other people's compiled code alike. Dtype, dimensions, contiguity and writability are known when
a call is compiled: `operand`, `output`, `indices` and `whole` cost nothing at run time, and raise a TypingError that
names the argument. Whether two operands share memory shows in two comparisons a pair: `apart`. `check_net`,
`check_rows` and `check_answers` do the same for the calls of `training`, which are plain Python.
"""

from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic

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
def whole(typingctx, number, name):
    """Compile only for an integer."""
    if not isinstance(number, types.Integer | types.IntegerLiteral):
        raise TypingError(f"{_value(name)} must be a whole number, got {number}")
    return types.void(number, name), _nothing


def _bounds(context, builder, array_type, array):
    """First address and the one past the end."""
    struct = context.make_array(array_type)(context, builder, array)
    start = builder.ptrtoint(struct.data, context.get_value_type(types.intp))
    return start, builder.add(start, builder.mul(struct.nitems, struct.itemsize))


@intrinsic
def apart(typingctx, one, other):
    """Whether two C-contiguous arrays share no byte."""

    def codegen(context, builder, sig, args):
        (start, end), (other_start, other_end) = (_bounds(context, builder, t, a)
                                                  for t, a in zip(sig.args, args, strict=True))
        before = builder.icmp_unsigned("<=", end, other_start)
        after = builder.icmp_unsigned("<=", other_end, start)
        empty = builder.or_(builder.icmp_unsigned("==", start, end),
                            builder.icmp_unsigned("==", other_start, other_end))
        return builder.or_(builder.or_(before, after), empty)

    return types.boolean(one, other), codegen


@intrinsic
def same_start(typingctx, one, other):
    """Whether two arrays begin at the same byte: element for element, one may then be computed into the other."""

    def codegen(context, builder, sig, args):
        (start, _), (other_start, _) = (_bounds(context, builder, t, a) for t, a in zip(sig.args, args, strict=True))
        return builder.icmp_unsigned("==", start, other_start)

    return types.boolean(one, other), codegen
