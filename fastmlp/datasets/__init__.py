"""Datasets that load without a network: the MNIST handwritten digits.

The images travel with the package in one compressed file, `mnist.npz` (11.5 MB, 0.3 s to load; LZMA
would save 2 MB and take three times as long). Copyright Yann LeCun and Corinna Cortes, CC BY-SA 3.0:
see MNIST-LICENSE.txt beside it.
"""
import gzip
import io
import math
import zlib
from pathlib import Path

import numpy as np

from .. import checks
from ..files import write_atomically

__all__ = ["mnist"]

# MNIST is packed to a fifth of its size. What unpacks to more than both (bytes; times its own size) is made to fill the
# memory.
UNPACKED, RATIO = 1 << 26, 100
_FILE = Path(__file__).with_name("mnist.npz")
# array -> start of its file's name, dimensions
_IDX_FILES = {
    "X_train": ("train-images", 3),
    "y_train": ("train-labels", 1),
    "X_test": ("t10k-images", 3),
    "y_test": ("t10k-labels", 1),
}


def mnist(path=None):
    """The MNIST digits: 28×28 grey images as rows of 784 pixels, with their labels.

    Parameters
    ----------
    path : str or path-like, optional
        A folder with the four IDX files, plain or ``.gz``, under either usual name
        (``train-images-idx3-ubyte`` or ``train-images.idx3-ubyte``), to read instead of the copy that
        comes with fastmlp. Data sets published in the same format, such as Fashion-MNIST, load as well.

    Returns
    -------
    X_train : (60000, 784) uint8
        Pixels, 0 to 255. `fastmlp.train` takes them as they are.
    y_train : (60000,) uint8
        Digits, 0 to 9.
    X_test : (10000, 784) uint8
    y_test : (10000,) uint8

    Raises
    ------
    FileNotFoundError
        If `path` or one of its four files does not exist.
    ValueError
        If a file is damaged, cut short or not of this format, unpacks to more than images can, or the files do not
        belong together.

    Examples
    --------
    >>> X_train, y_train, X_test, y_test = fastmlp.datasets.mnist()
    >>> X_train.shape, y_test.shape
    ((60000, 784), (10000,))
    """
    if path is not None:
        arrays = _read_folder(path)
    else:
        with np.load(_FILE, allow_pickle=False) as file:
            arrays = {name: file[name] for name in _IDX_FILES}
    return tuple(arrays[name] for name in _IDX_FILES)


def _pack_mnist(folder, file):
    """Write the IDX files of `folder` to `file` as one compressed .npz: how ``mnist.npz`` was made.

    Parameters
    ----------
    folder : str or path-like
        As `path` of `mnist`.
    file : str or path-like
        The file to write.
    """
    packed = io.BytesIO()
    np.savez_compressed(packed, **_read_folder(folder))
    write_atomically(file, packed.getvalue())


def _read_folder(path):
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"path: {folder} is not a folder; expected one with the four IDX files")
    arrays = {name: _read_idx(_find(folder, stem, ndim), ndim) for name, (stem, ndim) in _IDX_FILES.items()}
    for part in ("train", "test"):
        images, labels = arrays[f"X_{part}"], arrays[f"y_{part}"]
        if len(images) != len(labels):
            raise ValueError(f"path: {folder} holds {len(images)} {part} images but {len(labels)} {part} labels")
    if arrays["X_train"].shape[1] != arrays["X_test"].shape[1]:
        raise ValueError(f"path: the train and test images in {folder} differ in size")
    return arrays


def _find(folder, stem, ndim):
    names = [f"{stem}{dot}idx{ndim}-ubyte{gz}" for dot in "-." for gz in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"path: {folder} has no file named {', '.join(names[:-1])} or {names[-1]}")


def _read_idx(file, ndim):
    """The array in an IDX file: 0, 0, 8 (uint8), ndim, each dimension as 4 bytes big-endian, then the bytes.

    Only as much is unpacked as the header says, and no more of that than images can be packed into the file.
    """
    size, packed, header = file.stat().st_size, file.suffix == ".gz", 4 + 4 * ndim
    magic = bytes((0, 0, 8, ndim))
    try:
        with gzip.open(file) if packed else open(file, "rb") as stream:
            start = stream.read(header)
            if start[:4] != magic:
                raise ValueError(f"path: {file} starts with {start[:4].hex() or 'nothing'}; an IDX file of this kind, "
                                 f"with {magic.hex()}")
            shape = [int.from_bytes(start[i:i + 4], "big") for i in range(4, header, 4)]
            count, length = math.prod(shape), size
            if packed and count > max(UNPACKED, RATIO * size):
                raise ValueError(f"path: {file} says that its {size:,} bytes unpack to {count:,}, which are no images: "
                                 "it is damaged or made to fill the memory; if not, unpack it first")
            if packed or size == header + count:
                checks.affordable(count, f"path: {file} needs", "read a part of it")
                values = np.empty(count, np.uint8)
                length = len(start) + _fill(values, stream)
                length = f"more than {length}" if stream.read(1) else length
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"path: {file} is damaged or cut short ({error})") from error
    if length != header + count:
        raise ValueError(f"path: {file} should have {header + count} bytes for {' x '.join(map(str, shape))} values "
                         f"but has {length}; it is cut short or damaged")
    return values.reshape(shape[0], math.prod(shape[1:])) if ndim > 1 else values


def _fill(values, stream):
    """Read into `values` until it is full or the stream ends; returns how many bytes were read."""
    filled, view = 0, memoryview(values)
    while filled < len(values) and (count := stream.readinto(view[filled:filled + (1 << 24)])):
        filled += count
    return filled
