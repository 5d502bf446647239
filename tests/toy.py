"""Small data sets that the tests of training share, and the devices they run on."""
import numpy as np
import pytest

from fastmlp.kernels import reference

DEVICES = pytest.mark.parametrize("device", ["reference", "cpu"])
# Seconds after which a test takes what it waits for to hang. Compiling everything takes 20 s of a core, where other
# programs hold the cores some minutes.
PATIENCE = 900
# What a test of options trains: seconds do not matter, so it need not be good.
QUICK = {"hidden": 8, "epochs": 2, "batch_size": 32, "seed": 0, "device": "reference"}


def blobs(n=240, classes=3, features=4, seed=0):
    """Points around well-separated centres: X float32 (n, features), y int64 (n,)."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % classes)
    centres = rng.normal(size=(classes, features)) * 4
    return (centres[y] + rng.normal(size=(n, features))).astype(np.float32), y


def waves(n=200, targets=1, seed=0):
    """A smooth function of two numbers: X float32 (n, 2), y float32 (n,) or (n, targets)."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (n, 2)).astype(np.float32)
    y = np.stack([np.sin(2 * X[:, 0] + t) * X[:, 1] for t in range(targets)], axis=1).astype(np.float32)
    return X, (y[:, 0] if targets == 1 else y)


def stops_of(monkeypatch, module, name):
    """A list that the tasks of `module.name` add their `stop` to as they begin: a callback that has pressed Ctrl-C can
    wait until it was noticed."""
    stops, function = [], getattr(module, name)

    def task(*arguments, stop):
        stops.append(stop)
        return function(*arguments, stop=stop)

    monkeypatch.setattr(module, name, task)
    return stops


def outputs(model, X):
    """The last layer's outputs (n, outputs), by the reference."""
    x = X if model.scaling is None else model.scaling(X)
    out = np.empty((len(x), model.sizes[-1]), model.dtype)
    reference.forward(model.parameters, model.sizes, model.activation_codes(), np.asarray(x), model.scale, None, out)
    return out
