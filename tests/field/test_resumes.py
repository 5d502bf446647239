"""A run on a file that was killed and resumed, where the first rows read are not like the others.

Whether a net was trained by rows in lanes used to follow from the zeros of the first window met: 8 of 20 resumed runs
differed in bits.
"""
import numpy as np
import pytest

import fastmlp

N, WINDOW, BLOCK = 2048, 256, 16


class Killed(BaseException):
    pass


def rows_with_gaps(rng, tmp_path):
    """A memory map of which about a fifth of the blocks of BLOCK rows are zero, which is where skipping zeros begins to
    pay: one window says so, another does not. And labels."""
    features = int(rng.integers(2, 40))
    X = rng.normal(size=(N // BLOCK, BLOCK, features)).astype(np.float32)
    X[rng.random(N // BLOCK) < rng.uniform(0.15, 0.3)] = 0
    path = tmp_path / "x.npy"
    np.save(path, X.reshape(N, features))
    return np.load(path, mmap_mode="r"), rng.integers(0, 3, N)


def test_windows_with_more_and_fewer_zeros(long, rng, tmp_path):
    tries, differ = 500 if long else 25, []
    for attempt in range(tries):
        X, y = rows_with_gaps(rng, tmp_path)
        options = {"hidden": tuple(rng.integers(1, 40, rng.integers(0, 3)).tolist()), "epochs": 3, "device": "cpu",
                   "window_rows": WINDOW, "batch_size": int(rng.choice([32, 64, 100])), "seed": attempt, "n_threads": 1,
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
