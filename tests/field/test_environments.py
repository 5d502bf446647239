"""Environments in which people start Python: no compiler, NumPy that raises, no facts to be had."""
import os
import subprocess
import sys

import numpy as np
import pytest
from toy import PATIENCE

import fastmlp
from fastmlp import environment


@pytest.mark.parametrize("call", ["fastmlp.train([[0.], [1.]] * 9, [0, 1] * 9, epochs=1)",
                                  "fastmlp.kernels.cpu.dense_forward",
                                  "fastmlp.MLP.from_parameters([[[1.]]], [[0.]]).as_njit()"])
def test_without_a_compiler(call):
    """NUMBA_DISABLE_JIT=1, as set for coverage."""
    code = f"import fastmlp; print(fastmlp.info()['instruction set'])\n{call}"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE,
                           env={**os.environ, "NUMBA_DISABLE_JIT": "1", "FASTMLP_DEVICE": "auto"})
    assert "NUMBA_DISABLE_JIT" in child.stdout
    last = child.stderr.splitlines()[-1]
    assert "NUMBA_DISABLE_JIT" in last
    assert "device='reference'" in last


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_numpy_that_raises(device, rng):
    """np.seterr(all="raise"), with which people look for mistakes of their own."""
    X, y = rng.normal(size=(300, 5)), rng.integers(0, 3, 300)
    options = {"hidden": 16, "epochs": 20, "batch_size": 16, "learning_rate": 0.1, "seed": 0, "device": device}
    with np.errstate(all="raise"):
        model = fastmlp.train(X * 100, y, **options)
        for rows in (1, 300):
            assert np.isfinite(model.predict_proba(X[:rows] * 1e4)).all()
        fastmlp.train(X * 1e-40, y, **options | {"epochs": 1})
        nets = fastmlp.ensemble(X * 50, y, n=2, **options)
        nets.evaluate(X * 1e4, y)
        nets.predict_proba(X * 1e4)


def test_an_estimator_where_numpy_raises(rng):
    X, y = rng.normal(size=(300, 5)), rng.integers(0, 3, 300)
    with np.errstate(all="raise"):
        fitted = fastmlp.MLPClassifier((16,), max_iter=20, learning_rate_init=0.1, random_state=0).fit(X * 10, y)
        many = fitted.predict_proba(X * 1e4)
        single = [fitted.predict_proba(X[i:i + 1] * 1e4)[0] for i in range(9)]
    np.testing.assert_allclose(single, many[:9], atol=1e-5)


def test_info_says_what_it_cannot_find_out(monkeypatch):
    def broken(*_):
        raise OSError("no such thing here")

    for name in ("_blas", "available_cores", "cache_folder", "version", "import_module"):
        monkeypatch.setattr(environment, name, broken)
    monkeypatch.setattr(environment.device, "choose", broken)
    facts = fastmlp.info()
    assert all(isinstance(value, str) for value in facts.values())
    assert "no such thing here" in facts["NumPy's BLAS"]
