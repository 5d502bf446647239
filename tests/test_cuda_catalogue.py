"""What is added to the catalogue works in the CUDA kernels as what is there: trained in the simulator, compiled alone.

In a process of their own, as records are registered before a kernel package is imported.
"""
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("greenlet", reason="the simulator needs greenlet: pip install 'fastmlp[test]'")
from simulator import part

from fastmlp.kernels import activations as act
from fastmlp.kernels import losses, update_rules

TRAINS = """
import numpy as np
import toy_catalogue
from toy_catalogue import lion, lion_constants, log_cosh, mish, mish_slope
from fastmlp.kernels import activations, catalogue, losses, update_rules

toy_catalogue.register()
from simulator import Machine, part, simulated

rng, (k, h, n), rows = np.random.default_rng(0), (3, 4, 2), 9
rate, hyper, l2, scale = 0.05, (0.9, 0.95, 0, 0.1), 0.01, 0.7
x, t = rng.standard_normal((rows, k)), rng.standard_normal((rows, n))
start = rng.standard_normal((k + 1) * h + (h + 1) * n)
each = lambda formula, *arrays: np.array([formula(*map(float, a)) for a in zip(*map(np.ravel, arrays))])
for plan in (None, part("narrow").plan((k, h, n), 4, np.float64)):
    training = part("training").Training(Machine(), choose_plan=lambda *shape: plan)
    state = training.prepare(start, (k, h, n), (activations.MISH, activations.IDENTITY), dropout=(0.0, 0.0),
                             loss=losses.LOG_COSH, rule=update_rules.LION, hyper=hyper, l2=l2, batch_size=4, scale=1.0,
                             seed=0, n_threads=None, loss_parameter=scale)
    totals = [training.train_epoch(state, x, None, t, None, np.arange(rows), np.full(3, rate)) for _ in range(2)]
    found = np.empty_like(start)
    training.read_parameters(state, found)

    w, s1, step, expected = start.copy(), np.zeros_like(start), 0, []
    is_weight = np.r_[np.ones(k * h), np.zeros(h), np.ones(h * n), np.zeros(n)].astype(bool)
    for _ in range(2):
        loss_sum = correct = 0.0
        for first in range(0, rows, 4):
            batch, step = slice(first, first + 4), step + 1
            w1, b1 = w[:k * h].reshape(k, h), w[k * h:k * h + h]
            w2, b2 = w[k * h + h:-n].reshape(h, n), w[-n:]
            z1 = x[batch] @ w1 + b1
            a = each(mish, z1).reshape(z1.shape)
            z2 = a @ w2 + b2
            values = each(lambda z, t: log_cosh(scale, z, t), z2, t[batch])
            loss_sum += values[:, 0].sum() / n
            correct += ((z2 > 0) == (t[batch] > 0.5)).sum() / n
            dz2 = values[:, 1].reshape(z2.shape) / (n * len(z2))
            dz1 = dz2 @ w2.T * each(mish_slope, z1).reshape(z1.shape)
            g = np.concatenate([(x[batch].T @ dz1).ravel(), dz1.sum(0), (a.T @ dz2).ravel(), dz2.sum(0)])
            c = lion_constants(hyper, rate, step)
            moved = [lion(w[i], g[i] + l2 * w[i] * is_weight[i], s1[i], 0.0,
                          c if is_weight[i] else catalogue.without_decay(c)) for i in range(len(w))]
            w, s1 = np.array([m[0] for m in moved]), np.array([m[1] for m in moved])
        expected.append((loss_sum, correct, rows))
    np.testing.assert_allclose(found, w, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(totals, expected, rtol=1e-12)

y, dz = np.empty((rows, h)), np.empty((rows, n))
simulated.dense_forward(x, w1, b1, activations.MISH, y)
np.testing.assert_allclose(y.ravel(), each(mish, x @ w1 + b1), rtol=1e-12)
value = simulated.pointwise_loss(losses.LOG_COSH, scale, t[::-1].copy(), t, None, dz)
assert np.isclose(value, each(lambda z, t: log_cosh(scale, z, t), t[::-1], t)[:, 0].mean())
assert len(simulated.functions.step_constants(update_rules.LION, hyper, rate, 1, np.float32)) == 9
"""

COMPILES = """
import re
import toy_catalogue

toy_catalogue.register()
import cuda_compiler

for entry in cuda_compiler.entries():
    if entry.name in ("forward_small", "row_loss", "update", "local_gradient") and entry.dtype.__name__ == "float32":
        ptx = cuda_compiler.compile_kernel(entry, (8, 0), "ptx")
        assert not re.findall(r"\\b(?:add|sub|mul|fma|div|sqrt|neg|setp|rcp)[.\\w]*\\.f64\\b", ptx), entry
        assert "call.uni" not in ptx, entry
        report = cuda_compiler.report(entry, (9, 0))
        assert report.spills == 0, (entry, report)
"""


def run(code):
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                            env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)})
    assert result.returncode == 0, result.stderr


def test_a_new_activation_rule_and_loss_train():
    run(TRAINS)


def test_they_compile_without_a_double():
    for module in ("numba_cuda", "nvidia", "cuda.bindings.nvjitlink"):
        pytest.importorskip(module, reason="needs pip install 'fastmlp[cuda-compile]'")
    run(COMPILES)


def test_an_unknown_code_gives_no_number():
    """Nothing that looks like the last record's answer."""
    scalars = part("scalars").functions(np.float32)
    one, code = np.float32(1), 99
    found = [scalars.activate(code, one), scalars.slope(code, one), *scalars.with_slope(code, one),
             *scalars.loss(code, one, one, one), *scalars.apply_rule(code, one, one, one, one, None)]
    assert np.isnan(found).all()
    w = np.ones(1, np.float32)
    part("optimizer").define(np.float32).step(code, None, one, w, 0, w, w, 0)
    assert w[0] == 1                                        # what no rule is known to move stays


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_record_is_dispatched_to_its_own_formula(dtype):
    """By the records themselves, in whatever order they stand."""
    scalars, z, tolerance = part("scalars").functions(dtype), 0.37, 16 * float(np.finfo(dtype).eps)
    for code, record in act.TABLE.cases():
        if record.elementwise:
            assert scalars.activate(code, dtype(z)) == pytest.approx(record.f(z), rel=tolerance), record.name
        if record.trainable:
            y, slope = scalars.with_slope(code, dtype(z))
            expected = record.slope(z if record.needs_z else record.f(z))
            assert slope == pytest.approx(expected, rel=tolerance), record.name
            assert type(y) is type(slope) is dtype
    for code, record in losses.TABLE.cases():
        if record.elementwise:
            assert scalars.loss(code, dtype(0.3), dtype(z), dtype(0.2)) == pytest.approx(
                record.element(0.3, z, 0.2), rel=tolerance), record.name
    for code, record in update_rules.TABLE.cases():
        c = record.constants((0.9, 0.99, 1e-3, 0.1), 0.05, 3)
        found = scalars.apply_rule(code, *map(dtype, (z, 0.2, 0.3, 0.4)), type(c)(*map(dtype, c)))
        assert found == pytest.approx(record.step(z, 0.2, 0.3, 0.4, c), rel=tolerance), record.name
