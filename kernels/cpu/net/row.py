"""One row through a net: compiled for its layers, callable from Python and inside anybody's compiled code.

A `RowNet` holds packed weights. In compiled code it is that array, counted as any array is: a typed list, a jitclass
or a tuple may keep it when Python's object is gone. Its Numba type holds what code is made for: dtype, widths,
activations. So a function that takes a RowNet as an argument is compiled once for all nets of that shape and may be
cached on disk (`cache=True`): the weights always come with the argument. A RowNet that is a global or a closure
variable is a live address in the machine code, and Numba then refuses to cache, with a warning: old weights cannot come
back from the disk.

Layout: for every layer W and then b. The columns of W in groups of GROUP vectors, then in single vectors, filled up
with zeros; within a group row after row. So weights are read in one stream, in whole vectors.
2 k n flops a layer; every weight is read once.
"""
import functools
import math
from itertools import pairwise

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import StructModel, register_default
from numba.core.errors import TypingError
from numba.core.imputils import lower_constant
from numba.extending import NativeValue, box, intrinsic, lower_builtin, overload_method, unbox
from numba.np.arrayobj import populate_array

from ... import activations as codes
from ...flat import views
from ..jit import _OPTIONS, entry, inlined, outlined, source_stamp
from ..tile.gemm import SUM_BLOCK
from ..tile.loss_rows import softmax_row
from ..vector.functions import VECTOR_FUNCTIONS
from ..vector.panels import panel_width, python_panel_width, round_up
from ..vector.pointers import broadcast, constant, get, lanes, load, put, step, store
from ..vector.simd import I64, VECTOR_BYTES, Vector, fma, vector_ir
from .layout import cache_aligned

GROUP = 4                        # vectors summed side by side: an FMA takes 4 cycles, and two can start in each
FARTHEST = 1e9                   # past this a clipped input is the clip to the last bit
STACK_BYTES = 1 << 18            # hidden layers of a row live on the stack, which may be as small as 512 KiB


class RowNet:
    """A net for one row at a time: ``net(row, out)``. `MLP.as_njit` makes one.

    sizes, activations (codes), dtype : what the code is compiled for
    packed : the weights, in the layout of this module
    """

    def __init__(self, parameters, sizes, activations, scale, clipping=None):
        """clipping : (center (n_in,), factor (n_in,), clip, offset (n_out,)): reads s / √(1 + (s / clip)²), of
        (x - center) factor, in float64; offset is added to the outputs, in float64, too"""
        self.sizes, self.activations = tuple(map(int, sizes)), tuple(map(int, activations))
        self.dtype, self.clips = parameters.dtype, clipping is not None
        if 2 * room(self.sizes, self.dtype, self.clips) * self.dtype.itemsize > STACK_BYTES:
            widest = max(self.sizes[0 if self.clips else 1:])
            raise ValueError(f"as_njit keeps a row's layers on the stack: layers of at most "
                             f"{STACK_BYTES // 2 // self.dtype.itemsize:,} units, got {widest:,}")
        self.packed = pack(parameters, self.sizes, scale, clipping)

    @functools.cached_property
    def _numba_type_(self):
        return RowNetType(self.dtype.name, self.sizes, self.activations, self.clips, source_stamp()[:16])

    def __call__(self, row, out):
        """out[:] = the net's outputs for one row.

        row : (n_in,) numbers; out : (n_out,) float32 or float64, written. Any strides; both are NumPy arrays.
        Raises ValueError for other lengths.
        """
        call(self, row, out)

    def __reduce__(self):
        return _restore, (self.sizes, self.activations, self.clips, self.packed, layout())

    def __repr__(self):
        names = ", ".join(codes.NAMES[code] for code in self.activations)
        return f"RowNet({'-'.join(map(str, self.sizes))}, {names}, {self.dtype}): call it as net(row, out)"


def room(sizes, dtype, clips):
    """Numbers that the widest layer's outputs take, in whole panels; clipped inputs are kept as a layer is."""
    return round_up(max(sizes[0 if clips else 1:]), python_panel_width(dtype))


def packed_size(sizes, dtype):
    """Numbers in the layers' layout."""
    vector = VECTOR_BYTES // np.dtype(dtype).itemsize
    return sum((n_in + 1) * round_up(n_out, vector) for n_in, n_out in pairwise(sizes))


def pack(parameters, sizes, scale, clipping):
    """The weights in this module's layout; the input's scale goes into the first layer's W, clipping to the end."""
    parts, vector = [], VECTOR_BYTES // parameters.itemsize
    for weights, biases in zip(*views(parameters, sizes), strict=True):
        n_in, n_out = weights.shape
        w = np.zeros((n_in, round_up(n_out, vector)), parameters.dtype)
        b = np.zeros(w.shape[1], parameters.dtype)
        w[:, :n_out], b[:n_out] = weights, biases
        if not parts:
            w = (w * np.float64(scale)).astype(parameters.dtype)
        grouped = w.shape[1] // (GROUP * vector) * GROUP * vector
        for columns, width in ((w[:, :grouped], GROUP * vector), (w[:, grouped:], vector)):
            parts.append(columns.reshape(n_in, -1, width).transpose(1, 0, 2).reshape(-1))
        parts.append(b)
    if clipping is not None:
        numbers = np.concatenate([np.ravel(part).astype(np.float64) for part in clipping])
        parts.append(numbers.view(parameters.dtype))  # at an even offset: the vectors before it are whole
    packed = cache_aligned(sum(part.size for part in parts), parameters.dtype)
    np.concatenate(parts, out=packed)
    return packed


def layout():
    """What the layout of packed weights depends on besides the net: the sources, and the width of vectors."""
    return source_stamp()[:16], VECTOR_BYTES


def _restore(sizes, activations, clips, packed, made_for=None):
    """made_for : the `layout` of the process that pickled it, which may have been another version's or machine's."""
    if made_for != layout():
        raise ValueError("this pickled RowNet holds weights in the layout of another version or another kind of CPU: "
                         "pickle the model instead, and call its as_njit() here")
    return _row_net(sizes, activations, clips, packed)


def _row_net(sizes, activations, clips, packed):
    net = object.__new__(RowNet)
    net.sizes, net.activations, net.clips, net.dtype, net.packed = sizes, activations, clips, packed.dtype, packed
    return net


# ------------------------------------------------------------------------------- the Numba type

class RowNetType(types.Type):
    """`stamp`: the kernels' sources; code that others compiled for an older layout must not read new weights."""

    def __init__(self, dtype, sizes, activations, clips, stamp):
        self.dtype_name, self.sizes, self.activations, self.clips, self.stamp = dtype, sizes, activations, clips, stamp
        super().__init__(name=f"RowNet({dtype}, {sizes}, {activations}, {clips}, {stamp})")

    @property
    def dtype(self):
        return types.float32 if self.dtype_name == "float32" else types.float64


    @property
    def packed(self):
        return types.Array(self.dtype, 1, "C")


@register_default(RowNetType)
class _RowNetModel(StructModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, [("packed", fe_type.packed)])


@unbox(RowNetType)
def _unbox_row_net(typ, obj, c):
    packed = c.pyapi.object_getattr_string(obj, "packed")
    array = c.unbox(typ.packed, packed)
    c.pyapi.decref(packed)                        # the array's own count keeps it from here on
    net = cgutils.create_struct_proxy(typ)(c.context, c.builder)
    net.packed = array.value
    return NativeValue(net._getvalue(), is_error=array.is_error, cleanup=array.cleanup)


@box(RowNetType)
def _box_row_net(typ, value, c):
    """A RowNet of the same weights: what Python gets back out of a typed list or a jitclass."""
    net = cgutils.create_struct_proxy(typ)(c.context, c.builder, value)
    restore = c.pyapi.unserialize(c.pyapi.serialize_object(
        functools.partial(_row_net, typ.sizes, typ.activations, typ.clips)))
    packed = c.box(typ.packed, net.packed)
    boxed = c.pyapi.call_function_objargs(restore, (packed,))
    c.pyapi.decref(restore)
    c.pyapi.decref(packed)
    return boxed


_frozen = {}


@lower_constant(RowNetType)
def _constant_row_net(context, builder, typ, net):
    _frozen[id(net)] = net                        # code that holds an address must not outlive what lies there
    array = context.make_array(typ.packed)(context, builder)
    address = context.add_dynamic_addr(builder, net.packed.ctypes.data, info="RowNet")
    itemsize, size = (ir.Constant(I64, number) for number in (net.packed.itemsize, net.packed.size))
    populate_array(array, data=builder.bitcast(address, array.data.type), shape=[size], strides=[itemsize],
                   itemsize=itemsize, meminfo=None)
    struct = cgutils.create_struct_proxy(typ)(context, builder)
    struct.packed = array._getvalue()
    return struct._getvalue()


@intrinsic
def _weights(typingctx, net):
    """The packed weights' pointer."""

    def codegen(context, builder, sig, args):
        packed = cgutils.create_struct_proxy(net)(context, builder, args[0]).packed
        return context.make_array(net.packed)(context, builder, packed).data

    return types.CPointer(net.dtype)(net), codegen


@intrinsic
def _stack(typingctx, count, like):
    """Room for `count` (a literal) numbers of the pointer's type, until the function returns."""
    if not isinstance(count, types.IntegerLiteral):
        raise TypingError("count must be a literal")

    def codegen(context, builder, sig, args):
        vector = vector_ir(Vector(like.dtype))         # as vectors, to be aligned like vectors
        room = cgutils.alloca_once(builder, vector, size=ir.Constant(I64, -(-count.literal_value // vector.count)))
        return builder.bitcast(room, context.get_value_type(sig.return_type))

    return like(count, like), codegen


# ------------------------------------------------------------------------------- one layer

@inlined
def _identity(code, z):
    return z


@functools.cache
def _activation(used):
    """apply(code, z) for the codes in `used` only: exp, tanh and erf are compiled into nobody's code in vain."""
    apply = _identity
    for code in used:
        if code in VECTOR_FUNCTIONS:
            apply = _one_more(code, VECTOR_FUNCTIONS[code], apply)
    return apply


def _one_more(known, function, others):
    @inlined
    def apply(code, z):
        if code == known:
            return function(z)
        return others(code, z)

    return apply


@inlined
def _from_array(x, i, like):
    return constant(x[i], like)


@inlined
def _from_pointer(x, i, like):
    return get(x, i)


@functools.cache
def _layer(element, used):
    """y = f(x W + b) for a row x, whose elements `element` reads."""
    activation = _activation(used)

    @inlined
    def group(x, n_in, w, b, code, y):
        v, zero = lanes(w), broadcast(0.0, w)
        s0, s1, s2, s3 = load(b, 0), load(b, v), load(b, 2 * v), load(b, 3 * v)
        t0, t1, t2, t3 = zero, zero, zero, zero                # the sums of whole blocks
        for first in range(0, n_in, SUM_BLOCK):
            for i in range(first, min(n_in, first + SUM_BLOCK)):
                value, offset = broadcast(element(x, i, w), w), i * GROUP * v
                s0 = fma(load(w, offset), value, s0)
                s1 = fma(load(w, offset + v), value, s1)
                s2 = fma(load(w, offset + 2 * v), value, s2)
                s3 = fma(load(w, offset + 3 * v), value, s3)
            t0, t1, t2, t3 = t0 + s0, t1 + s1, t2 + s2, t3 + s3
            s0, s1, s2, s3 = zero, zero, zero, zero
        store(y, 0, activation(code, t0))
        store(y, v, activation(code, t1))
        store(y, 2 * v, activation(code, t2))
        store(y, 3 * v, activation(code, t3))

    @inlined
    def single(x, n_in, w, b, code, y):
        v, zero = lanes(w), broadcast(0.0, w)
        s0, s1, s2, s3 = load(b, 0), zero, zero, zero
        total = zero                                           # of whole blocks
        for first in range(0, n_in, SUM_BLOCK):
            limit = min(n_in, first + SUM_BLOCK)
            complete = limit - limit % GROUP
            for i in range(first, complete, GROUP):
                s0 = fma(load(w, i * v), element(x, i, w), s0)
                s1 = fma(load(w, (i + 1) * v), element(x, i + 1, w), s1)
                s2 = fma(load(w, (i + 2) * v), element(x, i + 2, w), s2)
                s3 = fma(load(w, (i + 3) * v), element(x, i + 3, w), s3)
            for i in range(complete, limit):
                s0 = fma(load(w, i * v), element(x, i, w), s0)
            total = total + ((s0 + s1) + (s2 + s3))
            s0, s1, s2, s3 = zero, zero, zero, zero
        store(y, 0, activation(code, total))

    @outlined
    def layer(x, n_in, w, n_out, code, y):
        v = lanes(w)
        padded = (n_out + v - 1) // v * v
        grouped = padded // (GROUP * v) * (GROUP * v)
        b = step(w, n_in * padded)
        for c in range(0, grouped, GROUP * v):
            group(x, n_in, step(w, n_in * c), step(b, c), code, step(y, c))
        for c in range(grouped, padded, v):
            single(x, n_in, step(w, n_in * c), step(b, c), code, step(y, c))
        return step(b, padded)

    return layer


@inlined
def _minus_float(value, center):
    return np.float64(value) - center


@inlined
def _minus_integer(value, center):
    """Of integers of 64 bits without rounding them first."""
    return np.float64(value >> 32) * 4294967296.0 - center + np.float64(value & 0xffffffff)


@functools.cache
def _clipped(minus):
    """clipped(row, count, clipping, out), for rows of which `minus` takes the center."""
    @outlined
    def clipped(row, count, clipping, out):
        """out = s / √(1 + (s / clip)²), s = (row - center) factor held within ±FARTHEST; NaN stays NaN. In float64: a
        row rounded to float32 before it is centred would lose what is small next to the center."""
        clip = get(clipping, 2 * count)
        for i in range(count):
            s = minus(row[i], get(clipping, i)) * get(clipping, count + i)
            if s > FARTHEST:
                s = FARTHEST
            elif s < -FARTHEST:
                s = -FARTHEST
            part = s / clip
            put(out, i, s / math.sqrt(1.0 + part * part))

    return clipped


@intrinsic
def _float64(typingctx, pointer):
    """The same address, of float64 numbers."""
    result = types.CPointer(types.float64)

    def codegen(context, builder, sig, args):
        return builder.bitcast(args[0], context.get_value_type(result))

    return result(pointer), codegen


# ------------------------------------------------------------------------------- the whole net

@overload_method(RowNetType, "__call__", jit_options=_OPTIONS)
def _call_row_net(net, row, out):
    for name, array in (("row", row), ("out", out)):
        if not isinstance(array, types.Array) or array.ndim != 1 or not isinstance(array.dtype, types.Number):
            raise TypingError(f"net(row, out): {name} must be a one-dimensional array of numbers, got {array}")
    if not isinstance(out.dtype, types.Float) or not out.mutable:
        raise TypingError(f"net(row, out): out must be a writable array of float32 or float64, got {out}")
    sizes, activations = net.sizes, net.activations
    n_in, n_out, layers = sizes[0], sizes[-1], len(activations)
    softmax = activations[-1] == codes.SOFTMAX
    clips, stack_size = net.clips, room(sizes, net.dtype_name, net.clips)
    after_weights = packed_size(sizes, net.dtype_name)
    message = f"net(row, out): row must have {n_in} numbers and out {n_out}"
    used = tuple(sorted(set(activations)))
    clipped = _clipped(_minus_integer if isinstance(row.dtype, types.Integer) and row.dtype.bitwidth == 64
                       else _minus_float)
    first, inner = _layer(_from_array, used), _layer(_from_pointer, used)

    def call(net, row, out):
        if row.shape[0] != n_in or out.shape[0] != n_out:
            raise ValueError(message)
        w = _weights(net)
        x, y = _stack(stack_size, w), _stack(stack_size, w)
        if clips:
            clipping = _float64(step(w, after_weights))
            clipped(row, n_in, clipping, x)
            w = inner(x, n_in, w, sizes[1], activations[0], y)
        else:
            w = first(row, n_in, w, sizes[1], activations[0], y)
        for l in range(1, layers):
            x, y = y, x
            w = inner(x, sizes[l], w, sizes[l + 1], activations[l], y)
        if softmax:
            softmax_row(y, panel_width(y), n_out, y)
        for j in range(n_out):
            if clips:
                out[j] = np.float64(get(y, j)) + get(clipping, 2 * n_in + 1 + j)
            else:
                out[j] = get(y, j)

    return call


@lower_builtin(RowNetType, RowNetType, types.Array, types.Array)
def _lower_call(context, builder, sig, args):
    """Numba finds the types of a call of an instance by its method `__call__`, and its code under the type itself."""
    return context.get_function((RowNetType, "__call__"), sig)(builder, args)


@entry
def call(net, row, out):
    """net(row, out), for Python."""
    net(row, out)
