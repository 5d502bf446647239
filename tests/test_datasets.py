"""MNIST: the embedded copy is the published one, and a folder of IDX files is read with care."""
import gzip
import hashlib

import numpy as np
import pytest

from fastmlp import datasets

# MD5 of the four unpacked IDX files as published, in the order that mnist() returns their contents
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def idx(array):
    """The bytes of an IDX file with this array of bytes."""
    return bytes((0, 0, 8, array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


@pytest.fixture(scope="module")
def mnist():
    return datasets.mnist()


@pytest.fixture
def arrays():
    """A small data set of 2×3 images, 5 to train and 2 to test, by the names of its files."""
    rng = np.random.default_rng(0)
    shapes = ((5, 2, 3), (5,), (2, 2, 3), (2,))
    return {name: rng.integers(0, 256, shape, np.uint8) for name, shape in zip(MD5, shapes, strict=True)}


@pytest.fixture
def folder(tmp_path, arrays):
    for name, array in arrays.items():
        (tmp_path / name).write_bytes(idx(array))
    return tmp_path


def test_embedded_images_are_the_published_ones(mnist):
    for array, (name, md5) in zip(mnist, MD5.items(), strict=True):
        images = array.reshape(-1, 28, 28) if "images" in name else array
        assert hashlib.md5(idx(images)).hexdigest() == md5, name


def test_shapes_and_dtypes(mnist):
    assert [a.shape for a in mnist] == [(60000, 784), (60000,), (10000, 784), (10000,)]
    assert all(a.dtype == np.uint8 and a.flags.c_contiguous and a.flags.writeable for a in mnist)


@pytest.mark.parametrize("spelling", ["-", "."])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_folder(tmp_path, arrays, spelling, packed):
    for name, array in arrays.items():
        name = name.replace("-idx", spelling + "idx") + (".gz" if packed else "")
        (tmp_path / name).write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    read = datasets.mnist(str(tmp_path))
    for got, expected in zip(read, arrays.values(), strict=True):
        np.testing.assert_array_equal(got, expected.reshape(got.shape))
    assert [a.shape for a in read] == [(5, 6), (5,), (2, 6), (2,)]
    assert all(a.flags.writeable for a in read)


def test_pack_and_embedded_file_agree(folder, tmp_path, monkeypatch):
    datasets._pack_mnist(folder, tmp_path / "small.npz")
    monkeypatch.setattr(datasets, "_FILE", tmp_path / "small.npz")
    for packed, read in zip(datasets.mnist(), datasets.mnist(folder), strict=True):
        np.testing.assert_array_equal(packed, read)


IMAGES, LABELS, TEST_IMAGES, _ = MD5


@pytest.mark.parametrize(("name", "damage", "message"), [
    (IMAGES, lambda b: b[:-1], "should have 46 bytes for 5 x 2 x 3 values but has 45"),
    (IMAGES, lambda b: b + b"\0", "but has 47"),
    (IMAGES, lambda b: b[:10], "cut short"),
    (IMAGES, lambda b: b"", "starts with nothing"),
    (IMAGES, lambda b: b"\0\0\x0d" + b[3:], "starts with 00000d03"),
    (LABELS, lambda b: idx(np.zeros((5, 1), np.uint8)), "starts with 00000802"),
    (LABELS, lambda b: idx(np.zeros(4, np.uint8)), "5 train images but 4 train labels"),
    (TEST_IMAGES, lambda b: idx(np.zeros((2, 2, 2), np.uint8)), "differ in size"),
])
def test_damaged_files(folder, name, damage, message):
    (folder / name).write_bytes(damage((folder / name).read_bytes()))
    with pytest.raises(ValueError, match=message) as error:
        datasets.mnist(folder)
    assert str(error.value).startswith("path: ")


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b"not gzip", lambda b: b[:12] + b"\xff" + b[13:]])
def test_damaged_gzip(folder, damage):
    content = (folder / IMAGES).read_bytes()
    (folder / IMAGES).unlink()
    (folder / f"{IMAGES}.gz").write_bytes(damage(gzip.compress(content)))
    with pytest.raises(ValueError, match=f"{IMAGES}.gz is damaged or cut short"):
        datasets.mnist(folder)


def test_missing_files(folder):
    (folder / LABELS).unlink()
    with pytest.raises(FileNotFoundError, match=r"no file named train-labels-idx1-ubyte, .*train-labels\.idx1-ubyte"):
        datasets.mnist(folder)
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        datasets.mnist(folder / "nowhere")
