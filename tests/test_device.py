"""Which device a name means; GPUs are stand-ins."""
import importlib
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
    return asked


def test_auto_takes_a_gpu(two_gpus):
    assert device.choose() == ("cuda", "CuPy sees GPU A")
    assert device.choose("cuda:1") == ("cuda:1", "asked for by name")
    device.kernels()
    device.kernels("cuda:1")
    assert two_gpus == [0, 1]
    with pytest.raises(RuntimeError, match=r"device='cuda:2' \(asked for by name\): 2 GPUs, numbered from 0"):
        device.choose("cuda:2")


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
