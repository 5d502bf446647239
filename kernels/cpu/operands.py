"""What every operation asks of its operands, before anything touches raw memory.

From Python and from other people's compiled code alike. Dtype, dimensions, contiguity and writability are known when
a call is compiled: `operand`, `output`, `indices` and `whole` cost nothing at run time, and raise a TypingError that
names the argument. Where the arrays lie shows at each call, in a comparison or two for each (pair): `contiguous`, and
`apart`, the one rule for all operations: what is written shares no byte with any other operand, unless it may be that
very operand. `check_net`, `check_rows`, `check_answers` and `check_apart` do the same for the calls of `training`,
which are plain Python.
"""
from itertools import pairwise

import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

from .. import activations as codes
from .. import losses as loss_codes
from .jit import inlined

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


# ------------------------------------------------------------------------------- the calls of `training`

def as_tuple(name, value):
    if not isinstance(value, list | tuple | np.ndarray):
        raise TypeError(f"{name} must be a sequence, got {value!r}")
    return tuple(value)


def check_net(parameters, sizes, activations, n_threads):
    """The net is one: ValueError or TypeError where parameters, sizes and activations do not fit together."""
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"sizes must be at least two numbers of at least 1, got {sizes}")
    if len(activations) != len(sizes) - 1:
        raise ValueError(f"activations must be {len(sizes) - 1} codes, one a layer, got {activations!r}")
    for layer, code in enumerate(activations):
        last = codes.EXP if layer == len(activations) - 1 else codes.SIGN
        if not codes.IDENTITY <= code <= last or code != int(code):
            raise ValueError(f"activations[{layer}] must be a code of kernels.activations, got {code!r}")
    check_flat("parameters", parameters, sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes)))
    if n_threads is not None and n_threads < 1:
        raise ValueError(f"n_threads must be None or at least 1, got {n_threads}")


def check_recipe(sizes, dropout, loss, rule, slots, hyper, batch_size):
    if len(dropout) != len(sizes) - 1 or not all(0 <= rate < 1 for rate in dropout):
        raise ValueError(f"dropout must be {len(sizes) - 1} rates of at least 0 and below 1, got {dropout!r}")
    if not 0 <= loss < len(loss_codes.NAMES):
        raise ValueError(f"loss must be a code of kernels.losses, got {loss!r}")
    if not 0 <= rule < len(slots):
        raise ValueError(f"rule must be a code of kernels.update_rules, got {rule!r}")
    if np.shape(hyper) != (4,):
        raise ValueError(f"hyper must be 4 numbers, got shape {np.shape(hyper)}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")


def check_flat(name, array, size, dtype=None, written=False):
    """`array` is the flat layout of all parameters, or empty where `size` is 0."""
    if getattr(array, "dtype", None) not in ((np.float32, np.float64) if dtype is None else (dtype,)):
        raise TypeError(f"{name} must be an array of {dtype or 'float32 or float64'}, "
                        f"got {getattr(array, 'dtype', type(array).__name__)}")
    if array.shape != (size,):
        raise ValueError(f"{name} must have shape {(size,)}, got {array.shape}")
    if written and not (array.flags.writeable and array.flags.c_contiguous):
        raise ValueError(f"{name} is written: it must be writable and contiguous")


def check_rows(x, n_in, dtype):
    if not isinstance(x, np.ndarray) or x.ndim != 2 or x.shape[1] != n_in:
        raise ValueError(f"x must be a two-dimensional array of {n_in} columns, "
                         f"got {f'shape {x.shape}' if isinstance(x, np.ndarray) else type(x).__name__}")
    if x.dtype != np.uint8 and x.dtype != dtype:
        raise TypeError(f"x must be uint8 or {dtype}, got {x.dtype}")


def check_answers(rows, n_out, loss, labels, targets, weights, read=None):
    """Labels or targets for every row, as the loss needs them.

    read : the rows whose labels will be read; None for all
    """
    check_integers("labels", labels)
    wanted = [(rows, n_out)]
    if loss == loss_codes.SOFTMAX_XENT and labels.size:
        if labels.shape != (rows,):
            raise ValueError(f"labels must be one for each of the {rows} rows, got shape {labels.shape}")
        wanted = [(0, 0), (0, n_out)]
    check_indices("labels", labels if read is None or labels.shape != (rows,) else labels[read], n_out)
    if targets.shape not in wanted and rows:
        raise ValueError(f"targets must have shape {wanted[0]}, got {targets.shape}")
    if weights.size and weights.shape != (rows,):
        raise ValueError(f"weights must be one for each of the {rows} rows, or none, got shape {weights.shape}")


def check_integers(name, array):
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be one-dimensional whole numbers, got {array.dtype} of shape {array.shape}")


def check_apart(written, read):
    """No array of `written` shares memory with another one there or one of `read`; both are {name: array}."""
    names = [*written, *read]
    for i, (name, array) in enumerate(written.items()):
        for other in names[i + 1:]:
            its = written[other] if other in written else read[other]
            if isinstance(its, np.ndarray) and np.may_share_memory(array, its):
                raise ValueError(f"{name} is written: it must not share memory with {other}")


def check_indices(name, array, count):
    """One-dimensional whole numbers from 0 to `count` - 1."""
    check_integers(name, array)
    if array.size and (array.min() < 0 or array.max() >= count):
        raise ValueError(f"{name} must lie in 0 .. {count - 1}, got {array.min()} to {array.max()}")
