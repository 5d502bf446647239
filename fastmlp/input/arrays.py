"""From whatever users pass as X (lists, arrays, frames) to one C-order numeric matrix, or a clear error.

Nothing here changes its input, and an array that already is what the kernels read is not copied. An array on a GPU is
copied to main memory, unless the kernels that will read it are on that GPU (`keep_on_gpu`): then it is CuPy's from here
on, checked where it is, and only a number or two come to the host.
"""
import warnings
from typing import NamedTuple

import numpy as np
import numpy.ma  # NumPy loads it when it is first named: then Ctrl-C or a fork might meet it half loaded

_BLOCK = 1 << 20  # elements looked at together when searching for NaN: 4-8 MB, no copy of the whole


def is_frame(value):
    """Whether `value` is a pandas or polars frame, by the two attributes used of it."""
    return hasattr(value, "columns") and hasattr(value, "to_numpy")


def is_on_gpu(value):
    """Whether `value` is an array in a GPU's memory: CuPy's, PyTorch's, Numba's, JAX's."""
    if hasattr(value, "is_cuda"):                # a tensor of PyTorch's, which may also lie in main memory
        return bool(value.is_cuda)
    # Asked of the array, not of its type: that of JAX has the interface, its arrays in main memory have not.
    return not isinstance(value, np.ndarray) and hasattr(value, "__cuda_array_interface__")


def host_copy(value):
    """An array in a GPU's memory as a NumPy array."""
    if hasattr(value, "is_cuda"):
        return tensor_on_host(value)
    for method in ("get", "copy_to_host"):       # CuPy's; Numba's
        if hasattr(value, method):
            return getattr(value, method)()
    return np.asarray(value)                     # JAX's


def tensor_on_host(tensor):
    """A tensor of PyTorch's as a NumPy array."""
    return _readable(tensor.detach()).cpu().numpy()


def _readable(tensor):
    """The tensor; in float32, which holds it exactly, if it is bfloat16, which neither NumPy nor CuPy has."""
    return tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor


def on_host(value):
    """The array in main memory."""
    return host_copy(value) if is_on_gpu(value) else value


class OnGpu(NamedTuple):
    """An array of CuPy's that is kept in its GPU's memory."""

    array: object


def keep_on_gpu(X, y, gpu):
    """X and y, as `OnGpu` where they lie on the GPU of this number and may be kept there; y is kept where X is.

    gpu : where the kernels are, None if in main memory. It must be CuPy's current GPU, which is where CuPy computes.
    """
    X = _keep_on_gpu(X, gpu, "biufc")
    return X, _keep_on_gpu(y, gpu if isinstance(X, OnGpu) else None, "iuf")


def _keep_on_gpu(value, gpu, kinds):
    if gpu is None or not is_on_gpu(value):
        return value
    import cupy

    if hasattr(value, "is_cuda"):                # PyTorch does not say on which stream it still computes the tensor
        import torch

        torch.cuda.current_stream(value.device).synchronize()
        value = _readable(value.detach())
    array = cupy.asarray(value)
    kept = array.dtype.kind in kinds and array.device.id == gpu == cupy.cuda.Device().id
    return OnGpu(array) if kept else value


def empty(shape, dtype, like):
    """A new array, where `like` is."""
    if not is_on_gpu(like):
        return np.empty(shape, dtype)
    import cupy

    return cupy.empty(shape, dtype)


def on_device_of(array, other):
    """The array, where `other` is."""
    if not is_on_gpu(other):
        return on_host(array)
    import cupy

    return cupy.asarray(array)


def chosen(choices, index):
    """choices[index] for NumPy's choices, where the index is; text, which no GPU holds, in main memory."""
    if choices.dtype.kind not in "biuf":
        return choices[on_host(index)]
    return on_device_of(choices, index)[index]


def take(array, rows):
    """array[rows] for NumPy's indices or a slice, where the array is."""
    return array[rows if isinstance(rows, slice) else on_device_of(rows, array)]


def like_input(predictions, X):
    """Predictions as the kind of array that X is: on the GPU for one there, as CuPy's or PyTorch's. Labels that are
    text are NumPy's."""
    if not is_on_gpu(X) or predictions.dtype.kind not in "biuf":
        return predictions
    import cupy

    if hasattr(X, "is_cuda"):
        import torch

        if is_on_gpu(predictions):                    # PyTorch may read it on another stream than CuPy's
            cupy.cuda.get_current_stream().synchronize()
        return torch.as_tensor(predictions, device=X.device)
    return cupy.asarray(predictions)


def as_array(value, name):
    """`value` as a NumPy array (no copy where it is one in main memory), or CuPy's if it is `OnGpu`; TypeError or
    ValueError if it cannot be."""
    if isinstance(value, OnGpu):
        return value.array
    if value is None:
        raise TypeError(f"{name} is None; an array was expected")
    if hasattr(value, "tocsr"):
        raise TypeError(f"{name} is a sparse matrix, which fastmlp does not read; pass {name}.toarray()")
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; fill its masked entries first, for instance {name}.filled(0)")
    try:
        value = host_copy(value) if hasattr(value, "is_cuda") else on_host(value)
        array = np.asarray(value.to_numpy() if hasattr(value, "to_numpy") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} cannot be read as an array of numbers or labels: {error}") from None
    if array.dtype.names is not None:
        raise ValueError(f"{name} must hold numbers, got dtype {array.dtype}, a structured array; pass its fields as "
                         f"columns, numpy.lib.recfunctions.structured_to_unstructured({name}), or a frame, "
                         f"pandas.DataFrame({name})")
    for exact in (np.int8, np.uint8, np.float32):
        if array.dtype.kind == "V" and np.can_cast(array.dtype, exact):
            return array.astype(exact)           # bfloat16, int4 and their like (ml_dtypes)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def own_float(array, dtype):
    """The dtype of floats that holds both the array's numbers and those of `dtype`: at most float64."""
    return min(np.result_type(array.dtype, dtype), np.dtype(np.float64), key=lambda kind: kind.itemsize)


def own_dtype(array, dtype):
    """As `own_float`, but 64-bit integers stay what they are: float64 has not their precision."""
    given = np.dtype(array.dtype)
    return given if given.kind in "iu" and given.itemsize == 8 else own_float(array, dtype)


def feature_matrix(value, name, dtype, wide=False, trained=False):
    """X as the kernels read it.

    trained : whether to warn of columns that `dtype` rounds too coarsely for a net to learn from them
    wide : whether numbers stay in their own precision if that is more than `dtype` has, for those who centre them

    Returns
    -------
    x : (n, features) uint8 as it came, or any other numeric input in `dtype` (wide: or more); C-order, finite. CuPy's
        if value is `OnGpu`, else NumPy's
    names : tuple of str, the columns of a frame; None for anything else
    """
    names = tuple(map(str, value.columns)) if is_frame(value) else None
    if names is not None and len(set(names)) < len(names):
        raise ValueError(f"{name} has columns of the same name: {sorted({n for n in names if names.count(n) > 1})}")
    array = as_array(value, name)
    if names is not None and array.dtype.kind not in "biuf":
        array = _frame_columns(value, name, names)
    if array.ndim != 2:
        hint = f" from a {type(value).__name__}" if array.ndim == 0 else ""
        if array.ndim == 1:
            hint = f"; use {name}.reshape(-1, 1) for one feature or {name}.reshape(1, -1) for one row"
        elif array.ndim > 2:
            hint = f"; use {name}.reshape(len({name}), -1) to make each row flat"
        raise ValueError(f"{name} must be two-dimensional (rows, features), got shape {array.shape}{hint}")
    if 0 in array.shape:
        raise ValueError(f"{name} must have at least one row and one feature, got shape {array.shape}")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold numbers, got dtype {array.dtype}: {_convert_hint(name, array.dtype)}")
    if array.dtype == np.uint8:
        return in_order(array, np.uint8), names
    own = own_dtype(array, dtype)
    x = to_float(array, name, own if wide else dtype)
    if trained and x.dtype != own and not is_on_gpu(x):
        _warn_of_rounding(array, x, name)
    return x, names


def to_float(array, name, dtype, first_row=0):
    """A numeric `array` in `dtype`, C-order, finite; no copy where it already is.

    first_row : the number of its first row, where it is a piece of the user's array
    """
    with np.errstate(all="ignore"):
        x = in_order(array, dtype)
    where = first_non_finite(x)
    if where is not None:
        found = array[where].item()
        where = (where[0] + first_row, *where[1:])
        if np.isfinite(found):
            raise ValueError(f"{name} holds {found:.3g} at {_place(where)}, too large for dtype {np.dtype(dtype)}: "
                             f"scale {name}, or pass dtype='float64'")
        raise ValueError(f"{name} must be finite, got {found} at {_place(where)}; "
                         f"fill or drop such rows, for instance with numpy.nan_to_num")
    return x


def lost_to_rounding(error, deviation):
    """Which columns a dtype rounds by more than a hundredth of what they vary by."""
    return (deviation > 0) & (error > 0.01 * deviation)


def _warn_of_rounding(exact, x, name):
    """Warn of the first column whose differences are lost in x, by some thousand rows."""
    every = -(-len(x) // 1000)
    exact, x = exact[::every].astype(np.float64), x[::every]
    with np.errstate(over="ignore", invalid="ignore"):
        error, deviation = np.sqrt(np.mean(np.square(x - exact), axis=0)), exact.std(axis=0)
    lost = lost_to_rounding(error, deviation)
    if lost.any():
        j = int(lost.argmax())
        warnings.warn(f"column {j} of {name} varies by {deviation[j]:.3g} around {exact[:, j].mean():.10g}, which "
                      f"{x.dtype} rounds by {error[j]:.2g}: subtract a constant from it, or pass scaling='robust' "
                      "(or preset='tabular'), which does so, or dtype='float64'", stacklevel=6)


def in_order(array, dtype):
    """The array in C order and this dtype, where it is; no copy where it already is so."""
    if is_on_gpu(array):
        import cupy

        return cupy.ascontiguousarray(array, dtype)
    return np.require(array, dtype, "CA")


def first_non_finite(x):
    """The index (a tuple) of the first NaN or infinity in C-order `x`, or None; copies nothing but a block's mask."""
    if x.dtype.kind != "f":
        return None
    flat = x.reshape(-1)
    size = flat.size if is_on_gpu(x) else _BLOCK  # on a GPU, every block is a wait
    for start in range(0, flat.size, size):
        block = flat[start:start + size]
        with np.errstate(all="ignore"):
            suspicious = not np.isfinite(block.sum())  # a sum costs less than a mask; it may overflow, so look again
        if suspicious:
            bad = ~np.isfinite(block)
            if bad.any():
                return tuple(int(i) for i in np.unravel_index(start + int(bad.argmax()), x.shape))
    return None


def _frame_columns(frame, name, names):
    """A frame whose columns have no common numeric dtype, column by column."""
    columns = [np.asarray(frame[column].to_numpy()) for column in frame.columns]
    wrong = [f"{n!r} ({c.dtype})" for n, c in zip(names, columns, strict=True) if c.dtype.kind not in "biuf"]
    if wrong:
        raise ValueError(f"{name} must have numeric columns without missing entries, got {', '.join(wrong[:5])}"
                         f"{' and more' if len(wrong) > 5 else ''}; encode or fill them first")
    return np.column_stack(columns)


def _convert_hint(name, dtype):
    if dtype.kind == "c":
        return f"pass {name}.real and {name}.imag as separate columns"
    if dtype.kind in "mM":
        return "turn dates and durations into numbers, for instance days since the first"
    return f"convert it first, for instance {name}.astype(float)"


def _place(where):
    return "row {}, column {}".format(*where) if len(where) == 2 else f"position {where[0]}"
