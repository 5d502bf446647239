"""Checks of single options: every error names the argument, what is allowed, what came, and often the fix."""
import difflib
import math
import operator
import os
from pathlib import Path

import numpy as np

from .kernels.flat import n_parameters

ANY_MACHINE = 64 << 20       # bytes that every machine has: to look how many it has takes 75 µs


def integer(name, value, minimum=1):
    """`value` as an int of at least `minimum`; TypeError or ValueError otherwise."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number of at least {minimum}, got {value!r}") from None
    if number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {number}")
    return number


def real(name, value, *, above=None, minimum=None, below=None):
    """`value` as a finite float with `above` < value, `minimum` <= value, value < `below` where given."""
    bounds = [text for text, bound in (("above {}", above), ("at least {}", minimum), ("below {}", below))
              if bound is not None for text in (text.format(bound),)]
    allowed = " and ".join(["a finite number", *bounds]) if not bounds else "a finite number " + " and ".join(bounds)
    try:
        if isinstance(value, bool | np.bool_ | str):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be {allowed}, got {value!r}") from None
    if (not math.isfinite(number) or (above is not None and number <= above)
            or (minimum is not None and number < minimum) or (below is not None and number >= below)):
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return number


def choice(name, value, allowed):
    """`value`, one of the names in `allowed`; the error suggests the nearest name."""
    if isinstance(value, str) and value in allowed:
        return str(value)
    near = difflib.get_close_matches(value.lower(), allowed, 1, 0.5) if isinstance(value, str) else ()
    hint = f"; did you mean {near[0]!r}?" if near else ""
    error = ValueError if isinstance(value, str) else TypeError
    raise error(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}{hint}")


def per_layer(name, value, layers, check):
    """A tuple of one checked value per hidden layer, from one value for all or a sequence of `layers` values."""
    one = isinstance(value, str) or not hasattr(value, "__len__") or (isinstance(value, np.ndarray) and value.ndim == 0)
    if one:
        return (check(name, value),) * layers
    values = tuple(value)
    if len(values) != layers:
        raise ValueError(f"{name} must be one value, or one for each of the {layers} hidden layers; "
                         f"got {len(values)} values: {values!r}")
    return tuple(check(f"{name}[{i}]", one) for i, one in enumerate(values))


def hidden_sizes(hidden):
    """`hidden` as a tuple of layer widths; one number means one hidden layer, () none."""
    if isinstance(hidden, str | bytes | dict) or hidden is None:
        raise TypeError(f"hidden must be a sequence of layer widths such as (100,), or () for none; got {hidden!r}")
    if not hasattr(hidden, "__iter__") or (isinstance(hidden, np.ndarray) and hidden.ndim == 0):
        return (integer("hidden", hidden),)
    return tuple(integer(f"hidden[{i}]", width) for i, width in enumerate(hidden))


def dtype(value):
    """`value` as numpy.dtype float32 or float64."""
    try:
        kind = np.dtype(value)
    except (TypeError, ValueError):
        kind = None
    if kind is None or value is None or kind not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"dtype must be 'float32' or 'float64', got {value!r}")
    return kind


def output(name, array, shape, dtype):
    """`array` if it can take values of this shape and dtype; TypeError or ValueError otherwise."""
    if not all(hasattr(array, attribute) for attribute in ("shape", "dtype", "__setitem__")):
        raise TypeError(f"{name} must be an array of shape {shape} and dtype {dtype}, got a {type(array).__name__}")
    if tuple(array.shape) != shape or not np.can_cast(dtype, array.dtype, "same_kind"):
        raise ValueError(f"{name} must have shape {shape} and a dtype that {dtype} can be cast to, got "
                         f"{tuple(array.shape)} of {array.dtype}")
    return array


def holds(name, array, values):
    """ValueError unless the dtype of `array` can hold each of `values`, labels: 300 would be 44 in int8."""
    dtype = getattr(array, "dtype", None)
    if dtype is None or not np.can_cast(values.dtype, dtype, "same_kind"):
        return                                   # for `output` to refuse
    with np.errstate(invalid="ignore", over="ignore"):
        lost = values.astype(dtype).astype(values.dtype) != values
    if lost.any():
        raise ValueError(f"{name} has dtype {dtype}, which cannot hold the label {values[lost][0].item()!r}; use "
                         f"{values.dtype}")


def apart(name, array, X, parameters):
    """ValueError if `array`, which is written piece by piece, shares memory with the parameters or with X.

    It may be X itself: a row is written when it has been read.
    """
    if not isinstance(array, np.ndarray):
        return
    if np.may_share_memory(array, parameters):
        raise ValueError(f"{name} must not share memory with the model: pass an array of its own")
    if isinstance(X, np.ndarray) and np.may_share_memory(array, X):
        (start, _), (its, _) = (each.__array_interface__["data"] for each in (array, X))
        if start != its or array.strides[:1] != X.strides[:1] or array[:1].nbytes > X[:1].nbytes:
            raise ValueError(f"{name} must not share memory with X, unless it is X: pass an array of its own")


def fits_in_memory(sizes, copies, batch_size, itemsize):
    """Raise ValueError if a net of layer `sizes` cannot fit the machine, before anything is allocated.

    copies : how many arrays of the parameters' size training keeps. A batch keeps each layer's output and gradient.
    """
    count = n_parameters(sizes)
    need = itemsize * (copies * count + 2 * batch_size * sum(sizes))
    shape = "-".join(map(str, sizes)) if len(sizes) < 20 else f"{len(sizes) - 1}-layer"
    affordable(need, f"hidden: a {shape} net has {count:,} parameters; with a batch of {batch_size:,} rows it needs",
               "use narrower layers or a smaller batch_size")


def affordable(need, what, remedy):
    """Raise ValueError if `need` bytes are more than the machine has, before anything is allocated.

    what : names the argument and says what needs them, as the beginning of the sentence; remedy : its end
    """
    if need > ANY_MACHINE and need > (have := machine_memory()):
        raise ValueError(f"{what} {need / 2**30:,.1f} GiB and this machine has {have / 2**30:,.1f} GiB: {remedy}")


def machine_memory():
    """Bytes of memory that this process may fill: the machine's, or less where a container sets a limit."""
    try:
        have = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows: no such question; refuse only the absurd
        return 1 << 42
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            have = min(have, int(Path(limit).read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return have
