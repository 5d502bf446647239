"""Which device a name means; GPUs are stand-ins."""
import importlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import fastmlp
from fastmlp import device

pytest.importorskip("greenlet", reason="the simulator needs greenlet: pip install 'fastmlp[test]'")
from test_cuda_training import training_at


@pytest.fixture
def two_gpus(monkeypatch):
    """Two GPUs by name; their kernels run in the simulator."""
    asked = []
    monkeypatch.delenv("FASTMLP_DEVICE", raising=False)
    monkeypatch.setattr(device, "gpus", lambda: (("GPU A", "GPU B"), ""))

    class Package:
        @staticmethod
        def on(index):
            asked.append(index)
            return simulated

    simulated = training_at("simulator")

    def import_module(name):
        return Package if name == "fastmlp.kernels.cuda" else importlib.import_module(name)

    monkeypatch.setattr(device, "importlib", SimpleNamespace(import_module=import_module))
    device.broken.cache_clear()
    yield asked
    device.broken.cache_clear()


def test_auto_takes_a_gpu(two_gpus):
    assert device.choose() == ("cuda", "CuPy sees GPU A")
    assert device.choose("cuda:1") == ("cuda:1", "asked for by name")
    two_gpus.clear()
    device.kernels()
    device.kernels("cuda:1")
    assert two_gpus == [0, 1]
    with pytest.raises(RuntimeError, match=r"device='cuda:2' \(asked for by name\): 2 GPUs, numbered from 0"):
        device.choose("cuda:2")


def test_auto_takes_the_cpu_where_no_kernel_compiles(two_gpus, monkeypatch, caplog):
    """Tried once, and logged; a device asked for by name raises what is wrong."""
    class Broken:
        @staticmethod
        def on(index):
            two_gpus.append(index)
            raise ImportError("nvidia-nvvm 13.5 is newer than nvidia-nvjitlink 13.0")

    monkeypatch.setattr(device, "importlib", SimpleNamespace(import_module=lambda name: Broken if "cuda" in name
                                                             else importlib.import_module(name)))
    for _ in range(2):
        name, reason = device.choose()
        assert (name, device.kernels().__name__) == ("cpu", "fastmlp.kernels.cpu")
        assert "ImportError: nvidia-nvvm 13.5 is newer" in reason
    assert len(two_gpus) == caplog.text.count("device='auto' takes the CPU") == 1
    assert device.choose("cuda") == ("cuda", "asked for by name")
    with pytest.raises(RuntimeError, match=r"device='cuda' cannot be used here: nvidia-nvvm 13\.5 is newer"):
        device.kernels("cuda")


def test_auto_without_a_gpu(monkeypatch):
    monkeypatch.delenv("FASTMLP_DEVICE", raising=False)
    monkeypatch.setattr(device, "find_spec", lambda name: None)
    device.gpus.cache_clear()
    assert device.choose() == ("cpu", "no GPU: CuPy is not installed")
    device.gpus.cache_clear()


def test_train_on_a_simulated_gpu(two_gpus, caplog):
    """fastmlp.train through to the simulated kernels: the reference's weights, and the device it chose in the log."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 3)), np.arange(30) % 3
    settings = {"hidden": 5, "epochs": 2, "batch_size": 8, "seed": 0, "validation_fraction": 0.2, "dtype": "float64"}
    with caplog.at_level("INFO", logger="fastmlp"):
        ours = fastmlp.train(X, y, **settings)
    assert "device: cuda (CuPy sees GPU A)" in caplog.text
    answers, score = ours.predict(X), ours.evaluate(X, y)
    oracle = fastmlp.train(X, y, **settings, device="reference")
    np.testing.assert_allclose(ours.parameters, oracle.parameters, rtol=1e-10, atol=1e-12)
    assert ours.history["val_loss"] == pytest.approx(oracle.history["val_loss"])
    np.testing.assert_array_equal(answers, oracle.predict(X))
    assert score == pytest.approx(oracle.evaluate(X, y))


class GpuArray:
    """A stand-in for an array of CuPy's: refuses NumPy's conversion, as that does."""

    __cuda_array_interface__ = None

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def get(self):
        return self.array.copy()


class Tensor:
    """A stand-in for a tensor of PyTorch's on a GPU."""

    is_cuda, device = True, "cuda:0"

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def detach(self):
        return self

    def cpu(self):
        return SimpleNamespace(numpy=lambda: self.array.copy())


@pytest.fixture
def stand_ins(monkeypatch):
    torch = SimpleNamespace(as_tensor=lambda array, device: (device, Tensor(array))[1])
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(asarray=GpuArray))
    monkeypatch.setitem(sys.modules, "torch", torch)


@pytest.mark.parametrize("kind", [GpuArray, Tensor])
def test_arrays_on_a_gpu_are_answered_in_kind(stand_ins, kind):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 3)), np.arange(40) % 3
    settings = {"hidden": 4, "epochs": 2, "batch_size": 8, "seed": 0, "device": "reference"}
    expected, model = fastmlp.train(X, y, **settings), fastmlp.train(kind(X), kind(y), **settings)
    np.testing.assert_array_equal(model.parameters, expected.parameters)
    for method in ("predict", "predict_proba"):
        answer = getattr(model, method)(kind(X))
        assert type(answer) is kind
        np.testing.assert_array_equal(answer.array, getattr(expected, method)(X))
        assert type(getattr(model, method)(X)) is np.ndarray
    assert model.evaluate(kind(X), kind(y)) == expected.evaluate(X, y)
    words = fastmlp.train(X, np.array(["a", "b", "c"])[y], **settings)
    assert words.predict(kind(X)).dtype.kind == "U"              # no GPU array holds text


def test_a_tensor_in_main_memory_is_an_array_like_any_other():
    class OnTheHost(Tensor):
        is_cuda = False

        def __array__(self, *_, **__):
            return self.array

    X = np.arange(6.0).reshape(3, 2)
    model = fastmlp.MLP.from_parameters([[[1.0], [2.0]]], [[0.0]], output="identity")
    assert type(model.predict(OnTheHost(X))) is np.ndarray
