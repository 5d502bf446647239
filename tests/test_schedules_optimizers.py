"""Schedules give the factors their formulas say; optimizers carry what the kernels expect."""
import dataclasses

import numpy as np
import pytest
from toy import DEVICES, QUICK, blobs

import fastmlp
from fastmlp import optimizers, schedules
from fastmlp.kernels import update_rules


def factors(schedule, epochs=10, steps=5):
    """Every factor of a training, epoch by epoch, as `train` asks for them."""
    return np.concatenate([schedules.rates_of(schedule, 1.0, epoch, epochs * steps, steps) for epoch in range(epochs)])


def test_constant_step_exponential():
    assert (factors(schedules.Constant()) == 1).all()
    stepped = factors(schedules.Step(every=4, factor=0.5))
    np.testing.assert_array_equal(stepped, np.repeat([1, 0.5, 0.25], [20, 20, 10]))
    fading = factors(schedules.Exponential(0.5))
    np.testing.assert_allclose(fading[::5], 0.5 ** np.arange(10))
    np.testing.assert_allclose(fading[1:] / fading[:-1], 0.5 ** 0.2)


def test_cosine():
    plain = factors(schedules.Cosine())
    assert plain[0] == 1
    np.testing.assert_allclose(plain[25], 0.5)
    assert 0 < plain[-1] < 0.002
    assert (np.diff(plain) < 0).all()
    warm = factors(schedules.Cosine(final=0.1, warmup=2))
    np.testing.assert_allclose(warm[:10], np.arange(1, 11) / 11)
    assert warm[10] == 1
    assert (np.diff(warm[10:]) < 0).all()
    assert warm[-1] > 0.1


def test_one_cycle():
    f = factors(schedules.OneCycle(rise=0.3, start=0.1, final=0.01), epochs=20)
    np.testing.assert_allclose([f[0], f.max(), f[-1]], [0.1, 1, 0.01], atol=1e-3)
    peak = f.argmax()
    assert abs(peak / len(f) - 0.3) < 0.02
    assert (np.diff(f[:peak + 1]) > 0).all()
    assert (np.diff(f[peak:]) < 0).all()


@pytest.mark.parametrize("name", schedules.NAMES)
def test_a_schedule_of_one_step_is_finite(name):
    f = factors(schedules.NAMES[name], epochs=1, steps=1)
    assert np.isfinite(f).all()
    assert (f >= 0).all()


@DEVICES
@pytest.mark.parametrize("schedule", [*schedules.NAMES, schedules.Cosine(warmup=1), lambda s, *_: 1 / (1 + s)])
def test_train_follows_the_schedule(schedule, device):
    X, y = blobs()
    model = fastmlp.train(X, y, schedule=schedule, learning_rate=0.02, **QUICK | {"epochs": 12, "device": device})
    wanted = 0.02 * factors(schedules.schedule_of(schedule), epochs=12, steps=8)[7::8]
    np.testing.assert_allclose(model.history["learning_rate"], wanted)
    assert model.history["loss"][-1] < model.history["loss"][0]


@pytest.mark.parametrize(("schedule", "message"), [
    (lambda *_: [1.0], "one finite factor of at least 0 for each of the 8 steps, got shape"),
    (lambda s, *_: s * np.nan, "one finite factor"), (lambda s, *_: -1.0 - s, "one finite factor"),
    ("consine", "did you mean 'cosine'"), (schedules.Cosine, r"got the class; write Cosine\(\)"),
    (0.5, "schedule must be"),
])
def test_schedules_that_cannot_be_used(schedule, message):
    with pytest.raises((TypeError, ValueError), match=message):
        fastmlp.train(*blobs(), schedule=schedule, **QUICK)


@pytest.mark.parametrize("make", [
    lambda: schedules.Step(every=0), lambda: schedules.Step(factor=0), lambda: schedules.Exponential(-1),
    lambda: schedules.Cosine(final=-1), lambda: schedules.OneCycle(rise=1), lambda: schedules.OneCycle(start=np.nan),
    lambda: fastmlp.SGD(0), lambda: fastmlp.Momentum(momentum=1), lambda: fastmlp.RMSprop(rho=-0.1),
    lambda: fastmlp.Adam(beta2=1.0), lambda: fastmlp.Adam(epsilon=0), lambda: fastmlp.AdamW(weight_decay=-1),
    lambda: fastmlp.EarlyStopping(0), lambda: fastmlp.EarlyStopping(monitor="los"),
])
def test_hyper_parameters_out_of_range(make):
    with pytest.raises(ValueError, match=r"^[A-Z][A-Za-z]+\.[a-z0-9_]+ must be "):  # Class.field must be ...
        make()


def test_hyper_is_what_the_rules_read():
    """(momentum | rho | beta1, beta2, epsilon, weight_decay)"""
    expected = {
        "sgd": (0, 0, 0, 0), "momentum": (0.9, 0, 0, 0), "nesterov": (0.9, 0, 0, 0), "rmsprop": (0.9, 0, 1e-7, 0),
        "adam": (0.9, 0.999, 1e-8, 0), "adamw": (0.9, 0.999, 1e-8, 0.01),
    }
    assert list(expected) == list(optimizers.NAMES)
    for name, hyper in expected.items():
        optimizer = optimizers.NAMES[name]
        assert optimizer.hyper.tolist() == list(hyper)
        assert optimizer.hyper.dtype == np.float64
        assert update_rules.NAMES[optimizer.rule] == name


def test_optimizers_are_frozen_values():
    assert fastmlp.Adam() == optimizers.NAMES["adam"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        fastmlp.Adam().beta1 = 0.5
    assert optimizers.optimizer_of("rmsprop", 0.5) == fastmlp.RMSprop(learning_rate=0.5)
    assert optimizers.optimizer_of(fastmlp.Adam(beta2=0.9), 0.5) == fastmlp.Adam(learning_rate=0.5, beta2=0.9)


@DEVICES
@pytest.mark.parametrize("name", optimizers.NAMES)
def test_every_optimizer_learns_by_name_and_by_instance(name, device):
    X, y = blobs()
    settings = QUICK | {"epochs": 20, "device": device}
    model = fastmlp.train(X, y, optimizer=name, learning_rate=0.02, **settings)
    assert model.evaluate(X, y)["accuracy"] > 0.95
    instance = optimizers.optimizer_of(name, 0.02)
    np.testing.assert_array_equal(fastmlp.train(X, y, optimizer=instance, **settings).parameters, model.parameters)


def test_adamw_shrinks_weights():
    X, y = blobs()
    settings = QUICK | {"epochs": 30}
    plain = fastmlp.train(X, y, optimizer="adam", **settings)
    shrunk = fastmlp.train(X, y, optimizer=fastmlp.AdamW(weight_decay=5.0), **settings)
    assert np.linalg.norm(shrunk.weights[0]) < 0.7 * np.linalg.norm(plain.weights[0])
