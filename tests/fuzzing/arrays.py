"""Good data, and arrays to spoil or to disguise: how they lie in memory, their dtype, shape and values."""
import tempfile
import time
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz"))


def memory_mapped(array, mode="r"):
    path = FOLDER / f"{time.perf_counter_ns()}.npy"
    np.save(path, array)
    mapped = np.load(path, mmap_mode=mode)
    path.unlink()
    return mapped


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def unaligned(array):
    raw = np.zeros(array.nbytes + 1, np.uint8)
    view = raw[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def with_value(value):
    def spoil(array):
        array = np.array(array, dtype=array.dtype if array.dtype.kind == "f" else float)
        if array.size:
            array.reshape(-1)[array.size // 2] = value
        return array
    return spoil


def sparse(array):
    from scipy.sparse import csr_array
    return csr_array(np.atleast_2d(array))


def frame(array):
    import pandas
    return pandas.DataFrame(array) if array.ndim == 2 else pandas.Series(array)


LAYOUTS = {  # the same numbers in another guise: right, or (frames aside) refused
    "Fortran": np.asfortranarray, "strided": lambda a: np.repeat(a, 2, axis=0)[::2], "read-only": read_only,
    "reversed": lambda a: np.flip(np.flip(a).copy()), "mapped": memory_mapped, "unaligned": unaligned,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")), "list": lambda a: a.tolist(), "frame": frame,
    "float64": lambda a: a.astype(np.float64), "longdouble": lambda a: a.astype(np.longdouble),
    "transposed twice": lambda a: a.T.copy().T,
}
SPOILS = {
    "nan": with_value(np.nan), "inf": with_value(np.inf), "-inf": with_value(-np.inf), "huge": with_value(1e30),
    "huger": with_value(1e300), "denormal": with_value(1e-42), "all denormal": lambda a: np.full_like(a, 1e-42, float),
    "large": lambda a: a * 1e4, "empty": lambda a: a[:0], "one row": lambda a: a[:1], "no columns": lambda a: a[:, :0],
    "flat": lambda a: a.reshape(-1), "deep": lambda a: a[..., None], "short": lambda a: a[:-1], "scalar": lambda a: 3.0,
    "none": lambda a: None, "text": lambda a: a.astype(str), "object": lambda a: a.astype(object),
    "complex": lambda a: a + 1j, "half": lambda a: a.astype(np.float16), "int8": lambda a: a.astype(np.int8),
    "uint8": lambda a: np.abs(a).astype(np.uint8), "bool": lambda a: a > 0, "int64": lambda a: a.astype(np.int64),
    "masked": lambda a: np.ma.masked_array(a, a > 0), "sparse": sparse, "zero": np.zeros_like,
    "structured": lambda a: np.zeros(len(a), "f4,i4"), "dates": lambda a: np.full(len(a), np.datetime64("2024")),
    "bytes": lambda a: a.tobytes(), "dict": lambda a: {"a": a}, "mixed": lambda a: [*a.tolist(), "a", None],
}


@st.composite
def disguised(draw, array):
    """The array, usually as it is; else in another guise, spoilt, or both."""
    twist = draw(st.integers(0, 5))
    with np.errstate(all="ignore"):
        try:
            if twist in (1, 3):
                array = SPOILS[draw(st.sampled_from(sorted(SPOILS)))](array)
            if twist in (2, 3):
                array = LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))](array)
        except (TypeError, ValueError, AttributeError, IndexError, NotImplementedError):
            pass  # not everything can be spoilt twice
    return array


@st.composite
def problems(draw):
    """A good X and y."""
    n, features = draw(st.sampled_from([2, 3, 7, 16, 33, 60])), draw(st.sampled_from([1, 2, 5, 17]))
    rng = np.random.default_rng(draw(st.integers(0, 2 ** 32)))
    X = rng.standard_normal((n, features)).astype(draw(st.sampled_from([np.float32, np.float64])))
    kind = draw(st.sampled_from(["classes", "two", "text", "numbers", "columns", "one-hot", "multilabel", "all",
                                 "images"]))
    index = np.arange(n) % {"two": 2, "all": n}.get(kind, 3)
    if kind == "images":
        X = rng.integers(0, 256, X.shape, dtype=np.uint8)
    y = {"text": np.array(["a", "b", "c"])[index % 3], "numbers": rng.standard_normal(n).astype(np.float32),
         "columns": rng.standard_normal((n, 2)), "one-hot": np.eye(3)[index % 3],
         "multilabel": rng.integers(0, 2, (n, 3))}.get(kind, index)
    return X, y
