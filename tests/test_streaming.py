"""Data larger than memory: the order in which windows are read, the same bits from every kind of file, bounded memory,
errors that name the row."""
import logging
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toy import DEVICES, QUICK, blobs, waves

import fastmlp
from fastmlp.distributed import sources
from fastmlp.input import stored as streaming
from fastmlp.kernels import reference

N, WINDOW, BATCH = 1000, 64 * 4, 32


class Slices:
    """The least that an X in a file can do, as a dataset of h5py or zarr does it: row slices. Remembers the largest."""

    def __init__(self, array):
        self._array, self.shape, self.dtype, self.longest = array, array.shape, array.dtype, 0

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        self.longest = max(self.longest, rows.stop - rows.start)
        return self._array[rows]


def saved(tmp_path, array):
    np.save(tmp_path / "x.npy", array)
    return np.load(tmp_path / "x.npy", mmap_mode="r")


def stated_order(n, window_rows, batch_size, seed_rng):
    """The order that the docstring of `sources` states, row by row and slowly."""
    window_rows += -window_rows % batch_size
    block = window_rows // 32
    rows = []
    for start in seed_rng.permutation(-(-n // block)):
        rows += range(start * block, min((start + 1) * block, n))
    order = []
    for start in range(0, n, window_rows):
        window = np.sort(rows[start:start + window_rows])
        order += window[seed_rng.permutation(len(window))].tolist()
    return order


def visited(monkeypatch, X, y, **options):
    """The rows that an epoch of training visits, by their first column, and the sizes of its calls."""
    rows, calls = [], []
    original = reference.train_epoch

    def recording(state, x, labels, targets, weights, order, rates):
        rows.extend(x[order, 0].astype(int).tolist())
        calls.append((len(order), len(rates)))
        return original(state, x, labels, targets, weights, order, rates)

    monkeypatch.setattr(reference, "train_epoch", recording)
    fastmlp.train(X, y, **{**QUICK, "epochs": 1, "batch_size": BATCH, "learning_rate": 1e-9, **options})
    return rows, calls


@pytest.mark.parametrize(("window_rows", "batch_size"), [(256, 32), (250, 32), (64, 100), (5000, 32)])
def test_an_epoch_visits_every_row_once_in_the_stated_order(monkeypatch, window_rows, batch_size):
    X = np.stack([np.arange(N), np.ones(N)], axis=1).astype(np.float32)
    seeds = []
    original = sources.FileWindows.train_epoch

    def keep_rng(self, kernels, state, rng, rates):
        seeds.append(np.random.Generator(type(rng.bit_generator)()))
        seeds[0].bit_generator.state = rng.bit_generator.state
        return original(self, kernels, state, rng, rates)

    monkeypatch.setattr(sources.FileWindows, "train_epoch", keep_rng)
    rows, calls = visited(monkeypatch, Slices(X), np.arange(N) % 2, window_rows=window_rows, batch_size=batch_size)
    assert sorted(rows) == list(range(N))
    assert rows == stated_order(N, window_rows, batch_size, seeds[0])
    whole = -(-window_rows // batch_size) * batch_size
    assert [count for count, _ in calls[:-1]] == [whole] * (len(calls) - 1)
    assert sum(steps for _, steps in calls) == -(-N // batch_size)


@DEVICES
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64", ">f4", "int32"])
def test_same_bits_from_memory_from_a_memory_map_and_from_slices(tmp_path, device, dtype):
    X, y = blobs(N, features=7)
    X = np.abs(X * 20).astype(dtype)
    options = {**QUICK, "device": device, "batch_size": BATCH, "window_rows": WINDOW, "validation_fraction": 0.2}
    models = [fastmlp.train(each, y, **options) for each in (X, saved(tmp_path, X), Slices(X))]
    for model in models[1:]:
        np.testing.assert_array_equal(model.parameters, models[0].parameters)
        assert model.history.to_dict()["val_loss"] == models[0].history.to_dict()["val_loss"]
    assert models[0].scale == (1 / 255 if dtype == "uint8" else 1)
    assert models[0].history["accuracy"][-1] > models[0].history["accuracy"][0]


def test_what_kernels_can_read_in_place_is_not_copied_twice(tmp_path, monkeypatch):
    """The first epoch copies, and looks for NaN; the second one does not read at all but asks for pages."""
    X, y = blobs(N)
    part = np.lib.format.open_memmap(tmp_path / "all.npy", mode="w+", dtype=X.dtype, shape=(N + 3, X.shape[1]))[3:]
    part[:] = X                             # a part of the file, which begins amid a page
    calls = []
    for name in ("read", "read_soon"):
        original = getattr(streaming.StoredRows, name)
        monkeypatch.setattr(streaming.StoredRows, name, lambda self, *arguments, name=name, original=original:
                            (calls.append(name), original(self, *arguments)))
    options = {**QUICK, "epochs": 3, "window_rows": WINDOW}
    model = fastmlp.train(part, y, **options)
    windows = -(-N // WINDOW)
    assert calls == ["read"] * windows + ["read_soon"] * 2 * windows
    calls.clear()
    copied = fastmlp.train(Slices(X), y, **options)
    assert calls == ["read"] * 3 * windows
    np.testing.assert_array_equal(model.parameters, copied.parameters)


def test_rows_are_shuffled_anew_every_epoch_and_by_the_seed():
    X, y = blobs(N)
    ends = [fastmlp.train(X, y, **{**QUICK, "seed": seed, "window_rows": rows}).parameters
            for seed, rows in ((0, WINDOW), (0, WINDOW), (1, WINDOW), (0, 2 * WINDOW), (0, None))]
    np.testing.assert_array_equal(ends[0], ends[1])
    assert not any(np.array_equal(ends[0], other) for other in ends[2:])


def test_never_reads_more_than_a_block_at_a_time():
    X, y = blobs(N)
    source = Slices(X)
    model = fastmlp.train(source, y, **{**QUICK, "window_rows": WINDOW, "validation_fraction": 0.3})
    assert 0 < source.longest <= WINDOW // streaming.BLOCKS
    assert len(model.history["val_loss"]) == 2


def test_weights_columns_of_targets_and_validation_in_files(tmp_path):
    X, y = waves(600, targets=2)
    weights = np.linspace(0, 1, 600)
    options = {**QUICK, "window_rows": 64}
    models = [fastmlp.train(x, y, sample_weight=weights, validation_data=(v, y[:100]), **options)
              for x, v in ((X, X[:100]), (saved(tmp_path, X), Slices(X[:100])))]
    np.testing.assert_array_equal(models[0].parameters, models[1].parameters)
    np.testing.assert_allclose(models[0].history["val_loss"], models[1].history["val_loss"], rtol=1e-6)


def test_a_memory_map_that_fits_is_trained_on_as_ever(tmp_path):
    X, y = blobs(N)
    ends = [fastmlp.train(x, y, **QUICK).parameters for x in (X, saved(tmp_path, X))]
    np.testing.assert_array_equal(*ends)


def test_what_exceeds_half_the_memory_is_read_in_windows(tmp_path, monkeypatch, caplog):
    X, y = blobs(N)
    monkeypatch.setattr(streaming, "machine_memory", lambda: X.nbytes)
    monkeypatch.setattr(streaming, "WINDOW_BYTES", X[:WINDOW].nbytes)
    with caplog.at_level(logging.INFO, "fastmlp"):
        model = fastmlp.train(saved(tmp_path, X), y, **QUICK)
    assert "larger than half of this machine's memory" in caplog.text
    assert f"windows of {WINDOW} rows" in caplog.text
    np.testing.assert_array_equal(model.parameters, fastmlp.train(X, y, **QUICK, window_rows=WINDOW).parameters)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_errors_name_the_row_of_the_file(tmp_path, bad):
    X, y = blobs(N)
    X[777, 2] = bad
    for source in (saved(tmp_path, X), Slices(X)):
        with pytest.raises(ValueError, match=re.escape(f"X must be finite, got {bad} at row 777, column 2")):
            fastmlp.train(source, y, **QUICK, window_rows=WINDOW)


def test_refuses_what_cannot_be_read_in_windows():
    X, y = blobs(100)
    with pytest.raises(ValueError, match="window_rows must be at least 1, got 0"):
        fastmlp.train(X, y, **QUICK, window_rows=0)
    with pytest.raises(ValueError, match=r"X must be two-dimensional .* got shape \(100,\)"):
        fastmlp.train(Slices(X[:, 0]), y, **QUICK, window_rows=10)
    with pytest.raises(ValueError, match="X must hold numbers, got dtype <U1"):
        fastmlp.train(Slices(np.full((100, 2), "a")), y, **QUICK, window_rows=10)
    with pytest.raises(ValueError, match="as many rows, got 100 and 99"):
        fastmlp.train(Slices(X), y[:99], **QUICK, window_rows=10)


def test_checkpoint_resumes_to_the_same_bits(tmp_path):
    X, y = blobs(N)
    options = {**QUICK, "epochs": 4, "window_rows": WINDOW}
    whole = fastmlp.train(X, y, **options)

    def die(model, numbers):
        if numbers["epoch"] == 2:
            raise KeyError("power cut")

    path = tmp_path / "run.safetensors"
    with pytest.raises(KeyError):
        # The callback dies before epoch 2 is saved.
        fastmlp.train(saved(tmp_path, X), y, **options, checkpoint=path, callbacks=[die])
    np.testing.assert_array_equal(fastmlp.train(Slices(X), y, **options, checkpoint=path).parameters, whole.parameters)
    with pytest.raises(ValueError, match="window_rows"):
        fastmlp.train(X, y, **{**options, "window_rows": 2 * WINDOW}, checkpoint=path)


@DEVICES
def test_predict_and_evaluate_in_pieces(tmp_path, monkeypatch, device):
    X, y = blobs(N, classes=3)
    names = np.array(["red", "green", "blue"])[y]
    models = [fastmlp.train(X, y if kind == "classes" else names if kind == "text" else X[:, 0], **{**QUICK,
              "device": device}) for kind in ("classes", "text", "numbers")]
    answers = [(y, np.int32), (names, "<U5"), (X[:, 0], np.float64)]
    monkeypatch.setattr(streaming, "WINDOW_BYTES", X[:100].nbytes)
    stored = Slices(X)
    for model, (truth, dtype) in zip(models, answers, strict=True):
        np.testing.assert_allclose(model.predict(stored), model.predict(X), rtol=1e-6) if truth.dtype.kind == "f" \
            else np.testing.assert_array_equal(model.predict(stored), model.predict(X))
        out = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", dtype, (N,))
        assert model.predict(stored, out=out) is out
        np.testing.assert_array_equal(out, model.predict(stored).astype(dtype))
        weights = np.arange(N) + 0.5
        for given in (None, weights):
            scores, whole = model.evaluate(stored, truth, given), model.evaluate(X, truth, given)
            assert scores == pytest.approx(whole, rel=1e-6)
    assert stored.longest <= 100
    p = np.empty((N, 3), np.float32)
    assert models[0].predict_proba(saved(tmp_path, X), out=p) is p
    np.testing.assert_allclose(p, models[0].predict_proba(X), rtol=1e-5)


def test_out_must_fit():
    X, y = blobs(100)
    model = fastmlp.train(X, y, **QUICK)
    with pytest.raises(ValueError, match=r"out must have shape \(100,\) and a dtype that int64 can be cast to"):
        model.predict(X, out=np.empty(99, int))
    with pytest.raises(ValueError, match=r"can be cast to, got \(100, 3\) of int64"):
        model.predict_proba(X, out=np.empty((100, 3), int))
    with pytest.raises(TypeError, match="out must be an array of shape"):
        model.predict(X, out=[])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the resident memory from /proc")
def test_memory_stays_bounded(tmp_path):
    """Training on a file of 600 MB, also in place, and predicting, adds three windows of 16 MB and little else."""
    code = f"""
import re
import numpy as np
import fastmlp

def resident(which):
    return int(re.search(which + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

def train(rows):
    X = np.memmap({str(tmp_path / "x.bin")!r}, np.float32, "w+", shape=(rows, 1000))
    return X, fastmlp.train(X, np.arange(rows) % 2, hidden=(), epochs=2, window_rows=4000, seed=0, n_threads=1)

train(4000)
before = resident("VmRSS")
X, model = train(150_000)
model.predict(X)
print(resident("VmHWM") - before)
"""
    run = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 400


def test_scaling_needs_memory():
    X, y = blobs(100)
    with pytest.raises(ValueError, match=r"scaling='robust'.* needs X in memory"):
        fastmlp.train(X, y, **QUICK, window_rows=32, scaling="robust")
