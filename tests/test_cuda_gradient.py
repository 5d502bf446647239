"""A CUDA training step in two halves, as several processes share it: the host's part over simulated kernels."""
import dataclasses

import cases
import numpy as np
import pytest

from fastmlp.kernels import reference

pytest.importorskip("greenlet", reason="the simulator needs greenlet: pip install 'fastmlp[test]'")
from test_cuda_training import at_most, package, parameters_of, place, slots_of  # noqa: F401 (two are fixtures)

RUNS = ("rule_adam", "dropout", "softmax_targets_weights", "rule_adamw", "images_dropout", "sigmoid_many_weights")


def epoch_in_halves(ranks, states, data, order, rates, batch):
    """One epoch of a net that `ranks` share: every one takes its part of a batch, and then the sum of all gradients."""
    totals = np.zeros(3)
    for step, rate in enumerate(rates):
        rows = order[step * batch:(step + 1) * batch]
        weights = data[3][rows].astype(np.float64) if data[3].size else np.ones(len(rows))
        for rank, state, part in zip(ranks, states, np.array_split(np.arange(len(rows)), len(ranks)), strict=True):
            totals += rank.batch_gradient(state, *data, rows[part], weights[part].sum() / weights.sum())
        gradients = sum(state.gradients for state in states)
        for rank, state in zip(ranks, states, strict=True):
            state.gradients[:] = gradients
            rank.apply_gradients(state, rate)
    return totals


def gradients_of(state):
    with state.machine.current():
        return state.machine.download(state.gradients)


def check_two_halves_are_a_step(package, run):  # noqa: F811
    """An epoch in halves gives the bits of an epoch of whole steps."""
    dtype = np.float32
    x, _, *answers = run.data(dtype)
    order, rates = np.random.default_rng(0).permutation(len(x)), np.full(-(-len(x) // run.batch_size), 0.05)
    whole, halves = run.prepare(package, dtype), run.prepare(package, dtype)
    expected = package.train_epoch(whole, x, *answers, order, rates)
    totals = epoch_in_halves([package], [halves], (x, *answers), order, rates, run.batch_size)
    assert halves.step == whole.step == len(rates)
    np.testing.assert_array_equal(parameters_of(package, halves, run, dtype), parameters_of(package, whole, run, dtype))
    for ours, theirs in zip(slots_of(package, halves, run, dtype), slots_of(package, whole, run, dtype), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_allclose(totals, expected, rtol=1e-12)


@pytest.mark.parametrize("name", RUNS)
def test_two_halves_are_a_step(package, place, name):  # noqa: F811
    run = at_most(cases.RUNS[name], place, rows=20)
    check_two_halves_are_a_step(package, dataclasses.replace(run, l2=0.01))


@pytest.mark.parametrize("ranks", [2, 9])
def test_gradients_of_shares_add_up(package, place, ranks):  # noqa: F811
    """Of nine ranks some have no row of a batch of eight. All end with the same bits."""
    run, dtype = at_most(cases.RUNS["softmax_targets_weights"], place, rows=20, batch_size=8), np.float64
    x, _, *answers = run.data(dtype)
    order, rates = np.random.default_rng(0).permutation(len(x)), np.full(-(-len(x) // run.batch_size), 0.05)
    states, oracle = [run.prepare(package, dtype) for _ in range(ranks)], run.prepare(reference, dtype)
    totals = epoch_in_halves([package] * ranks, states, (x, *answers), order, rates, run.batch_size)
    expected = reference.train_epoch(oracle, x, *answers, order, rates)
    np.testing.assert_allclose(totals, expected, rtol=1e-9)
    start, wanted = run.parameters(dtype), parameters_of(reference, oracle, run, dtype)
    ours = [parameters_of(package, state, run, dtype) for state in states]
    assert cases.error(ours[0] - start, wanted - start) <= cases.RUN_TOLERANCE[dtype]
    assert len({parameters.tobytes() for parameters in ours}) == 1


def test_a_batch_of_halves_is_checked(package, place):  # noqa: F811
    run = at_most(cases.RUNS["rule_sgd"], place, rows=20, batch_size=8)
    x, _, *answers = run.data(np.float32)
    state = run.prepare(package, np.float32)
    package.batch_gradient(state, x, *answers, np.arange(5), 1.0)
    first = gradients_of(state)
    package.batch_gradient(state, x, *answers, np.arange(5), 1.0)
    np.testing.assert_array_equal(gradients_of(state), first)
    package.batch_gradient(state, x[::-1].copy(), *answers, np.arange(5), 1.0)
    assert (gradients_of(state) != first).any(), "other data of the same shape"
    assert package.batch_gradient(state, x, *answers, np.arange(0), 1.0) == (0, 0, 0)
    assert not gradients_of(state).any()
    with pytest.raises(ValueError, match=r"rows must lie in 0 \.\. 19, got 20 to 20"):
        package.batch_gradient(state, x, *answers, np.array([20]), 1.0)
    with pytest.raises(ValueError, match="rows must be at most a batch of 8, got 9"):
        package.batch_gradient(state, x, *answers, np.zeros(9, int), 1.0)
    assert state.step == 0
