"""A run on a file that was killed and resumed, where the first rows read are not like the others.

Whether a net was trained by rows in lanes used to follow from the zeros of the first window met: 8 of 20 resumed runs
differed in bits.
"""
import numpy as np
import pytest

import fastmlp

N, WINDOW = 600, 100


class Killed(BaseException):
    pass


def rows_by_windows(rng, tmp_path):
    """A memory map of WINDOW rows at a time that are all zero, mostly zero or not at all, and labels."""
    features = int(rng.integers(2, 40))
    X = rng.normal(size=(N, features)).astype(np.float32)
    for start in range(0, N, WINDOW):
        X[start:start + WINDOW] *= rng.random((WINDOW, features)) < rng.choice([0.0, 0.03, 0.3, 1.0])
    path = tmp_path / "x.npy"
    np.save(path, X)
    return np.load(path, mmap_mode="r"), rng.integers(0, 3, N)


def test_windows_of_zeros_and_of_none(long, rng, tmp_path):
    tries, differ = 500 if long else 25, []
    for attempt in range(tries):
        X, y = rows_by_windows(rng, tmp_path)
        options = {"hidden": tuple(rng.integers(1, 150, rng.integers(0, 3)).tolist()), "epochs": 3, "device": "cpu",
                   "window_rows": WINDOW, "batch_size": int(rng.choice([16, 50, 100])), "seed": attempt, "n_threads": 1,
                   "dropout": 0.0}
        last, path = int(rng.integers(1, 3)), tmp_path / f"run{attempt}"

        def dies(model, numbers, last=last):
            if numbers["epoch"] == last:
                raise Killed

        with pytest.raises(Killed):
            fastmlp.train(X, y, checkpoint=path, callbacks=dies, **options)
        resumed = fastmlp.train(X, y, checkpoint=path, **options)
        unbroken = fastmlp.train(X, y, **options)
        if not np.array_equal(resumed.parameters, unbroken.parameters):
            differ.append(options)
    print(f"{tries} resumed runs, {len(differ)} differ in bits")
    assert not differ
