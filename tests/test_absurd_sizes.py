"""Sizes that no machine has are refused by name, before anything of their size is allocated."""
import itertools
import tracemalloc

import numpy as np
import pytest
from toy import QUICK, blobs

import fastmlp
from fastmlp import checks

X, Y = blobs(60)
LITTLE = 200 << 20          # one block of outputs is 128 MiB


@pytest.fixture(autouse=True)
def _little_memory():
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < LITTLE
    finally:
        tracemalloc.stop()


def train(**options):
    return fastmlp.train(X, Y, **QUICK | options)


HUGE = (10 ** 9, 10 ** 18, 10 ** 30)


@pytest.mark.parametrize("device", ["cpu", "reference"])
@pytest.mark.parametrize("hidden", [*HUGE, (10 ** 9, 10 ** 9), (200_000, 200_000), (3,) * 10 + (10 ** 12,)])
def test_wide_nets(hidden, device):
    with pytest.raises(ValueError, match=r"hidden: .* parameters.* GiB .*use narrower layers or a smaller batch_size"):
        train(hidden=hidden, device=device)


def test_a_batch_times_a_width(monkeypatch):
    """Neither is absurd by itself: 2 × 240 rows × 10⁶ units of 4 bytes are 2 GB."""
    X, y = blobs(240)
    monkeypatch.setattr(checks, "machine_memory", lambda: 1 << 30)
    with pytest.raises(ValueError, match="with a batch of 240 rows it needs"):
        fastmlp.train(X, y, **QUICK | {"hidden": 10 ** 6, "batch_size": 10 ** 9})


@pytest.mark.parametrize("sizes", [(10 ** 9, 10 ** 9), (10 ** 30, 10), (1, 2 ** 63)])
def test_a_hand_made_net(sizes):
    with pytest.raises(ValueError, match=r"sizes: .* parameters need .* GiB"):
        fastmlp.MLP(sizes, (), "identity")


@pytest.mark.parametrize("number", HUGE)
@pytest.mark.parametrize("name", ["n_threads", "FASTMLP_NUM_THREADS"])
def test_threads(number, name, monkeypatch):
    if name == "n_threads":
        options = {"n_threads": number}
    else:
        options = {}
        monkeypatch.setenv(name, str(number))
    with pytest.raises(ValueError, match=f"{name} must be at most 1,024, got {number}"):
        train(device="cpu", **options)


@pytest.mark.parametrize("number", HUGE)
@pytest.mark.parametrize("name", ["batch_size", "window_rows", "early_stopping", "seed"])
def test_numbers_that_may_be_as_large_as_they_like(name, number):
    """More rows than there are is all rows; no state is kept by the patience or the seed."""
    model = train(**{name: number, "validation_fraction": 0.2})
    assert np.isfinite(model.parameters).all()


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step", "one_cycle", "exponential"])
@pytest.mark.parametrize("epochs", HUGE)
def test_as_many_epochs_as_they_like(epochs, schedule):
    model = train(epochs=epochs, schedule=schedule, callbacks=lambda *_: True)
    assert len(model.history) == 1


@pytest.mark.parametrize("n", HUGE)
def test_ensembles(n):
    with pytest.raises(ValueError, match=f"n: {n:,} nets need .* GiB"):
        fastmlp.ensemble(X, Y, n, **QUICK)


@pytest.mark.parametrize("grid", [{"hidden": range(10 ** 9)}, {"seeds": itertools.count()},
                                  {"hidden": range(1, 1001), "l2": [0.1] * 101}])
def test_grids(grid):
    """The second never ends, and is refused for its name; the third has 101,000 combinations."""
    with pytest.raises(ValueError, match="grid"):
        fastmlp.cross_validate(X, Y, k=2, grid=grid)


def test_folds():
    with pytest.raises(ValueError, match="k=1000000000 folds need at least as many rows, got 60"):
        fastmlp.cross_validate(X, Y, k=10 ** 9, epochs=1)


def wide(classes=10 ** 6):
    model = fastmlp.MLP((1, classes), (), "softmax", task=fastmlp.input.labels.Task("softmax_cross_entropy", classes,
                                                                              np.arange(classes)))
    model.device = "reference"
    return model


def test_probabilities_of_many_rows_and_classes(monkeypatch):
    monkeypatch.setattr(checks, "machine_memory", lambda: 1 << 28)
    model = wide(1000)
    with pytest.raises(ValueError, match=r"X: predictions of shape \(100000, 1000\) need .* out= a memory map"):
        model.predict_proba(np.zeros((100_000, 1), np.float32))


def test_smoothed_labels_of_many_rows_and_classes(monkeypatch):
    monkeypatch.setattr(checks, "machine_memory", lambda: 1 << 30)
    y = np.arange(20_000)
    with pytest.warns(UserWarning, match="20,000 different integers"), \
            pytest.raises(ValueError, match=r"label_smoothing: .* 20,000 classes .*pass label_smoothing=0"):
        fastmlp.train(np.zeros((len(y), 1), np.float32), y, **QUICK | {"hidden": (), "label_smoothing": 0.1})
