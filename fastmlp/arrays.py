"""From whatever people pass as X (lists, arrays, frames) to one C-order numeric matrix, or a clear error.

Nothing here changes its input, and an array that already is what the kernels read is not copied.
"""
import numpy as np

_BLOCK = 1 << 20  # elements looked at together when searching for NaN: 4-8 MB, no copy of the whole


def is_frame(value):
    """Whether `value` is a pandas or polars frame, by the two attributes used of it."""
    return hasattr(value, "columns") and hasattr(value, "to_numpy")


def is_on_gpu(value):
    """Whether `value` is an array in a GPU's memory: CuPy's, PyTorch's, Numba's."""
    if hasattr(value, "is_cuda"):                # a tensor of PyTorch's, which may also lie in main memory
        return bool(value.is_cuda)
    return hasattr(type(value), "__cuda_array_interface__")


def host_copy(value):
    """An array in a GPU's memory as a NumPy array."""
    if hasattr(value, "is_cuda"):
        return value.detach().cpu().numpy()
    return value.get() if hasattr(value, "get") else value.copy_to_host()


def in_kind(answer, question):
    """A NumPy array as the kind of array that was asked with: on the GPU for one there, as CuPy's or PyTorch's. Labels
    that are text stay NumPy's."""
    if not is_on_gpu(question) or answer.dtype.kind not in "biuf":
        return answer
    if hasattr(question, "is_cuda"):
        import torch

        return torch.as_tensor(answer, device=question.device)
    import cupy

    return cupy.asarray(answer)


def as_array(value, name):
    """`value` as a NumPy array (no copy where it is one in main memory); TypeError or ValueError if it cannot be."""
    if value is None:
        raise TypeError(f"{name} is None; an array was expected")
    if hasattr(value, "tocsr"):
        raise TypeError(f"{name} is a sparse matrix, which fastmlp does not read; pass {name}.toarray()")
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; fill its masked entries first, for instance {name}.filled(0)")
    if is_on_gpu(value):
        value = host_copy(value)
    try:
        array = np.asarray(value.to_numpy() if hasattr(value, "to_numpy") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} cannot be read as an array of numbers or labels: {error}") from None
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def feature_matrix(value, name, dtype):
    """X as the kernels read it.

    Returns
    -------
    x : (n, features) uint8 as it came, or any other numeric input in `dtype`; C-order, finite
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
        return np.ascontiguousarray(array), names
    return to_float(array, name, dtype), names


def to_float(array, name, dtype, first_row=0):
    """A numeric `array` in `dtype`, C-order, finite; no copy where it already is.

    first_row : the number of its first row, where it is a piece of what people passed
    """
    with np.errstate(over="ignore", invalid="ignore"):
        x = np.require(array, dtype, "CA")
    where = first_non_finite(x)
    if where is not None:
        found = array[where]
        where = (where[0] + first_row, *where[1:])
        if np.isfinite(found):
            raise ValueError(f"{name} holds {found:.3g} at {_place(where)}, too large for dtype {np.dtype(dtype)}: "
                             f"scale {name}, or pass dtype='float64'")
        raise ValueError(f"{name} must be finite, got {found} at {_place(where)}; "
                         f"fill or drop such rows, for instance with numpy.nan_to_num")
    return x


def first_non_finite(x):
    """The index (a tuple) of the first NaN or infinity in C-order `x`, or None; copies nothing but a block's mask."""
    if x.dtype.kind != "f":
        return None
    flat = x.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        block = flat[start:start + _BLOCK]
        with np.errstate(over="ignore", invalid="ignore"):
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
