"""X on the GPU that trains: it stays there, is checked there, and answers come in kind.

CuPy, PyTorch and the GPU's kernels are stand-ins: the reference reads what is "on the GPU". One test runs the simulated
kernels, which cost a thousand times as much.
"""
import importlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import fastmlp
from fastmlp import device
from fastmlp.kernels import reference

pytest.importorskip("greenlet", reason="the simulator needs greenlet: pip install 'fastmlp[test]'")
import fake_cupy
from test_device import two_gpus  # noqa: F401 (a fixture)

SETTINGS = {"hidden": 5, "epochs": 2, "batch_size": 8, "seed": 0, "learning_rate": 0.05}


PROBLEMS = {
    "classes": lambda X, y: (X, y),
    "other labels": lambda X, y: (X, y.astype(np.int32) * 2 - 1),
    "two": lambda X, y: (X, (y == 1).astype(np.uint8)),
    "one-hot": lambda X, y: (X, np.eye(3)[y]),
    "multilabel": lambda X, y: (X, np.stack([y == 1, y < 2], axis=1).astype(int)),
    "numbers": lambda X, y: (X, X[:, 0] - X[:, 1]),
    "images": lambda X, y: (np.abs(X * 80).astype(np.uint8), y),
    "float64": lambda X, y: (X.astype(np.float64), X[:, :2] * 3.0),
}


class Kernels:
    """The reference, for arrays of either place."""

    on = staticmethod(lambda index: Kernels())

    def __getattr__(self, name):
        function = getattr(reference, name)

        def run(*arguments, **named):
            return function(*[np.asarray(SimpleNamespace(__array_interface__=a.__cuda_array_interface__))
                              if hasattr(a, "__cuda_array_interface__") else a for a in arguments], **named)

        return run


class Tensor:
    """A tensor of PyTorch's on a GPU."""

    is_cuda, device = True, "cuda:0"

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    @property
    def __cuda_array_interface__(self):
        return self.array.__array_interface__

    def detach(self):
        return self

    def cpu(self):
        fake_cupy.COPIES.append(self.array.size)
        return SimpleNamespace(numpy=lambda: self.array.copy())


def as_tensor(array, device):
    return Tensor(array.array if isinstance(array, fake_cupy.ndarray) else array)


@pytest.fixture
def simulated_copies(monkeypatch, two_gpus):  # noqa: F811
    """What crossed to the host, by its size."""
    stream = SimpleNamespace(synchronize=lambda: None)
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(
        as_tensor=as_tensor, cuda=SimpleNamespace(current_stream=lambda device: stream)))
    fake_cupy.COPIES.clear()
    return fake_cupy.COPIES


@pytest.fixture
def copies(monkeypatch, simulated_copies):
    """The same with quicker kernels."""
    monkeypatch.setattr(device, "importlib", SimpleNamespace(import_module=lambda name: (
        Kernels() if name == "fastmlp.kernels.cuda" else importlib.import_module(name))))
    device.broken.cache_clear()      # what the fixture above bound
    return simulated_copies


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(30, 7)).astype(np.float32), np.arange(30) % 3


@pytest.mark.parametrize("kind", [fake_cupy.ndarray, Tensor])
@pytest.mark.parametrize("y_too", [False, True])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_they_stay_on_the_gpu(copies, data, kind, problem, y_too):
    """The same bits as from main memory, and of X only numbers come to the host; of y, the classes, which are dealt out
    to training and validation there."""
    X, y = PROBLEMS[problem](*data)
    G = kind if y_too else np.asarray
    settings = SETTINGS | {"validation_fraction": 0.2, "dtype": "float64" if X.dtype == np.float64 else "float32"}
    expected = fastmlp.train(X, y, **settings)
    model = fastmlp.train(kind(X), G(y), **settings)
    assert max(copies) <= (len(y) if y_too and model.classes is not None else 1)
    np.testing.assert_array_equal(model.parameters, expected.parameters)
    assert model.history["val_loss"] == expected.history["val_loss"]
    if model.classes is not None:
        assert type(model.classes) is np.ndarray
        np.testing.assert_array_equal(model.classes, expected.classes)

    copies.clear()
    for method in ("predict", *(["predict_proba"] if model.output in ("softmax", "sigmoid") else [])):
        answer = getattr(model, method)(kind(X))
        assert type(answer) is kind
        np.testing.assert_array_equal(answer.array, getattr(expected, method)(X))
        assert type(getattr(model, method)(X)) is np.ndarray
    assert model.evaluate(kind(X), G(y)) == expected.evaluate(X, y)
    assert max(copies) <= (len(model.classes) if y_too and model.classes is not None else 1)


@pytest.mark.parametrize("settings", [
    {"class_weight": "balanced"}, {"label_smoothing": 0.1}, {"class_weight": {0: 2.0}, "validation_fraction": 0.2},
    {"loss": "sigmoid_cross_entropy"}, {"preset": "tabular"}])
def test_options_that_look_at_y(copies, data, settings):
    X, y = data
    y = y % 2 if "loss" in settings else y
    weights = np.linspace(0.5, 1, len(y))
    expected = fastmlp.train(X, y, sample_weight=weights, **SETTINGS | settings)
    model = fastmlp.train(fake_cupy.asarray(X), fake_cupy.asarray(y), sample_weight=fake_cupy.asarray(weights),
                          **SETTINGS | settings)
    np.testing.assert_array_equal(model.parameters, expected.parameters)
    assert model.evaluate(fake_cupy.asarray(X), fake_cupy.asarray(y)) == expected.evaluate(X, y)


@pytest.mark.parametrize(("y", "message"), [
    (np.full(30, 1), "y must hold at least two different labels, got only 1"),
    (np.where(np.arange(30) == 3, np.nan, 1.0), "y must be finite, got nan at row 3"),
    (np.arange(29) % 3, "X and y must have as many rows, got 30 and 29"),
    (np.zeros((30, 2, 2)), r"y must have one value or label a row, or one column per target; got shape \(30, 2, 2\)"),
    (np.zeros(0), r"y must have at least one row, got shape \(0,\)"),
])
def test_y_is_checked_where_it_is(copies, data, y, message):
    G = fake_cupy.asarray
    with pytest.raises(ValueError, match=message):
        fastmlp.train(G(data[0]), G(y), **SETTINGS)
    assert max(copies, default=0) <= 3                         # the classes


def test_labels_that_are_not_known(copies, data):
    X, y = data
    G = fake_cupy.asarray
    model = fastmlp.train(G(X), G(y), **SETTINGS)
    with pytest.raises(ValueError, match="y holds labels the net was not trained on: 5; it knows 0, 1, 2"):
        model.evaluate(G(X), G(np.where(y == 1, 5, y)))
    counts = fastmlp.train(G(X), G(y.astype(np.float32)), loss="poisson", **SETTINGS)
    with pytest.raises(ValueError, match="y must hold counts, none below 0, for loss='poisson', got -1"):
        counts.evaluate(G(X), G(y - 1.0))


def test_simulated_kernels_read_it_there(simulated_copies, data):
    X, y = (array[:12] for array in data)
    settings = SETTINGS | {"hidden": 3, "epochs": 1}
    expected, model = fastmlp.train(X, y, **settings), fastmlp.train(fake_cupy.asarray(X), y, **settings)
    np.testing.assert_array_equal(model.parameters, expected.parameters)
    np.testing.assert_array_equal(model.predict(fake_cupy.asarray(X)).array, expected.predict(X))
    assert model.evaluate(fake_cupy.asarray(X), y) == expected.evaluate(X, y)
    assert max(simulated_copies) == 1


def test_validation_data_and_continued_training(copies, data):
    X, y = data
    G = fake_cupy.asarray
    expected = fastmlp.train(X, y, validation_data=(X[:9], y[:9]), **SETTINGS)
    model = fastmlp.train(G(X), y, validation_data=(G(X[:9]), y[:9]), **SETTINGS)
    fastmlp.train(X, y, model=expected, **SETTINGS | {"hidden": (5,)})
    fastmlp.train(G(X), y, model=model, **SETTINGS | {"hidden": (5,)})
    np.testing.assert_array_equal(model.parameters, expected.parameters)
    assert model.history["val_loss"] == expected.history["val_loss"]
    assert max(copies, default=0) <= 1


def test_labels_that_are_text(copies, data):
    X, y = data
    words = np.array(["a", "b", "c"])[y]
    model = fastmlp.train(fake_cupy.asarray(X), words, **SETTINGS)
    answer = model.predict(fake_cupy.asarray(X))
    assert type(answer) is np.ndarray
    np.testing.assert_array_equal(answer, model.predict(X))


def test_an_output_of_ones_own_is_written_here(copies, data):
    X, y = data
    model, out = fastmlp.train(X, y, **SETTINGS), np.empty(30, int)
    assert model.predict(fake_cupy.asarray(X), out=out) is out
    np.testing.assert_array_equal(out, model.predict(X))


@pytest.mark.parametrize("settings", [{"scaling": "robust"}, {"window_rows": 16}, {"checkpoint": "run"}, {}])
def test_what_needs_main_memory_takes_it_there(copies, data, settings, tmp_path, monkeypatch):
    """Robust scaling, windows and the fingerprint of a checkpoint; and X and y on the GPU, all as from the host."""
    monkeypatch.chdir(tmp_path)
    X, y = data
    other = {"checkpoint": "other"} if "checkpoint" in settings else {}
    expected = fastmlp.train(X, y, **SETTINGS | settings | other)
    model = fastmlp.train(fake_cupy.asarray(X), fake_cupy.asarray(y), **SETTINGS | settings)
    np.testing.assert_array_equal(model.parameters, expected.parameters)
    np.testing.assert_array_equal(model.predict(fake_cupy.asarray(X)).array, expected.predict(X))
    assert model.evaluate(fake_cupy.asarray(X), fake_cupy.asarray(y)) == expected.evaluate(X, y)


@pytest.mark.parametrize("kind", [fake_cupy.ndarray, Tensor])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_ensembles_answer_in_kind(copies, data, kind, problem):
    X, y = PROBLEMS[problem](*data)
    expected, nets = (fastmlp.ensemble(G(X), G(y), 2, **SETTINGS) for G in (np.asarray, kind))
    for method in ("predict", "spread", *(["predict_proba"] if expected[0].output in ("softmax", "sigmoid") else [])):
        copies.clear()
        answer = getattr(nets, method)(kind(X))
        assert type(answer) is kind
        assert copies == [X.size]
        np.testing.assert_array_equal(answer.array, getattr(expected, method)(X))
    assert nets.evaluate(kind(X), kind(y)) == expected.evaluate(X, y)


@pytest.mark.parametrize("other", ["reference", "cuda:1"])
def test_on_another_device_it_is_copied(copies, data, other):
    """Also where the GPU that trains is not the one that has X."""
    X, y = data
    model = fastmlp.train(fake_cupy.asarray(X), y, device=other, **SETTINGS)
    assert copies == [X.size]
    assert type(model.predict(fake_cupy.asarray(X))) is fake_cupy.ndarray


@pytest.mark.parametrize(("change", "message"), [
    (lambda X: X[0], r"X must be two-dimensional \(rows, features\), got shape \(7,\); use X.reshape\(-1, 1\)"),
    (lambda X: X[:0], "X must have at least one row"),
    (lambda X: X.astype(complex), "X must hold numbers, got dtype complex128"),
    (lambda X: np.where(np.arange(7) == 3, np.nan, X), "X must be finite, got nan at row 0, column 3"),
    (lambda X: np.where(np.arange(30)[:, None] == 4, -np.inf, X), "X must be finite, got -inf at row 4, column 0"),
    (lambda X: X.astype(np.float64) * 1e300, "at row 0, column 0, too large for dtype float32: scale X"),
])
def test_checked_where_it_is(copies, data, change, message):
    X, y = data
    with pytest.raises(ValueError, match=message):
        fastmlp.train(fake_cupy.asarray(change(X)), y, **SETTINGS)
    assert max(copies, default=0) <= 1


def test_large_numbers_whose_sum_overflows_are_finite(copies):
    X = np.full((30, 2), 3e38, np.float32)
    assert fastmlp.input.arrays.first_non_finite(fake_cupy.asarray(X)) is None


def test_images_by_a_net_that_scales(copies, data):
    y = data[1]
    images = np.random.default_rng(1).integers(0, 256, (30, 7)).astype(np.uint8)
    model = fastmlp.train(fake_cupy.asarray(images), y, **SETTINGS)
    with pytest.warns(UserWarning, match="pass the images as they are"):
        model.predict(fake_cupy.asarray(images / 255))
    with pytest.raises(ValueError, match="X has 3 features, but the net takes 7"):
        model.predict(fake_cupy.asarray(images[:, :3]))


def test_gpu_of(two_gpus):  # noqa: F811
    assert [device.gpu_of(name) for name in ("auto", "cuda", "cuda:1", "cpu", "reference")] == [0, 0, 1, None, None]
