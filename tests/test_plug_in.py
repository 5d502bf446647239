"""Single operations in other people's code: from Python, inside their `@njit` (parallel, nogil, cached), from C."""
import ctypes
import os
import pydoc
import subprocess
import sys
import threading

import numpy as np
import pytest
from numba import carray, cfunc, njit, prange, types
from toy import PATIENCE

from fastmlp.kernels import cpu, reference
from fastmlp.kernels.activations import RELU

OPERATIONS = ("dense_forward", "dense_backward", "softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error",
              "pointwise_loss",
              "perceptron_online", "perceptron_batch", "perceptron_epoch", "update", "dropout", "philox", "gather")


@pytest.fixture
def layer(rng):
    """x, w, b of a small dense layer and its output."""
    x, w, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((40, 20), (20, 30), (30,)))
    return x, w, b, np.maximum(x @ w + b, 0)


def test_in_python_an_output_may_be_left_out(package, layer):
    x, w, b, wanted = layer
    np.testing.assert_allclose(package.dense_forward(x, w, b, RELU), wanted, atol=1e-5)
    y = np.empty_like(wanted)
    assert np.shares_memory(package.dense_forward(x, w, b, activation=RELU, y=y), y)
    np.testing.assert_allclose(y, wanted, atol=1e-5)
    mask = package.dropout(np.ones((6, 5)), 0.5, 1, 2, 3)
    np.testing.assert_array_equal(mask, reference.dropout(np.ones((6, 5)), 0.5, 1, 2, 3, np.empty((6, 5))))


def test_losses_without_weights_and_targets(package):
    z, dz = np.array([[0.0, np.log(3)]]), np.empty((1, 2))
    assert package.softmax_cross_entropy(z, np.array([1]), None, None, dz) == pytest.approx(np.log(4 / 3))
    np.testing.assert_allclose(dz, [[0.25, -0.25]])
    assert package.softmax_cross_entropy(z, None, np.array([[0.0, 1.0]]), None, dz) == pytest.approx(np.log(4 / 3))
    np.testing.assert_allclose(dz, [[0.25, -0.25]])
    assert package.squared_error(z, np.zeros((1, 2)), None, dz) == pytest.approx(np.log(3) ** 2 / 2)
    loss = package.sigmoid_cross_entropy(np.zeros((3, 1)), np.ones((3, 1)), None, np.empty((3, 1)))
    assert loss == pytest.approx(np.log(2))


def test_bad_arrays_are_named():
    x, w, b = np.ones((4, 6), np.float32), np.ones((6, 3), np.float32), np.ones(3, np.float32)
    for arguments, error, message in (
        ((x.T.copy().T, w, b, RELU), ValueError, r"dense_forward: x must be C-contiguous.*ascontiguousarray\(x\)"),
        ((x, w.astype(float), b, RELU), TypeError, "all float arrays must have one dtype, got x float32, w float64"),
        ((x, w, [1.0, 1.0, 1.0], RELU), TypeError, "dense_forward: b must be a NumPy array, got list"),
        ((x, w, b.astype(np.int32), RELU), TypeError, "dense_forward: b must be float32 or float64.*got int32"),
        ((x, w, np.ones(4, np.float32), RELU), ValueError, r"needs x \(m, k\), w \(k, n\), b \(n,\), y \(m, n\)"),
        ((x, w, b, 99), ValueError, "activation must be a code"),
    ):
        with pytest.raises(error, match=message):
            cpu.dense_forward(*arguments)
    with pytest.raises(TypeError, match="update: hyper must be float64, got float32"):
        cpu.update(0, np.zeros(4, np.float32), 0.1, 1, b, b, b[:0], b[:0])


@njit(nogil=True)
def two_layers(x, w1, b1, w2, b2, y):
    h = cpu.dense_forward(x, w1, b1, RELU)
    cpu.dense_forward(h, w2, b2, RELU, y)


@njit(parallel=True)
def blocks(x, w, b, y, size):
    for block in prange(len(x) // size):
        rows = slice(block * size, (block + 1) * size)
        cpu.dense_forward(x[rows], w, b, RELU, y[rows])


def test_inside_njit_and_threads(layer, rng):
    x, w, b, h = layer
    w2, b2 = rng.standard_normal((30, 7)).astype(np.float32), np.zeros(7, np.float32)
    outs = [np.empty((40, 7), np.float32) for _ in range(4)]
    threads = [threading.Thread(target=two_layers, args=(x, w, b, w2, b2, out)) for out in outs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for out in outs:
        np.testing.assert_allclose(out, np.maximum(h @ w2, 0), atol=1e-4)


def test_inside_parallel_njit(layer):
    x, w, b, wanted = layer
    y = np.full_like(wanted, np.nan)
    blocks(x, w, b, y, 10)
    np.testing.assert_allclose(y, wanted, atol=1e-5)


def test_every_operation_is_known_to_compiled_code():
    """What the package exports for Python is also what compiled code finds under that name."""
    for name in OPERATIONS:
        function = getattr(cpu, name)

        @njit
        def wrong_use():
            function()  # noqa: B023

        with pytest.raises(Exception, match=f"missing a required argument|missing.*argument|{name}") as error:
            wrong_use()
        assert "Untyped global name" not in str(error.value), name


MODULE = """
import numba
import numpy as np
from fastmlp.kernels.activations import RELU
from fastmlp.kernels.cpu import dense_forward

@numba.njit(cache=True)
def layer(x, w, b, y):
    dense_forward(x, w, b, RELU, y)
"""


def test_in_a_cached_module(tmp_path, layer):
    """A second process finds its machine code, and that of the kernel in it."""
    x, w, b, wanted = layer
    (tmp_path / "mine.py").write_text(MODULE)
    np.savez(tmp_path / "in.npz", x=x, w=w, b=b)
    code = """
import numpy as np, mine
given, y = np.load("in.npz"), np.empty((40, 30), np.float32)
mine.layer(given["x"], given["w"], given["b"], y)
np.save("y.npy", y)
print(sum(mine.layer.stats.cache_hits.values()))
"""
    for hits in ("0", "1"):
        child = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, text=True,
                               capture_output=True, timeout=PATIENCE,
                               env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")})
        assert child.returncode == 0, child.stderr
        assert child.stdout.strip() == hits
        np.testing.assert_allclose(np.load(tmp_path / "y.npy"), wanted, atol=1e-5)


def test_from_c(layer):
    """The address of a cfunc is a C function pointer; ctypes stands for a C program."""
    x, w, b, wanted = layer
    m, k, n = *x.shape, w.shape[1]
    pointer = types.CPointer(types.float32)

    @cfunc(types.void(pointer, pointer, pointer, pointer))
    def relu_layer(x, w, b, y):
        cpu.dense_forward(carray(x, (m, k)), carray(w, (k, n)), carray(b, n), RELU, carray(y, (m, n)))

    c_pointer = ctypes.POINTER(ctypes.c_float)
    from_c = ctypes.CFUNCTYPE(None, *(c_pointer,) * 4)(relu_layer.address)
    y = np.empty((m, n), np.float32)
    from_c(*(array.ctypes.data_as(c_pointer) for array in (x, w, b, y)))
    np.testing.assert_allclose(y, wanted, atol=1e-5)


def test_importing_one_operation_leaves_the_rest(tmp_path):
    code = """
import sys
from fastmlp.kernels.cpu import perceptron_online
print(sorted({name for name in sys.modules if name.startswith(("fastmlp.kernels.cpu.net", "fastmlp.kernels.cpu.threads",
                                                               "fastmlp.kernels.cpu.operation."))}
             - {"fastmlp.kernels.cpu.operation.operands"}))
print(perceptron_online.__wrapped__.__module__)
"""
    child = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, cwd=tmp_path)
    assert child.stdout.splitlines() == ["['fastmlp.kernels.cpu.operation.perceptron']",
                                         "fastmlp.kernels.cpu.operation.perceptron"], child.stderr


@pytest.mark.parametrize("name", OPERATIONS)
def test_help_tells_formula_layout_cost_and_source(name):
    text = pydoc.plain(pydoc.render_doc(getattr(cpu, name)))
    assert text.splitlines()[2].startswith(f"{name}(")         # the signature
    for word in ("Cost:", "Source", *(("float32", "C-contiguous", "Raises") if name != "philox" else ("uint32",))):
        assert word in text, f"{name}: its help has no {word!r}"
    assert pydoc.getdoc(getattr(reference, name)), f"reference.{name} has no docstring"
