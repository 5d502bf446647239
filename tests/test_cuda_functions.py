"""Device functions in somebody else's `@cuda.jit` kernel: in the simulator against the reference, and compiled."""
import dataclasses
import importlib
import re

import cases
import numpy as np
import pytest

from fastmlp.kernels import activations as act
from fastmlp.kernels import reference, update_rules

pytest.importorskip("greenlet", reason="the simulator needs greenlet: pip install 'fastmlp[test]'")
from simulator import NAME
from test_cuda import PLACES

WIDTH, CLASSES, THREADS = 5, 3, 4
HYPER = cases.HYPER[update_rules.ADAMW]


def training_kernel(cuda, f, dtype):
    """A kernel that uses all of them: a thread is a row on its way through a net with dropout, to the gradient of its
    logits, its probabilities, and an optimizer step of a weight of its own."""
    dense_row, softmax_row, kept = f.dense_row, f.softmax_row, f.kept
    softmax_cross_entropy_row = f.softmax_cross_entropy_row
    activate, slope, with_slope, apply_rule = f.activate, f.slope, f.with_slope, f.apply_rule
    identity, relu, gelu, adamw = act.IDENTITY, act.RELU, act.GELU, update_rules.ADAMW
    zero, classes = dtype(0), CLASSES

    @cuda.jit
    def kernel(x, w1, b1, w2, b2, labels, threshold, factor, seed, scale, constants, theta, hidden, loss, dz, p,
               slopes):
        r = cuda.grid(1)
        if r >= x.shape[0]:
            return
        dense_row(x[r], w1, b1, relu, hidden[r])
        for j in range(hidden.shape[1]):
            hidden[r, j] = hidden[r, j] * factor if kept(r, j, 0, 7, seed, threshold) else zero
        z = cuda.local.array(classes, dtype)
        dense_row(hidden[r], w2, b2, identity, z)
        softmax_row(z, p[r])
        loss[r] = softmax_cross_entropy_row(z, labels[r], scale, dz[r])
        y, slopes[r, 0] = with_slope(gelu, x[r, 0])
        slopes[r, 1] = slope(relu, hidden[r, 0]) + activate(identity, y)
        theta[r, 0], theta[r, 2], theta[r, 3] = apply_rule(adamw, theta[r, 0], theta[r, 1], theta[r, 2], theta[r, 3],
                                                           constants)

    return kernel


@pytest.fixture(params=PLACES)
def place(request):
    """(the device functions, numba.cuda) in the simulator or on a GPU."""
    package = NAME if request.param == "simulator" else "fastmlp.kernels.cuda"
    return (importlib.import_module(f"{package}.functions"), importlib.import_module(f"{package}.shims").cuda)


@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_inside_somebody_elses_kernel(place, dtype):
    functions, cuda = place
    rng, m, k, rate, seed = np.random.default_rng(0), 6, 4, 0.4, 11
    x, w1, b1, w2, b2 = (cases.normals(rng, s, dtype) for s in ((m, k), (k, WIDTH), (WIDTH,), (WIDTH, CLASSES),
                                                                (CLASSES,)))
    labels, theta = rng.integers(0, CLASSES, m), np.abs(cases.normals(rng, (m, 4), dtype))
    before = theta.astype(np.float64)
    hidden, loss, dz, p, slopes = (cases.blank(s, dtype) for s in ((m, WIDTH), m, (m, CLASSES), (m, CLASSES), (m, 2)))
    constants = functions.step_constants(update_rules.ADAMW, HYPER, 0.1, 3, dtype)
    assert {type(c) for c in constants} == {dtype}
    kernel = training_kernel(cuda, functions.of(dtype), dtype)
    kernel[2, THREADS](x, w1, b1, w2, b2, labels, functions.keep_threshold(rate), dtype(1 / (1 - rate)), seed,
                       dtype(1 / m), constants, theta, hidden, loss, dz, p, slopes)

    x, w1, b1, w2, b2 = (a.astype(np.float64) for a in (x, w1, b1, w2, b2))
    expected_hidden = reference.dropout(reference.dense_forward(x, w1, b1, act.RELU), rate, seed, 7, 0)
    z = reference.dense_forward(expected_hidden, w2, b2, act.IDENTITY)
    expected_dz, rounding = np.empty_like(z), cases.rounding(dtype, WIDTH)
    mean = reference.softmax_cross_entropy(z, labels, None, None, expected_dz)
    odds = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    pulled = [before[:, i].copy() for i in range(4)]
    reference.update(update_rules.ADAMW, np.array(HYPER), 0.1, 3, *pulled)
    for ours, theirs in ((hidden, expected_hidden), (dz, expected_dz), (loss.mean(dtype=np.float64), mean), (p, odds),
                         (theta, np.stack(pulled, axis=1))):
        assert cases.error(ours, theirs) <= rounding
    y, step = np.empty_like(x), 1e-6
    rise = [reference.dense_forward(x + d, np.eye(k), np.zeros(k), act.GELU, y).copy()[:, 0] for d in (step, -step)]
    np.testing.assert_allclose(slopes[:, 0], (rise[0] - rise[1]) / (2 * step), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(slopes[:, 1], (expected_hidden[:, 0] > 0) + (rise[0] + rise[1]) / 2, rtol=1e-5)


@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_a_row_that_is_hard(place, dtype):
    """Large logits, the gradient in place of them, NaN seen."""
    functions, cuda = place
    softmax_cross_entropy_row, one = functions.of(dtype).softmax_cross_entropy_row, dtype(1)

    @cuda.jit
    def kernel(z, losses):
        losses[cuda.grid(1)] = softmax_cross_entropy_row(z[cuda.grid(1)], 1, one, z[cuda.grid(1)])

    z, losses = np.array([[1e4, -1e4, 0], [3e4, 3e4, -3e4], [0, np.nan, 1]], dtype), np.empty(3, dtype)
    kernel[1, 3](z, losses)
    np.testing.assert_array_equal(z, np.array([[1, -1, 0], [0.5, -0.5, 0], [np.nan] * 3], dtype))
    np.testing.assert_allclose(losses, [2e4, np.log(2), np.nan], rtol=1e-6)


def test_old_names(place):
    functions, _ = place
    found = functions.of(np.float32)
    with pytest.warns(DeprecationWarning, match="now softmax_cross_entropy_row"):
        assert found.softmax_xent_row is found.softmax_cross_entropy_row
    with pytest.raises(AttributeError, match="no device function 'softmax'"):
        found.softmax  # noqa: B018


@pytest.mark.parametrize("cc", [(7, 5), (8, 0), (9, 0)], ids=lambda cc: "sm_{}{}".format(*cc))
def test_compiles_into_somebody_elses_kernel(cc):
    """No spill, all inlined, and not a double in it."""
    for module in ("numba_cuda", "nvidia", "cuda.bindings.nvjitlink"):
        pytest.importorskip(module, reason="needs pip install 'fastmlp[cuda-compile]'")
    import cuda_compiler
    from numba import types

    from fastmlp.kernels.cuda import functions

    real, dtype = types.float32, np.float32

    @dataclasses.dataclass(frozen=True)
    class Users(cuda_compiler.Entry):
        def signature(self):
            vector, matrix, whole = real[::1], real[:, ::1], types.int64
            return types.void(matrix, matrix, vector, matrix, vector, types.int64[::1], whole, real, whole, real,
                              types.UniTuple(real, 9), matrix, matrix, vector, matrix, matrix, matrix)

    entry = Users("users", dtype, training_kernel(cuda_compiler.cuda, functions.of(dtype), dtype))
    ptx = cuda_compiler.compile_kernel(entry, cc, "ptx")
    assert not re.findall(r"\b(?:add|sub|mul|fma|div|sqrt|neg|setp|rcp)[.\w]*\.f64\b", ptx)
    assert "call.uni" not in ptx
    assert cuda_compiler.report(entry, cc).spills == 0
