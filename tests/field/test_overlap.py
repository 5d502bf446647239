"""Buffers that people reuse: outputs that overlap inputs, and labels read into an array that was looked at before."""
import warnings
from collections import Counter

import numpy as np
import pytest
from fuzzing import overlaps
from fuzzing.outcomes import Wrong
from numba import float32, guvectorize

import fastmlp
from fastmlp.kernels import cpu, losses, reference, update_rules
from fastmlp.kernels.activations import IDENTITY

F = np.float32


@pytest.mark.parametrize("package", [cpu, reference], ids=["cpu", "reference"])
def test_every_pair_of_operands_that_overlaps(package, long):
    counts, wrong = Counter(), []
    for dtype in (F, np.float64) if long else (F,):
        for op, arguments, what in overlaps.overlapping(dtype, np.random.default_rng(0)):
            try:
                counts[overlaps.outcome(package, op, arguments, what)] += 1
            except Wrong as error:
                wrong.append(str(error))
    print(f"\n{package.__name__}: {counts.total() + len(wrong)} overlaps: {dict(counts)}, {len(wrong)} wrong")
    assert not wrong, "\n".join(wrong[:20])
    assert counts.total() > 641


def test_gradients_over_the_labels():
    memory = np.zeros(9 * 12 * 4, np.uint8)
    labels, dz = memory[:9 * 8].view(np.int64), memory.view(F).reshape(9, 12)
    labels[:] = range(9)
    with pytest.raises(ValueError, match="must not share memory"):
        cpu.softmax_cross_entropy(np.ones((9, 12), F), labels, None, None, dz)


def test_hyper_parameters_in_the_weights():
    w, nothing = np.ones(6), np.empty(0)
    for hyper in (w[:4], w[2:]):
        with pytest.raises(ValueError, match="must not share memory"):
            cpu.update(update_rules.MOMENTUM, hyper, 0.1, 1, w, np.ones(6), np.ones(6), nothing)


def net(n_out=40, **options):
    sizes = (20, 30, n_out)
    parameters = np.random.default_rng(1).standard_normal(21 * 30 + 31 * n_out).astype(F)
    return cpu.prepare(parameters, sizes, (1, 0), dropout=(0.0, 0.0), loss=losses.SOFTMAX_CROSS_ENTROPY,
                       rule=update_rules.ADAM, hyper=(0.9, 0.999, 1e-8, 0), l2=0.0, batch_size=64, scale=1.0, seed=0,
                       n_threads=1, **options)


NO_TARGETS, NO_WEIGHTS, ROWS = np.empty((0, 0), F), np.empty(0, F), np.arange(64)


@pytest.mark.parametrize("n_out", [10, 300])
def test_the_next_chunk_in_the_same_labels(n_out, rng):
    """A bad label in a buffer that was right before wrote past the end at 300 outputs, and passed at 10."""
    state, x, labels = net(n_out), rng.standard_normal((64, 20)).astype(F), rng.integers(0, n_out, 64)
    cpu.batch_gradient(state, x, labels, NO_TARGETS, NO_WEIGHTS, ROWS, 1.0)
    labels[5] = 10 ** 9
    with pytest.raises(ValueError, match="labels must lie in 0"):
        cpu.batch_gradient(state, x, labels, NO_TARGETS, NO_WEIGHTS, ROWS, 1.0)


@pytest.mark.parametrize("kind", [np.int32, np.int64], ids=["converted", "in place"])
def test_the_next_chunk_in_the_same_buffers(kind, rng):
    """Arrays that are converted on the way were converted once: the second chunk was trained on the first."""
    x, labels = rng.standard_normal((100, 20)).astype(F), rng.integers(0, 10, 100).astype(kind)
    x = np.asfortranarray(x) if kind is np.int32 else x
    state, gradients = net(10), []
    rows = np.arange(64) + 20
    cpu.batch_gradient(state, x, labels, NO_TARGETS, NO_WEIGHTS, rows, 1.0)
    x[:], labels[:] = rng.standard_normal(x.shape), rng.integers(0, 10, 100)
    for arrays in ((x, labels), (np.ascontiguousarray(x), labels.astype(np.int64))):
        totals = cpu.batch_gradient(state, *arrays, NO_TARGETS, NO_WEIGHTS, rows, 1.0)
        gradients.append((totals, state.gradients.copy()))
    assert gradients[0][0] == gradients[1][0]
    np.testing.assert_array_equal(gradients[0][1], gradients[1][1])


def test_an_array_that_takes_another_shape(rng):
    """`x.shape = ...` makes another array of the same object: rows past the end were read."""
    state, x, labels = net(10), rng.standard_normal((64, 20)).astype(F), rng.integers(0, 10, 64)
    cpu.batch_gradient(state, x, labels, NO_TARGETS, NO_WEIGHTS, ROWS, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        x.shape = 128, 10
    with pytest.raises(ValueError, match="x must be a two-dimensional array of 20 columns"):
        cpu.batch_gradient(state, x, labels, NO_TARGETS, NO_WEIGHTS, ROWS + 64, 1.0)


def test_slots_read_into_one_array():
    state, slots = net(10), np.empty(21 * 30 + 31 * 10, F)
    with pytest.raises(ValueError, match="s1 is written: it must not share memory with s2"):
        cpu.read_optimizer(state, slots, slots)


def test_outputs_over_the_parameters():
    parameters, x = np.ones(14, F), np.ones((4, 6), F)
    with pytest.raises(ValueError, match="out is written: it must not share memory with parameters"):
        cpu.forward(parameters, (6, 2), (0,), x, 1.0, None, parameters[:8].reshape(4, 2))


@pytest.mark.parametrize(("what", "change"), [
    ("Fortran order", np.asfortranarray), ("every other column", lambda a: np.repeat(a, 2, axis=1)[:, ::2]),
    ("every other row", lambda a: np.repeat(a, 2, axis=0)[::2]), ("upside down", lambda a: a[::-1])])
def test_strided_arrays_in_guvectorize(what, change, rng):
    """With `[:, ::1]` Numba hands over any strides."""
    @guvectorize([(float32[:, ::1], float32[:, ::1], float32[::1], float32[:, ::1])], "(m,k),(k,n),(n)->(m,n)",
                 nopython=True)
    def layer(x, w, b, y):
        cpu.dense_forward(x, w, b, IDENTITY, y)

    x, w, b = rng.standard_normal((64, 20)).astype(F), rng.standard_normal((20, 5)).astype(F), np.zeros(5, F)
    np.testing.assert_allclose(layer(x, w, b), x @ w, atol=1e-4)
    with pytest.raises(ValueError, match="C-contiguous arrays, got an argument with other strides"):
        layer(change(x), w, b)


def test_predictions_over_the_rows_they_are_made_of(rng):
    """60,000 of 100,000 rows were wrong where the answers of one window were written over the rows of the next."""
    d, n = 100, 400
    model = fastmlp.MLP.from_parameters([rng.standard_normal((d, 4)) / 10, rng.standard_normal((4, d))],
                                        [np.zeros(4), np.zeros(d)], output="identity", activation="tanh")
    model.device = "cpu"
    buffer = rng.standard_normal((n + 150, d)).astype(model.dtype)
    right = model.predict(buffer[:n].copy())
    with pytest.raises(ValueError, match=r"out .*share memory with X"):
        model.predict(buffer[:n], out=buffer[150:])
    with pytest.raises(ValueError, match=r"out .*share memory with X"):
        model.predict(buffer[1:n + 1], out=buffer[:n])
    with pytest.raises(ValueError, match=r"out .*share memory with the model"):
        model.predict(buffer[:4], out=model.parameters[:400].reshape(4, d))
    np.testing.assert_array_equal(model.predict(buffer[:n], out=buffer[:n]), right)         # over the very rows
