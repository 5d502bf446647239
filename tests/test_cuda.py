"""The CUDA kernels against the reference in float64: in the simulator, and on a GPU where there is one."""
import importlib
import os

import cases
import numpy as np
import pytest

from fastmlp.kernels import activations as act
from fastmlp.kernels import reference

pytest.importorskip("greenlet", reason="the simulator needs greenlet: pip install 'fastmlp[test]'")
from simulator import part, simulated

REQUIRED = os.environ.get("FASTMLP_REQUIRE_CUDA") == "1"
SIMULATED_NUMBERS = 1200         # a simulated case has at most so many numbers in its arrays


def no_gpu():
    """Why the kernels cannot run on a GPU here, or None."""
    try:
        from numba import cuda
        return None if cuda.is_available() else "no NVIDIA GPU that Numba can use"
    except ImportError as error:
        return str(error)


REASON = no_gpu()
CPU_ALONE = {"perceptron_epoch", "shuffle"}
NOT_HERE = {"forward", *CPU_ALONE}   # whole nets are tested in test_cuda_training.py
PLACES = ["simulator"] if REASON and not REQUIRED else ["simulator", "gpu"]


def package_at(place):
    if place == "simulator":
        return simulated
    assert REASON is None, REASON
    return importlib.import_module("fastmlp.kernels.cuda")


@pytest.fixture(params=PLACES)
def kernels(request):
    return package_at(request.param)


@pytest.mark.skipif(REASON is not None and not REQUIRED, reason=f"{REASON}: these tests ran in the simulator only")
def test_gpu_is_there():
    assert REASON is None


def numbers(case):
    return sum(value.size for value in case.arguments().values() if isinstance(value, np.ndarray))


def chosen(place):
    """All cases on a GPU; in the simulator, those few numbers long, float32 and float64 in turn."""
    for i, case in enumerate(c for c in cases.CASES if c.op not in NOT_HERE):
        if place == "gpu" or (numbers(case) <= SIMULATED_NUMBERS and (case.dtype is np.float32 or i % 3 == 0)):
            yield pytest.param(place, case, id=f"{place}-{case}")


@pytest.mark.parametrize(("place", "case"), [parameter for place in PLACES for parameter in chosen(place)])
def test_op(place, case):
    arguments = case.arguments()
    expected = cases.upcast(arguments)
    result = getattr(package_at(place), case.op)(*arguments.values())
    expected_result = getattr(reference, case.op)(*expected.values())
    errors = {name: cases.error(arguments[name], expected[name]) for name in case.outputs}
    if expected_result is not None and not isinstance(expected_result, np.ndarray):
        errors["result"] = abs(result - expected_result) / max(1, abs(expected_result))
    too_large = {name: e for name, e in errors.items() if not e <= case.tolerance}
    assert not too_large, f"{case} (seed {case.seed}): errors above {case.tolerance:.2g}"


@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_large_tile(dtype):
    """The tile that no small matrix is given, over its edges."""
    dense, plain_tile, one_batch = part("dense"), part("tile"), part("control").one_batch
    rng = np.random.default_rng(0)
    m, k, n = 65, 18, 67
    tile = plain_tile.define(dtype, "large")
    found = dense.kernels(dtype, tile)
    x, w, b, dz = (cases.integers(rng, s, dtype) for s in ((m, k), (k, n), (n,), (m, n)))
    y, dx, dw, db = (cases.blank(s, dtype) for s in ((m, n), (m, k), (k, n), (n,)))
    control, none = one_batch(m), np.zeros(1, dtype)
    found.forward[tile.count(m, n), tile.threads](x.ravel(), 0, w.ravel(), 0, b, 0, control, k, n, act.RELU,
                                                  y.reshape(-1), 0, none, 0, 0, none[0], 0, 0, 0)
    np.testing.assert_array_equal(y, np.maximum(x @ w + b, 0))
    found.input_gradient[tile.count(m, k), tile.threads](dz.ravel(), 0, w.ravel(), 0, control, k, n, 0, dx.reshape(-1),
                                                         0)
    np.testing.assert_array_equal(dx, dz @ w.T)
    found.weight_gradient[tile.count(k + 1, n), tile.threads](x.ravel(), dz.ravel(), control, k, n, dw.reshape(-1), db)
    np.testing.assert_array_equal(dw, x.T @ dz)
    np.testing.assert_array_equal(db, dz.sum(axis=0))


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize(("size", "shape"), [("small", (33, 37, 35)), ("large", (17, 67, 21))])
def test_tensor_cores(precision, size, shape):
    """Products of rounded operands, over the edges of a tile, with emulated instructions."""
    dense, one_batch, tile = part("dense"), part("control").one_batch, part("tensor_core").define(precision, size)
    rng, found = np.random.default_rng(0), dense.kernels(np.float32, tile)
    m, k, n = shape
    x, w, b, dz = (cases.normals(rng, s, np.float32) for s in ((m, k), (k, n), (n,), (m, n)))
    y, dx, dw, db = (cases.blank(s, np.float32) for s in ((m, n), (m, k), (k, n), (n,)))
    control, none = one_batch(m), np.zeros(1, np.float32)

    found.forward[tile.count(m, n), tile.threads](x.ravel(), 0, w.ravel(), 0, b, 0, control, k, n, act.IDENTITY,
                                                  y.reshape(-1), 0, none, 0, 0, none[0], 0, 0, 0)
    found.input_gradient[tile.count(m, k), tile.threads](dz.ravel(), 0, w.ravel(), 0, control, k, n, 0, dx.reshape(-1),
                                                         0)
    found.weight_gradient[tile.count(k + 1, n), tile.threads](x.ravel(), dz.ravel(), control, k, n, dw.reshape(-1), db)
    x, w, b, dz = (a.astype(np.float64) for a in (x, w, b, dz))
    for ours, exact in ((y, x @ w + b), (dx, dz @ w.T), (dw, x.T @ dz), (db, dz.sum(axis=0))):
        # Within the tolerance, but not exact: what was rounded has to show.
        assert cases.PRECISION_TOLERANCE[precision] / 10 < cases.error(ours, exact)
        assert cases.error(ours, exact) < cases.PRECISION_TOLERANCE[precision]


@pytest.mark.parametrize("precision", ["float32", "tf32"])
@pytest.mark.parametrize("size", ["small", "large"])
def test_pieces_without_rows(precision, size):
    """A step at rest, and the last piece of a short batch: the depth of their product is 0 or less; gradient 0."""
    define = part("tile").define if precision == "float32" else part("tensor_core").define
    tile = define(np.float32 if precision == "float32" else precision, size)
    rng, (m, k, n), pieces = np.random.default_rng(0), (5, 3, 2), 3
    x, dz = cases.integers(rng, (m, k), np.float32), cases.integers(rng, (m, n), np.float32)
    out = cases.blank((pieces, k + 1, n), np.float32)
    split = part("dense").kernels(np.float32, tile).split_gradient
    for rows in (m, 0):
        split[pieces, tile.threads](x.ravel(), 0, dz.ravel(), 0, part("control").one_batch(rows), k, n, 1, 4,
                                    out.reshape(-1))
        for piece in range(pieces):
            part_of = slice(4 * piece, min(4 * piece + 4, rows))
            np.testing.assert_array_equal(out[piece, :k], x[part_of].T @ dz[part_of])
            np.testing.assert_array_equal(out[piece, k], dz[part_of].sum(axis=0))


def test_nan_is_seen(kernels):
    x, w = np.ones((9, 5), np.float32), np.ones((5, 17), np.float32)
    b, y = np.zeros(17, np.float32), np.zeros((9, 17), np.float32)
    x[4, 2] = np.nan
    for name in act.TRAINABLE:
        kernels.dense_forward(x, w, b, act.NAMES.index(name), y)
        assert np.isnan(y[4]).all(), name
        assert np.isfinite(np.delete(y, 4, axis=0)).all(), name
    dz, labels, no_targets = np.zeros_like(y), np.zeros(9, np.int64), np.empty((0, 0), np.float32)
    no_weights = np.empty(0, np.float32)
    for loss in (kernels.softmax_cross_entropy(y, labels, no_targets, no_weights, dz),
                 kernels.sigmoid_cross_entropy(y, np.zeros_like(y), no_weights, dz),
                 kernels.squared_error(y, np.zeros_like(y), no_weights, dz)):
        assert np.isnan(loss)
        assert np.isnan(dz[4]).all()


def test_same_names():
    assert set(reference.__all__) - CPU_ALONE <= set(simulated.__all__) <= set(dir(simulated))


def test_what_may_be_left_out(kernels):
    rng = np.random.default_rng(0)
    x, w, b = (cases.integers(rng, shape, np.float32) for shape in ((5, 3), (3, 4), (4,)))
    y = kernels.dense_forward(x, w, b, act.RELU)
    np.testing.assert_array_equal(y, np.maximum(x @ w + b, 0))
    expected = reference.dropout(x, 0.5, 1, 2, 3)
    np.testing.assert_array_equal(kernels.dropout(x, 0.5, 1, 2, 3), expected)
    labels, dz = np.array([0, 1, 2, 3, 0]), np.empty_like(y)
    loss = kernels.softmax_cross_entropy(y, labels, None, None, dz)
    assert loss == pytest.approx(reference.softmax_cross_entropy(y, labels, None, None, np.empty_like(y)), rel=1e-6)


def test_philox_known_answer(kernels):
    words = kernels.philox(0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0)
    assert [int(word) for word in words] == [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]


@pytest.mark.parametrize("seed", [0, 2 ** 32 + 5, 2 ** 63 - 1])
def test_masks_are_the_references(kernels, seed):
    shape, rate, step, layer = (9, 33), 0.3, 2 ** 31 + 1, 2
    y = np.full(shape, np.nan, np.float32)
    kernels.dropout(np.full(shape, np.inf, np.float32), rate, seed, step, layer, y)
    expected = np.empty(shape, np.float32)
    reference.dropout(np.ones(shape, np.float32), rate, seed, step, layer, expected)
    np.testing.assert_array_equal(y, np.where(expected > 0, np.inf, 0))
