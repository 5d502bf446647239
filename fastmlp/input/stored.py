"""Data larger than memory: X is left in its file and read in windows of rows, one window ahead of the computation.

X may be a NumPy memory map or anything with `shape`, `dtype` and row slices ``X[a:b]`` that NumPy can read: a dataset
of h5py or zarr, a dask array. In memory are two windows of it, one computed with and one being read, and all of y.
Once an epoch has found a memory map finite, kernels that can read its rows where they lie do so.
Training draws them in the order that `distributed.sources` states.
"""
import logging
import mmap
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext

import numpy as np

from ..checks import machine_memory
from .arrays import feature_matrix, is_frame, is_on_gpu, on_host, to_float

log = logging.getLogger("fastmlp")
WINDOW_BYTES = 128 << 20     # of a window that nobody asked for by number
BLOCKS = 32                  # of a window


def is_stored(X):
    """Whether X is rows in a file or behind some other store, rather than an array in memory."""
    if isinstance(X, np.ndarray):
        return isinstance(X, np.memmap)
    in_memory = is_frame(X) or is_on_gpu(X) or any(
        hasattr(X, name) for name in ("tocsr", "__array_interface__", "__dlpack__"))
    return not in_memory and all(hasattr(X, name) for name in ("shape", "dtype", "__getitem__"))


def train_in_windows(X, name, dtype, window_rows):
    """X as `StoredRows` if window_rows says so, or, where it is None, if X is stored and larger than half the memory;
    else None."""
    if window_rows is None:
        if not too_large(X, dtype):
            return None
    elif not isinstance(X, np.ndarray) and not is_stored(X):
        X = on_host(feature_matrix(X, name, dtype)[0])
    rows = StoredRows(X, name, dtype, window_rows)
    log.info("%s (%.1f GiB as the kernels read it) stays where it is and is read in windows of %s rows%s", name,
             _bytes(X, dtype) / 2**30, f"{rows.window_rows:,}",
             "" if window_rows else ", since it is larger than half of this machine's memory")
    return rows


def too_large(X, dtype):
    """Whether X is stored and larger than half the memory."""
    return is_stored(X) and _bytes(X, dtype) > machine_memory() / 2


def predict_in_windows(X, name, dtype):
    """X as `StoredRows` if it is stored and larger than a window, else None."""
    return StoredRows(X, name, dtype) if is_stored(X) and _bytes(X, dtype) > WINDOW_BYTES else None


def _bytes(X, dtype):
    return int(np.prod([int(n) for n in X.shape], dtype=object)) * _kernel_dtype(X, dtype).itemsize


def default_window(X, dtype):
    """Rows of a window that nobody asked for by number."""
    return max(1, WINDOW_BYTES // (int(X.shape[1]) * _kernel_dtype(X, dtype).itemsize))


def _kernel_dtype(X, dtype):
    return np.dtype(np.uint8) if np.dtype(X.dtype) == np.uint8 else np.dtype(dtype)


class StoredRows:
    """The rows of an X that is read where it is: what `rows.Rows.x` is when X is read in windows.

    source : what is sliced; shape, dtype : of the rows as the kernels will read them
    window_rows : rows of a window; None for as many as WINDOW_BYTES hold
    rows : (n,) indices into the source, in any order; None for all
    """

    def __init__(self, source, name, dtype, window_rows=None, rows=None):
        if len(source.shape) != 2 or 0 in source.shape:
            raise ValueError(f"{name} must be two-dimensional (rows, features) and not empty, got shape "
                             f"{tuple(source.shape)}")
        if np.dtype(source.dtype).kind not in "biuf":
            raise ValueError(f"{name} must hold numbers, got dtype {source.dtype}")
        self.source, self.name, self.rows = source, name, rows
        self.checked = False         # whether all rows were found finite: looking costs as much as reading
        self.dtype = _kernel_dtype(source, dtype)
        self.shape = (int(source.shape[0]) if rows is None else len(rows), int(source.shape[1]))
        self.window_rows = window_rows or default_window(source, dtype)

    @property
    def size(self):
        return self.shape[0] * self.shape[1]

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        """The rows with these indices, still in the file."""
        return self.subset(rows, self.window_rows)

    def subset(self, rows, window_rows):
        return StoredRows(self.source, self.name, self.dtype, window_rows,
                          rows if self.rows is None else self.rows[rows])

    def in_file_order(self):
        """Indices of these rows in the order of the file."""
        return np.arange(len(self)) if self.rows is None else np.argsort(self.rows, kind="stable")

    def read(self, rows, out):
        """Rows number `rows`, ascending in the file, into out (len(rows), features), converted and checked."""
        where = self.positions(rows)
        for start, stop in self._blocks(where):
            first = int(where[start])
            piece = self._slice(first, int(where[stop - 1]) + 1)
            out[start:stop] = piece if len(piece) == stop - start else piece[where[start:stop] - first]
            release(self.source)

    def positions(self, rows):
        """Where in the source rows number `rows` are."""
        return rows if self.rows is None else self.rows[rows]

    def _blocks(self, where):
        """(start, stop) of the rows of a block of the file, of the ascending `where`."""
        block, start = max(1, self.window_rows // BLOCKS), 0
        while start < len(where):
            stop = int(np.searchsorted(where, int(where[start]) + block))
            yield start, stop
            start = stop

    def in_place(self):
        """The source where kernels can read it as it is: an array or a memory map found finite before; else None."""
        source = self.source
        fits = isinstance(source, np.ndarray) and source.dtype == self.dtype and source.flags.c_contiguous and \
            source.flags.aligned
        return source.view(np.ndarray) if fits and self.checked else None

    def read_soon(self, rows):
        """Have the pages of a memory map with rows number `rows`, ascending in the file, read from its disk; returns
        before they are."""
        if not isinstance(self.source, np.memmap) or not hasattr(mmap, "MADV_WILLNEED"):
            return
        pages, size = self.source._mmap, self.shape[1] * self.dtype.itemsize
        begin = self.source.ctypes.data - np.frombuffer(pages, np.uint8).ctypes.data
        where = self.positions(rows)
        for start, stop in self._blocks(where):
            first = (begin + int(where[start]) * size) // mmap.PAGESIZE * mmap.PAGESIZE
            pages.madvise(mmap.MADV_WILLNEED, first, begin + (int(where[stop - 1]) + 1) * size - first)

    def _slice(self, first, stop):
        piece = np.asarray(self.source[first:stop])
        if piece.shape != (stop - first, self.shape[1]):
            raise ValueError(f"{self.name}[{first}:{stop}] must give rows {(stop - first, self.shape[1])}, got "
                             f"{piece.shape}")
        if self.checked or self.dtype == np.uint8:
            return piece
        return to_float(piece, self.name, self.dtype, first_row=first)

    def windows(self):
        """(indices, rows in memory) of all rows, window by window in the order of the file."""
        order = self.in_file_order()
        plans = [order[start:start + self.window_rows] for start in range(0, len(self), self.window_rows)]
        return read_ahead(self, plans, self.buffers())

    def buffers(self):
        """Two windows' memory."""
        rows = min(self.window_rows, len(self))
        return [np.empty((rows, self.shape[1]), self.dtype) for _ in range(2)]


def release(source):
    """Pages of a memory map count as this process's memory until they are given back; the file keeps what they hold.
    Copy-on-write maps keep theirs: changes made to them are nowhere else."""
    if isinstance(source, np.memmap) and source.mode != "c" and hasattr(mmap, "MADV_DONTNEED"):
        source._mmap.madvise(mmap.MADV_DONTNEED)


def read_ahead(stored, plans, buffers):
    """(plan, its rows in memory) for each plan, an array of row indices; a thread reads the next one meanwhile.

    The rows lie in one of the two `buffers`: they are gone when the next but one comes.
    """
    def read(number):
        out = buffers[number % 2][:len(plans[number])]
        stored.read(plans[number], out)
        return out

    with ThreadPoolExecutor(1, "fastmlp-read") as reader:
        coming = reader.submit(read, 0)
        for number, plan in enumerate(plans):
            x = coming.result()
            if number + 1 < len(plans):
                coming = reader.submit(read, number + 1)
            yield plan, x


def parts(array):
    """An array, whole, or stored rows window by window."""
    if not isinstance(array, StoredRows):
        yield array
        return
    with closing(array.windows()) as windows:
        for _, x in windows:
            yield x


def pieces(array, most):
    """(indices, these rows in memory) of an array or of stored rows, at most `most` rows at a time."""
    stored = isinstance(array, StoredRows)
    with closing(array.windows()) if stored else nullcontext([(np.arange(len(array)), array)]) as windows:
        for indices, x in windows:
            for start in range(0, len(x), most):
                yield indices[start:start + most], x[start:start + most]
