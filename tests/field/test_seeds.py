"""One seed for data and net, and the seeds of many nets."""
import numpy as np
import pytest

import fastmlp
from fastmlp.kernels import update_rules
from fastmlp.optimizers import Adam, OptimizerState
from fastmlp.training.slots import is_checked, overflow
from fastmlp.training.streams import Streams, member_seeds


def streams(seed):
    random = Streams(seed)
    return random.split, random.order, random.start, random.dropout


@pytest.mark.parametrize("seed", [0, 5, 2 ** 64])
def test_one_seed_for_data_and_net(seed):
    """People write default_rng(5) and seed=5: X was the first weights, up to a factor."""
    drawn = [np.random.default_rng(seed), *np.random.default_rng(seed).spawn(8), *streams(seed)]
    uniform = np.array([rng.random(20_000) for rng in drawn])
    correlations = np.abs(np.corrcoef(uniform) - np.eye(len(drawn)))
    assert correlations.max() < 5 / np.sqrt(20_000)
    again = [rng.random(3).tolist() for rng in streams(seed)]
    assert again == uniform[-4:, :3].tolist()


def test_data_of_the_same_seed_are_not_the_first_weights():
    X = np.random.default_rng(5).uniform(-1, 1, (100, 100)).astype(np.float32)
    model = fastmlp.train(X, np.arange(100) % 2, hidden=100, epochs=1, learning_rate=1e-30, seed=5, device="reference")
    assert abs(np.corrcoef(X.ravel(), model.weights[0].ravel())[0, 1]) < 0.05


def test_gradients_that_overflow_end_training():
    """The loss stayed 6.8e29 for ever, and nothing was said."""
    X = np.random.default_rng(0).normal(size=(200, 5)) * 1e30
    with pytest.raises(fastmlp.DivergedError, match=r"adam .*mean of squared gradients is no longer finite") as caught:
        fastmlp.train(X, X[:, 0] > 0, epochs=3, seed=0, device="cpu")
    assert np.isfinite(caught.value.model.parameters).all()


def test_a_hundred_thousand_seeds():
    """Drawn from 32 bits, 24 of them were doubles: an ensemble with the same net twice."""
    seeds = member_seeds(0, 100_000)
    assert len(set(seeds)) == 100_000
    assert 0 <= min(seeds) < 2 ** 58
    assert 2 ** 62 < max(seeds) < 2 ** 63
    assert member_seeds(None, 1) != member_seeds(None, 1)


def state_of(rule, s1, s2):
    return OptimizerState(rule, 7, np.array(s1, np.float32), np.array(s2, np.float32))


@pytest.mark.parametrize(("rule", "s1", "s2", "what"), [
    (update_rules.ADAM, [1, 1], [np.inf, 1], "adam .* 7 steps: the mean of squared gradients .* 1 of 2 parameters"),
    (update_rules.ADAM, [np.nan, np.inf], [1, 1], "adam .* the mean of gradients .* 2 of 2 parameters"),
    (update_rules.RMSPROP, [np.inf], [], "rmsprop .* the mean of squared gradients"),
    (update_rules.MOMENTUM, [-np.inf], [], "momentum .* the velocity"),
])
def test_running_means_that_overflow_are_named(rule, s1, s2, what):
    """X · 1e30: Adam's g² is infinite, its step 0, and the loss stays 6.8e29 for ever."""
    message = overflow(state_of(rule, s1, s2), Adam())
    assert message is not None
    with pytest.raises(ValueError, match=what):
        raise ValueError(message)


def test_finite_running_means_are_looked_at_ever_less_often():
    assert overflow(state_of(update_rules.ADAM, [1e38, -1], [0, 3e38]), Adam()) is None
    assert overflow(state_of(update_rules.SGD, [], []), Adam()) is None
    assert [epoch for epoch in range(1, 20) if is_checked(epoch)] == [1, 2, 4, 8, 16]
