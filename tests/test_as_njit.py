"""`MLP.as_njit`: a net inside other people's compiled code, and in their caches."""
import ctypes
import os
import pickle
import subprocess
import sys
from itertools import pairwise

import cases
import numba
import numpy as np
import pytest
from numba import njit, prange
from numba.core.runtime import _nrt_python as _nrt
from numba.core.runtime import rtsys
from toy import PATIENCE, outputs

import fastmlp
from fastmlp.input.scaling import robust_scaling
from fastmlp.kernels import activations as act


def net_of(sizes, activation="relu", output="softmax", dtype="float32", scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    model = fastmlp.MLP.from_parameters(
        [(rng.standard_normal(shape) / shape[0] ** 0.5).astype(dtype) for shape in pairwise(sizes)],
        [(0.1 * rng.standard_normal(n)).astype(dtype) for n in sizes[1:]],
        activation=activation, output=output, scale=scale)
    model.device = "reference"
    return model


def in_double(model):
    """The same net computed in float64 by the reference."""
    weights, biases = ([array.astype(float) for array in arrays] for arrays in (model.weights, model.biases))
    double = fastmlp.MLP.from_parameters(weights, biases, activation=model.activations, output=model.output,
                                         scale=model.scale)
    double.device = "reference"
    return double


@njit(nogil=True)
def every_row(net, X, out):
    for i in range(len(X)):
        net(X[i], out[i])


@njit(parallel=True)
def every_row_in_parallel(net, X, out):
    for i in prange(len(X)):
        net(X[i], out[i])


# Widths around one vector, four vectors and their remainders; every activation.
SHAPES = [(1, 1), (4, 32, 16, 4), (3, 65, 10), (784, 10, 10), (7, 100, 1), (2, 16, 17, 8, 5)]
NETS = [*((sizes, "relu", "softmax") for sizes in SHAPES),
        ((5, *(20,) * len(act.TRAINABLE), 3), act.TRAINABLE, "identity"),
        ((6, 20), "relu", "sign"), ((6, 20), "relu", "exp"),
        ((4, 24, 9, 3), ("tanh", "silu"), "sigmoid"), ((3, 9, 2), "gelu", "gelu")]


@pytest.mark.parametrize("net", [*((*net, np.float32) for net in NETS), *((*net, np.float64) for net in NETS[2::4])],
                         ids=str)
def test_is_close_to_double(net, rng):
    sizes, activation, output, dtype = net
    model = net_of(sizes, activation, output, dtype)
    X = rng.standard_normal((9, sizes[0])).astype(dtype)
    out = np.full((9, sizes[-1]), np.nan, dtype)
    every_row(model.as_njit(), X, out)
    assert cases.error(out, outputs(in_double(model), X)) <= len(sizes) * cases.rounding(dtype, max(sizes))


def test_uint8_rows_are_scaled(rng):
    model = net_of((784, 10, 10), scale=1 / 255)
    X = rng.integers(0, 256, (5, 784)).astype(np.uint8)
    out = np.empty((5, 10), np.float32)
    every_row(model.as_njit(), X, out)
    assert cases.error(out, outputs(in_double(model), X)) <= 3 * cases.rounding(np.float32, 784)


@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_scales_its_input(dtype, rng):
    X = np.exp(rng.standard_normal((40, 70))).astype(dtype)
    X[0, :3] = 1e30, -1e30, 0                          # far away: clipped, without overflow
    model = net_of((70, 20, 3), "tanh", dtype=dtype)
    model.scaling = robust_scaling(X, np.arange(len(X)), model.dtype)
    out = np.empty((40, 3), dtype)
    every_row(model.as_njit(), X, out)
    double = in_double(model)
    double.scaling = robust_scaling(X.astype(float), np.arange(len(X)), double.dtype)
    assert cases.error(out, outputs(double, X)) <= 3 * cases.rounding(dtype, 70)
    X[1, 5] = np.nan
    every_row(model.as_njit(), X, out)
    assert np.isnan(out[1]).all()


def test_double_state_strides_and_integers(rng):
    """A simulation's state is float64 and often a column; the net computes in its own dtype."""
    model = net_of((4, 32, 16, 4))
    net, X = model.as_njit(), rng.integers(-3, 4, (4, 6))
    expected = outputs(model, X.T)
    for state in (X.astype(float), X, np.asfortranarray(X.astype(np.float32))):
        out = np.full((4, 6), np.nan)
        every_row(net, state.T, out.T)
        np.testing.assert_allclose(out.T, expected, rtol=1e-5)


def test_parallel_and_python_give_the_same_bits(rng):
    model = net_of((20, 33, 4), "tanh")
    net, X = model.as_njit(), rng.standard_normal((200, 20)).astype(np.float32)
    serial, parallel, python = (np.empty((200, 4), np.float32) for _ in range(3))
    every_row(net, X, serial)
    every_row_in_parallel(net, X, parallel)
    for row, out in zip(X, python, strict=True):
        net(row, out)
    np.testing.assert_array_equal(parallel, serial)
    np.testing.assert_array_equal(python, serial)


def test_holds_the_weights_of_its_moment():
    model = net_of((3, 5, 2))
    net, row, before, after = model.as_njit(), np.ones(3, np.float32), np.empty(2), np.empty(2)
    net(row, before)
    model.parameters[:] = 0
    net(row, after)
    np.testing.assert_array_equal(after, before)
    model.as_njit()(row, after)
    np.testing.assert_array_equal(after, [0.5, 0.5])


def test_from_c_and_pickled():
    model, row = net_of((3, 5, 2)), np.ones(3)
    net = pickle.loads(pickle.dumps(model.as_njit()))
    doubles = numba.types.CPointer(numba.types.float64)

    @numba.cfunc(numba.types.void(doubles, doubles))
    def controller(row, out):
        net(numba.carray(row, 3), numba.carray(out, 2))

    c_doubles, out = ctypes.POINTER(ctypes.c_double), np.empty(2)
    from_c = ctypes.CFUNCTYPE(None, c_doubles, c_doubles)(controller.address)
    from_c(row.ctypes.data_as(c_doubles), out.ctypes.data_as(c_doubles))
    np.testing.assert_allclose(out, outputs(model, row[None])[0], rtol=1e-5)


def enclosing(net):
    @njit
    def enclosed(row):
        out = np.empty(2, np.float32)
        net(row, out)
        return out

    return enclosed


def test_as_a_closure_it_follows_its_own_net_and_outlives_its_name():
    functions, expected, row = [], [], np.ones(3, np.float32)
    for seed in (1, 2):
        model = net_of((3, 5, 2), seed=seed)
        net = model.as_njit()

        functions.append(enclosing(net))
        functions[-1](row)
        expected.append(outputs(model, row[None])[0])
        del net
    for function, wanted in zip(functions, expected, strict=True):
        np.testing.assert_allclose(function(row), wanted, rtol=1e-5)


def test_no_allocation():
    net, rows = net_of((784, 10, 10)).as_njit(), np.zeros((1000, 784), np.float32)
    out = np.empty((1000, 10), np.float32)
    every_row(net, rows, out)
    counts = []
    _nrt.memsys_enable_stats()
    try:
        for n in (1, 1000):
            before = rtsys.get_allocation_stats()
            every_row(net, rows[:n], out[:n])
            after = rtsys.get_allocation_stats()
            counts.append((after.alloc - before.alloc, after.mi_alloc - before.mi_alloc))
    finally:
        _nrt.memsys_disable_stats()
    assert counts[0] == counts[1]


def test_refuses_rows_of_another_length():
    net = net_of((3, 5, 2)).as_njit()
    for row, out in ((np.ones(4), np.empty(2)), (np.ones(3), np.empty(3))):
        with pytest.raises(ValueError, match="row must have 3 numbers and out 2"):
            net(row, out)
        with pytest.raises(ValueError, match="row must have 3 numbers and out 2"):
            every_row(net, row[None], out[None])
    for row, out in ((np.ones((1, 3)), np.empty(2)), (np.ones(3), np.empty(2, np.int64)), ([1, 2, 3], np.empty(2))):
        with pytest.raises(numba.TypingError, match=r"one-dimensional array of numbers|float32 or float64"):
            net(row, out)
    with pytest.raises(ValueError, match="at most 32,768 units, got 40,000"):
        fastmlp.MLP((1, 40_000, 1), ("relu",), "identity").as_njit()


MODULE = """
import sys
import numpy as np
import numba
import fastmlp

model = fastmlp.load(sys.argv[1])
net = model.as_njit()

@numba.njit(cache=True)
def by_argument(net, row, out):
    net(row, out)

@numba.njit(cache=True)
def by_global(row, out):
    net(row, out)
"""
PROGRAM = """
import sys, warnings
sys.path.insert(0, sys.argv[2])
import numpy as np
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import controller
    row, a, b = np.ones(3, np.float32), np.empty(2, np.float32), np.empty(2, np.float32)
    controller.by_argument(controller.net, row, a)
    controller.by_global(row, b)
print(a.tolist() == b.tolist(), sum(controller.by_argument.stats.cache_hits.values()),
      sum(controller.by_global.stats.cache_hits.values()), ["dynamic globals" in str(w.message) for w in caught],
      *a.tolist())
"""


def test_a_new_process_never_meets_old_weights(tmp_path):
    """Two processes, one module, one cache, two models of the same shape."""
    (tmp_path / "controller.py").write_text(MODULE)
    for seed, hits in ((1, 0), (2, 1)):
        model = net_of((3, 5, 2), seed=seed)
        model.save(tmp_path / "model.safetensors")
        child = subprocess.run(
            [sys.executable, "-c", PROGRAM, tmp_path / "model.safetensors", tmp_path], text=True, capture_output=True,
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}, timeout=PATIENCE)
        assert child.returncode == 0, child.stderr
        same, argument_hits, global_hits, warned, *out = child.stdout.replace("[True]", "True").split()
        assert (same, int(argument_hits), int(global_hits), warned) == ("True", hits, 0, "True")
        np.testing.assert_allclose(np.array(out, float), outputs(model, np.ones((1, 3)))[0], rtol=1e-5)
