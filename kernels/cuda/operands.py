"""What every operation asks of its operands, before any kernel runs: as `kernels.cpu.operands`, for arrays anywhere.

An array is known by its interface (`__cuda_array_interface__`, or `__array_interface__` of NumPy's): where it begins,
its shape and strides, whether it may be written. What is in it stays unread, but for indices: `inside`.
"""
import functools
import math
import re
from typing import NamedTuple

import numpy as np

from .shims import cuda
from .steps import THREADS
from .streams import is_on_gpu

# name, dtype if it is not the floats' common one, dimensions, and "?" if the operand may be left out
_OPERAND = re.compile(r"(\w+)(?: (uint8 or float|int64|float64|bool))? \(([^)]*)\)(\?)?")
_DIMENSION = re.compile(r"(\w+)(?: \+ (\d+))?")
_COUNTS = {1: "one-dimensional", 2: "two-dimensional"}


class Operand(NamedTuple):
    """One operand of a contract."""

    name: str
    kind: str
    dimensions: tuple                # of (letter or number, what is added to it)
    optional: bool
    written: bool

    def __str__(self):
        sizes = [letter + (f" + {more}" if more else "") for letter, more in self.dimensions]
        return f"{self.name} ({', '.join(sizes)}{',' * (len(sizes) == 1)})"


class Memory(NamedTuple):
    """What is known of an array without looking into it."""

    shape: tuple
    dtype: np.dtype
    start: int
    writable: bool
    contiguous: bool

    @property
    def end(self):
        return self.start + math.prod(self.shape) * self.dtype.itemsize


@functools.cache
def parsed(contract):
    """"x (m, k), w (k, n) -> y (m, n)" as operands; those behind the arrow are written."""
    reads, _, writes = contract.partition("->")
    return tuple(
        Operand(name, kind, tuple((letter, int(more or 0)) for letter, more in _DIMENSION.findall(dimensions)),
                bool(optional), written)
        for part, written in ((reads, False), (writes, True))
        for name, kind, dimensions, optional in _OPERAND.findall(part))


def is_given(array):
    """Whether an operand that may be left out is there: None and an empty array mean that it is not."""
    return array is not None and 0 not in tuple(getattr(array, "shape", ()))


def memory_of(array):
    """`Memory` of an array on the GPU or of NumPy's, None for anything else."""
    interface = getattr(array, "__cuda_array_interface__", None)
    if interface is None:
        if not isinstance(array, np.ndarray):
            return None
        interface = array.__array_interface__
    dtype, shape, strides = np.dtype(interface["typestr"]), tuple(interface["shape"]), interface.get("strides")
    start, read_only = interface["data"]
    contiguous, step = True, dtype.itemsize
    if strides is not None and 0 not in shape:
        for size, stride in zip(reversed(shape), reversed(strides), strict=True):
            contiguous = contiguous and (size == 1 or stride == step)
            step *= size
    return Memory(shape, dtype, start, not read_only, contiguous and start % dtype.itemsize == 0)


def check(operation, contract, *arrays, may_be=()):
    """TypeError or ValueError unless the arrays keep the contract; else what its letters stand for, {"m": 5, ...}.

    contract : "x (m, k), w (k, n), weights (m,)? -> y (m, n)": a letter is one number wherever it stands, `any` is any
        number; what has a "?" may be None or empty; what stands behind the arrow is written
    may_be : (written, other) names of operands that may be the same memory
    """
    sizes, common, found = {}, None, {}
    for operand, array in zip(parsed(contract), arrays, strict=True):
        if operand.optional and not is_given(array):
            continue
        memory = _kept(operation, operand, array)
        if operand.kind == "" or (operand.kind == "uint8 or float" and memory.dtype != np.uint8):
            common = common or (operand.name, memory.dtype)
            if memory.dtype != common[1]:
                raise TypeError(f"{operation}: all float arrays must have one dtype, got {common[0]} {common[1]}, "
                                f"{operand.name} {memory.dtype}")
        found[operand] = memory
    for operand, memory in found.items():
        for (letter, more), size in zip(operand.dimensions, memory.shape, strict=True):
            wanted = int(letter) if letter.isdigit() else sizes.setdefault(letter, size - more)
            if letter != "any" and wanted + more != size:
                raise ValueError(f"{operation}: needs {', '.join(map(str, found))}, got "
                                 + ", ".join(f"{o.name} {m.shape}" for o, m in found.items()))
    _check_apart(operation, found, may_be)
    return sizes


def _kept(operation, operand, array):
    """The operand's `Memory`, valid by itself: kind of array, dtype, dimensions, contiguous, writable."""
    name, memory = f"{operation}: {operand.name}", memory_of(array)
    if memory is None:
        raise TypeError(f"{name} must be a NumPy array or one on the GPU (CuPy, PyTorch, Numba), got "
                        f"{type(array).__name__}")
    wanted = {"": "float32 or float64", "uint8 or float": "uint8, float32 or float64"}.get(operand.kind, operand.kind)
    if memory.dtype.name not in wanted.replace(",", "").split():
        raise TypeError(f"{name} must be {wanted}, got {memory.dtype}: convert it first")
    if len(memory.shape) != len(operand.dimensions):
        raise ValueError(f"{name} must be a {_COUNTS[len(operand.dimensions)]} array, got shape {memory.shape}")
    if not memory.contiguous:
        raise ValueError(f"{name} must be C-contiguous and aligned: pass a contiguous copy, such as "
                         "cupy.ascontiguousarray(...)")
    if operand.written and not memory.writable:
        raise ValueError(f"{name} is written, but it is read-only: pass an array of your own, such as cupy.empty(...)")
    return memory


def _check_apart(operation, found, may_be):
    """What is written shares no byte with another operand, unless it is that operand."""
    for written, memory in found.items():
        for other, its in found.items():
            if not written.written or other is written or memory.end <= its.start or its.end <= memory.start:
                continue
            allowed = (written.name, other.name) in may_be
            if not allowed or memory.start != its.start:
                rule = f"may be {other.name}, but must not overlap it otherwise" if allowed else \
                    f"must not share memory with {other.name}"
                raise ValueError(f"{operation}: {written.name} is written: it {rule}")


def integer(operation, name, value, low):
    """`value` is an integer of at least `low`."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{operation}: {name} must be a whole number, got {value!r}")
    if value < low:
        raise ValueError(f"{operation}: {name} must be at least {low}, got {value}")


def one_of(operation, name, value, codes, what):
    """`value` is one of these codes; `what` says of what."""
    integer(operation, name, value, 0)
    if value not in codes:
        raise ValueError(f"{operation}: {name} must be {what}, got {value}")


@cuda.jit(launch_bounds=THREADS)
def outside(indices, count, limit, found):
    """found[0] = 1 if any of the indices is not in 0 .. limit - 1. One block; found begins as 0."""
    for i in range(cuda.threadIdx.x, count, THREADS):
        if indices[i] < 0 or indices[i] >= limit:
            found[0] = 1                                       # whoever writes, writes the same


def inside(operation, name, indices, limit, queue):
    """ValueError unless all indices lie in 0 .. limit - 1; waits for the queue if they are on the GPU."""
    if not is_on_gpu(indices):
        wrong = indices.size and (indices.min() < 0 or indices.max() >= limit)
    else:
        found = queue.upload(np.zeros(1, np.int64))
        queue.run(outside, 1, THREADS, queue.read(indices), indices.shape[0], limit, found)
        wrong = queue.download(found)[0]
    if wrong:
        raise ValueError(f"{operation}: {name} must lie in 0 .. {limit - 1}")
