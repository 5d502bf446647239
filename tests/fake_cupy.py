"""A stand-in for CuPy: NumPy underneath, but as strict as CuPy about what crosses between GPU and host.

Nothing turns into a NumPy array by itself; `COPIES` notes the size of every array that is copied to the host and of
every number that is read, as CuPy's reductions give arrays of no dimensions. Only what fastmlp uses is here.
"""
import contextlib
import operator
from types import SimpleNamespace

import numpy as np

COPIES = []                          # how many numbers were copied to the host, one entry a copy
OPERATORS = ("lt", "le", "gt", "ge", "eq", "ne", "add", "sub", "mul", "truediv", "and_", "or_")
METHODS = ("all", "any", "argmax", "argmin", "astype", "copy", "max", "mean", "min", "ravel", "reshape", "round", "sum")


def on_host(value):
    """What NumPy is given in place of an argument."""
    if isinstance(value, ndarray):
        return value.array
    if isinstance(value, tuple):
        return tuple(map(on_host, value))
    assert not (isinstance(value, np.ndarray) and value.ndim), "CuPy takes no NumPy array here"
    return value


class ndarray:
    __hash__ = None

    def __init__(self, array):
        self.array = np.asarray(array)

    shape, dtype, ndim, size, flags = (property(operator.attrgetter(f"array.{name}")) for name in
                                       ("shape", "dtype", "ndim", "size", "flags"))

    device = SimpleNamespace(id=0)

    @property
    def __cuda_array_interface__(self):
        return {**self.array.__array_interface__, "stream": 1}

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def get(self, stream=None):
        COPIES.append(self.size)
        return self.array.copy()

    def item(self):
        assert self.size == 1
        COPIES.append(1)
        return self.array.item()

    def __array_ufunc__(self, ufunc, method, *inputs, **named):
        assert method == "__call__"
        return ndarray(ufunc(*map(on_host, inputs), **named))

    def __array_function__(self, function, types, args, named):
        return ndarray(function(*[[on_host(a) for a in arg] if isinstance(arg, list) else on_host(arg) for arg in args],
                                **named))

    def __len__(self):
        return len(self.array)

    def __getitem__(self, index):
        return ndarray(self.array[on_host(index)])

    def __setitem__(self, index, value):
        self.array[on_host(index)] = on_host(value)

    def __invert__(self):
        return ndarray(~self.array)

    def __rsub__(self, other):
        return ndarray(on_host(other) - self.array)

    def __bool__(self):
        return bool(self.item())

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    __index__ = __int__


def _operator(name):
    return lambda self, other: ndarray(getattr(operator, name)(self.array, on_host(other)))


def _method(name):
    return lambda self, *args, **named: ndarray(getattr(self.array, name)(*map(on_host, args), **named))


for _name in OPERATORS:
    setattr(ndarray, f"__{_name.strip('_')}__", _operator(_name))
for _name in METHODS:
    setattr(ndarray, _name, _method(_name))


def _function(name):
    return lambda *args, **named: ndarray(getattr(np, name)(*map(on_host, args), **named))


abs, arange, bincount, empty, full, hstack, isfinite, minimum, searchsorted, unique, where, zeros = map(
    _function, ("abs", "arange", "bincount", "empty", "full", "hstack", "isfinite", "minimum", "searchsorted",
                "unique", "where", "zeros"))
empty_like = _function("empty_like")


def asarray(array, dtype=None):
    """Of a NumPy array a copy; of anything in the GPU's memory a view."""
    if isinstance(array, ndarray):
        return array if dtype is None or array.dtype == dtype else array.astype(dtype)
    interface = getattr(array, "__cuda_array_interface__", None)
    if interface is None:
        return ndarray(np.array(array, dtype))
    return asarray(ndarray(np.asarray(SimpleNamespace(__array_interface__=interface, keep=array))), dtype)


def ascontiguousarray(array, dtype=None):
    return ndarray(np.ascontiguousarray(asarray(array).array, dtype))


cuda = SimpleNamespace(ExternalStream=contextlib.nullcontext, Device=lambda: SimpleNamespace(id=0),
                       get_current_stream=lambda: SimpleNamespace(synchronize=lambda: None))
