"""Whole training runs through the kernels: the same numbers as the reference, and the same bits every time."""
import _thread
import dataclasses
import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import cases
import numpy as np
import pytest

from fastmlp.kernels import activations as act
from fastmlp.kernels import losses, reference, update_rules

TESTS = Path(__file__).parent
VARIED = ("rule_adam", "softmax_40_classes", "dropout", "images_dropout", "images_wide", "sparse", "sparse_arranged",
          "batch_of_one", "narrow_long_batch")


def parameters_of(package, state, run, dtype):
    parameters = np.full_like(run.parameters(dtype), np.nan)
    package.read_parameters(state, parameters)
    return parameters


def optimizer_of(package, state, run, dtype):
    n = run.parameters(dtype).size
    slots = [np.full(n if slot < update_rules.SLOTS[run.rule] else 0, np.nan, dtype) for slot in (0, 1)]
    package.read_optimizer(state, *slots)
    return slots


def outcome(package, run, dtype, n_threads=None):
    """Parameters, optimizer slots and totals of a run, as bytes."""
    state = run.prepare(package, dtype, n_threads)
    totals = run.train(package, state, dtype)
    slots = optimizer_of(package, state, run, dtype)
    return b"".join(a.tobytes() for a in (parameters_of(package, state, run, dtype), *slots, totals))


@pytest.fixture(params=["as it chooses", "never narrow"])
def way(request, package, monkeypatch):
    """How `cpu` trains nets of few units: its tests' small nets would all be narrow."""
    if request.param == "never narrow":
        if package.__name__ != "fastmlp.kernels.cpu":
            pytest.skip("only the cpu package has two ways")
        monkeypatch.setattr("fastmlp.kernels.cpu.net.strategy.NARROW_WEIGHTS", 0)


@pytest.mark.parametrize("dtype", cases.DTYPES)
@pytest.mark.parametrize("run", cases.RUNS.values(), ids=str)
def test_same_as_reference(package, way, run, dtype):
    state, oracle = run.prepare(package, dtype), run.prepare(reference, np.float64)
    start = run.parameters(np.float64)
    totals, expected = run.train(package, state, dtype), run.train(reference, oracle, np.float64)
    assert state.step == run.epochs * -(-run.rows // run.batch_size)
    tolerance = cases.RUN_TOLERANCE[dtype]
    moved = parameters_of(package, state, run, dtype) - start
    assert cases.error(moved, parameters_of(reference, oracle, run, np.float64) - start) <= tolerance
    slots = zip(optimizer_of(package, state, run, dtype), optimizer_of(reference, oracle, run, np.float64), strict=True)
    for ours, theirs in slots:
        assert cases.error(ours, theirs) <= tolerance
    np.testing.assert_allclose(totals[:, 0], expected[:, 0], rtol=tolerance / 10)
    # In float32 a row may tip over between two outputs that are nearly equal.
    np.testing.assert_allclose(totals[:, 1], expected[:, 1], rtol=1e-12, atol=1 if dtype is np.float32 else 0)
    np.testing.assert_allclose(totals[:, 2], expected[:, 2], rtol=1e-12)


@pytest.mark.parametrize("dtype", cases.DTYPES)
@pytest.mark.parametrize("name", ["softmax_no_hidden", "softmax_targets_weights", "sigmoid_many_weights",
                                  "squared_error_wide", "output_sigmoid", "dropout", "images_wide"])
def test_evaluate_is_forward_and_loss(package, name, dtype):
    run = dataclasses.replace(cases.RUNS[name], rows=2500)
    x, scale, labels, targets, weights = run.data(dtype)
    state = run.prepare(package, dtype)
    run.train(package, state, dtype, epochs=1)
    loss_sum, correct, weight_sum = package.evaluate(state, x, labels, targets, weights)

    z = np.full((run.rows, run.sizes[-1]), np.nan, dtype)
    package.forward(parameters_of(package, state, run, dtype), run.sizes, run.activations, x, scale, None, z)
    dz = np.empty_like(z)
    if run.loss == losses.SOFTMAX_CROSS_ENTROPY:
        loss = reference.softmax_cross_entropy(z, labels, targets, weights, dz)
        share = z.argmax(axis=1) == (labels if labels.size else targets.argmax(axis=1))
    elif run.loss == losses.SIGMOID_CROSS_ENTROPY:
        loss, share = reference.sigmoid_cross_entropy(z, targets, weights,
                                                      dz), ((z > 0) == (targets > 0.5)).mean(axis=1)
    else:
        loss, share = reference.squared_error(z, targets, weights, dz), np.zeros(run.rows)
    assert weight_sum == pytest.approx(weights.sum() if run.weighted else run.rows)
    assert loss_sum / weight_sum == pytest.approx(loss, rel=cases.rounding(dtype, run.sizes[-1]))
    assert correct == pytest.approx(share.sum())


def test_nothing_to_evaluate(package):
    run = cases.RUNS["softmax_no_hidden"]
    x, _, labels, targets, weights = run.data(np.float32)
    assert tuple(package.evaluate(run.prepare(package, np.float32), x[:0], labels[:0], targets, weights)) == (0, 0, 0)


@pytest.mark.parametrize("dtype", cases.DTYPES)
@pytest.mark.parametrize("run", [cases.RUNS[f"rule_{name}"] for name in update_rules.NAMES] + [cases.RUNS["dropout"]],
                         ids=str)
def test_continuing_gives_the_same_bits(package, run, dtype):
    """Two epochs, or one epoch, everything written out, read into a fresh state, and the other epoch."""
    whole = run.prepare(package, dtype)
    whole_totals = run.train(package, whole, dtype)

    first = run.prepare(package, dtype)
    run.train(package, first, dtype, epochs=1)
    kept, slots = parameters_of(package, first, run, dtype), optimizer_of(package, first, run, dtype)
    state = run.prepare(package, dtype, parameters=kept)
    package.write_optimizer(state, first.step, *slots)
    assert state.step == first.step
    for ours, theirs in zip(optimizer_of(package, state, run, dtype), slots, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    totals = run.train(package, state, dtype, epochs=1, first_epoch=1)

    np.testing.assert_array_equal(totals[0], whole_totals[1])
    np.testing.assert_array_equal(parameters_of(package, state, run, dtype), parameters_of(package, whole, run, dtype))


def test_parameters_survive_a_round_trip(package):
    """prepare copies: what comes out is what went in, and training leaves the caller's array alone."""
    for run in cases.RUNS.values():
        for dtype in cases.DTYPES:
            state = run.prepare(package, dtype)
            np.testing.assert_array_equal(parameters_of(package, state, run, dtype), run.parameters(dtype))
            assert state.step == 0
    callers = run.parameters(dtype)
    run.train(package, run.prepare(package, dtype, parameters=callers), dtype)
    np.testing.assert_array_equal(callers, run.parameters(dtype))


@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_gradients_of_batches_add_up(package, dtype):
    """The rule GRADIENT, at rates that are the batches' weights: Σ over all rows, of other weights than the first."""
    run = dataclasses.replace(cases.RUNS["softmax_targets_weights"], rule=update_rules.GRADIENT)
    x, _, labels, targets, weights = run.data(dtype)
    other = cases.random_parameters(np.random.default_rng(7), run.sizes, dtype)
    sums = []
    for kernels, kind, batch in ((package, dtype, 32), (reference, np.float64, run.rows)):
        state = dataclasses.replace(run, batch_size=batch).prepare(kernels, kind)
        kernels.write_parameters(state, other.astype(kind))
        rates = np.add.reduceat(weights.astype(float), np.arange(0, run.rows, batch))
        kernels.train_epoch(state, x.astype(kind), labels, targets.astype(kind), weights.astype(kind),
                            np.arange(run.rows), rates)
        np.testing.assert_array_equal(parameters_of(kernels, state, run, kind), other.astype(kind))
        sums.append(optimizer_of(kernels, state, run, kind)[0])
    assert cases.error(*sums) <= cases.RUN_TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", cases.DTYPES)
@pytest.mark.parametrize("name", VARIED)
def test_same_bits_for_any_number_of_threads(name, dtype):
    from fastmlp.kernels import cpu
    run = cases.RUNS[name]
    expected = outcome(cpu, run, dtype, n_threads=1)
    for n_threads in (1, 2, 3, None):
        assert outcome(cpu, run, dtype, n_threads) == expected, f"n_threads={n_threads}"


def digest():
    from fastmlp.kernels import cpu
    outcomes = [outcome(cpu, cases.RUNS[name], dtype) for name in VARIED for dtype in cases.DTYPES]
    return hashlib.sha256(b"".join(outcomes)).hexdigest()


@pytest.mark.parametrize("n_threads", ["1", "2"])
def test_same_bits_in_another_process(n_threads):
    printed = subprocess.run(
        [sys.executable, "-c", "import test_kernel_training; print(test_kernel_training.digest())"],
        cwd=TESTS, env={**os.environ, "NUMBA_NUM_THREADS": n_threads}, capture_output=True, text=True, check=True)
    assert printed.stdout.split() == [digest()]


@pytest.mark.parametrize("dtype", cases.DTYPES)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 1.0])
@pytest.mark.parametrize("sizes", [(33, 7), (90, 40, 4), (300, 65, 3)], ids=cases.name_of)
def test_zeros_in_x(package, way, sizes, share, dtype):
    """Kernels may step over zeros; nothing may depend on whether they do."""
    run = cases.Run(f"zeros_{share}", sizes, (act.TANH,) * (len(sizes) - 2) + (act.IDENTITY,),
                    losses.SOFTMAX_CROSS_ENTROPY,
                    update_rules.SGD, learning_rate=0.1)
    x, _, *answers = run.data(dtype)
    rng = np.random.default_rng(0)
    x *= rng.random(x.shape) < share
    x[:, 16:32] = 0
    x[8:24] = 0
    order, rates = np.arange(run.rows), np.full(-(-run.rows // run.batch_size), 0.1)
    start, moved = run.parameters(np.float64), []
    for kernels, kind in ((package, dtype), (reference, np.float64)):
        state = run.prepare(kernels, kind)
        kernels.train_epoch(state, x.astype(kind), answers[0], *(a.astype(kind) for a in answers[1:]), order, rates)
        moved.append(parameters_of(kernels, state, run, kind) - start)
    assert cases.error(*moved) <= cases.RUN_TOLERANCE[dtype]


def test_nan_is_seen_in_training(package):
    """One NaN among the inputs makes the loss NaN; zeros around it are no reason to step over it."""
    run = cases.RUNS["sparse"]
    x, _, labels, targets, weights = run.data(np.float32)
    x[...] = 0
    x[100, 40] = np.nan
    state = run.prepare(package, np.float32)
    steps = -(-run.rows // run.batch_size)
    loss_sum, _, _ = package.train_epoch(state, x, labels, targets, weights, np.arange(run.rows), np.full(steps, 0.1))
    assert np.isnan(loss_sum)
    assert state.failed_step == 1 + 100 // run.batch_size > 1
    assert np.isnan(parameters_of(package, state, run, np.float32)).any()


def test_ctrl_c_stands_between_two_steps(package):
    run = cases.Run("interrupted", (64, 48, 4), (act.TANH, act.IDENTITY), losses.SOFTMAX_CROSS_ENTROPY,
                    update_rules.ADAM,
                    rows=400, batch_size=8)
    x, _, labels, targets, weights = run.data(np.float32)
    order = np.tile(np.arange(run.rows), 20_000)
    rates = np.full(order.size // run.batch_size, 1e-3)
    state = run.prepare(package, np.float32)
    package.train_epoch(state, x, labels, targets, weights, order[:8], rates[:1])  # compiles

    timer = threading.Timer(0.1, _thread.interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        package.train_epoch(state, x, labels, targets, weights, order, rates)
    timer.join()
    done = state.step - 1
    assert 0 < done < rates.size

    again = run.prepare(package, np.float32)
    package.train_epoch(again, x, labels, targets, weights, order[:8], rates[:1])
    package.train_epoch(again, x, labels, targets, weights, order[:8 * done], rates[:done])
    np.testing.assert_array_equal(parameters_of(package, state, run, np.float32),
                                  parameters_of(package, again, run, np.float32))


# ---------------------------------------------------------------------------------------------- a step in two halves

class Halves:
    """Trains as `package` does, each step as the gradients of `pieces` shares of its rows, summed, and the update."""

    def __init__(self, package, pieces):
        self.package, self.pieces = package, pieces

    def train_epoch(self, state, *data_order_rates):
        *data, order, rates = data_order_rates
        totals, batch = np.zeros(3), len(state.totals.row_loss) if hasattr(state, "totals") else state.batch_size
        for step, rate in enumerate(rates):
            rows = order[step * batch:(step + 1) * batch]
            weights = data[3][rows].astype(np.float64) if data[3].size else np.ones(len(rows))
            gradient = 0.0
            for part in np.array_split(np.arange(len(rows)), self.pieces):
                share = weights[part].sum() / weights.sum() if weights.any() else 0.0
                totals += self.package.batch_gradient(state, *data, rows[part], share)
                gradient = gradient + state.gradients
            state.gradients[:] = gradient
            self.package.apply_gradients(state, rate)
        return tuple(totals)


SPLIT = [run for run in cases.RUNS.values() if not run.alpha]


@pytest.mark.parametrize("dtype", cases.DTYPES)
@pytest.mark.parametrize("run", SPLIT, ids=str)
def test_two_halves_are_a_step(package, run, dtype):
    whole, halves = run.prepare(package, dtype, 1), run.prepare(package, dtype, 1)
    totals, ours = run.train(package, whole, dtype), run.train(Halves(package, 1), halves, dtype)
    assert halves.step == whole.step
    np.testing.assert_array_equal(parameters_of(package, halves, run, dtype), parameters_of(package, whole, run, dtype))
    for one, other in zip(optimizer_of(package, halves, run, dtype), optimizer_of(package, whole, run, dtype),
                          strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_allclose(ours, totals, rtol=1e-12)


@pytest.mark.parametrize("pieces", [3, 40])
@pytest.mark.parametrize("run", [run for run in SPLIT if not any(run.dropout)], ids=str)
def test_gradients_of_shares_add_up(package, run, pieces):
    """40 pieces of a batch of 32: some have no row."""
    state, oracle = run.prepare(package, np.float64), run.prepare(reference, np.float64)
    start = run.parameters(np.float64)
    totals = run.train(Halves(package, pieces), state, np.float64)
    expected = run.train(reference, oracle, np.float64)
    moved = parameters_of(package, state, run, np.float64) - start
    wanted = parameters_of(reference, oracle, run, np.float64) - start
    assert cases.error(moved, wanted) <= cases.RUN_TOLERANCE[np.float64]
    np.testing.assert_allclose(totals, expected, rtol=1e-9)


def test_a_batch_of_halves_is_checked(package):
    run = SPLIT[0]
    state, (x, _, labels, targets, weights) = run.prepare(package, np.float32, 1), run.data(np.float32)
    for _ in range(2):
        package.batch_gradient(state, x, labels, targets, weights, np.arange(5), 1.0)
        first = state.gradients.copy()
    package.batch_gradient(state, x[::-1].copy(), labels, targets, weights, np.arange(5), 1.0)
    assert (state.gradients != first).any(), "other data of the same shape"
    package.batch_gradient(state, x, labels, targets, weights, np.arange(0), 1.0)
    assert not state.gradients.any()
    with pytest.raises((ValueError, IndexError)):
        package.batch_gradient(state, x, labels, targets, weights, np.array([len(x)]), 1.0)
    with pytest.raises(ValueError, match=r"rows must be at most a batch|broadcast"):
        package.batch_gradient(state, x, labels, targets, weights, np.zeros(run.batch_size + 1, int), 1.0)
