"""Data sets from other people's archives."""
import gzip
import tracemalloc

import numpy as np
import pytest

from fastmlp import datasets

NAMES = {"train-images-idx3-ubyte": 3, "train-labels-idx1-ubyte": 1, "t10k-images-idx3-ubyte": 3,
         "t10k-labels-idx1-ubyte": 1}


def header(*shape):
    return bytes((0, 0, 8, len(shape))) + b"".join(n.to_bytes(4, "big") for n in shape)


@pytest.mark.parametrize(("shape", "message"), [
    ((200, 1000, 1000), "unpack to 200,000,000, which are no images"),
    ((4_000_000_000, 4_000_000_000, 1), "which are no images"),
    ((10, 28, 28), "should have 7856 bytes for 10 x 28 x 28 values but has more than 7856"),
])
def test_an_archive_that_unpacks_to_a_thousand_times_its_size(shape, message, tmp_path):
    """200 KB that unpack to 200 MB, whether they say so or not."""
    bomb = gzip.compress(header(*shape) + bytes(200_000_000), 1)
    for name in NAMES:
        (tmp_path / f"{name}.gz").write_bytes(bomb)
    del bomb
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"^path: .*{message}"):
            datasets.mnist(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_blank_images_are_images(tmp_path):
    for name, ndim in NAMES.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(header(*(1000, 28, 28)[:ndim]) + bytes(
            np.prod((1000, 28, 28)[:ndim]))))
    assert datasets.mnist(tmp_path)[0].shape == (1000, 784)
