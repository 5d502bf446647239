"""Losses of numbers in `train`: what is minimised, what is predicted, what is kept and what is refused."""
import numpy as np
import pytest
from toy import DEVICES, waves

import fastmlp
from fastmlp import losses

X, Y = waves(targets=2)
COUNTS = np.floor(3 * np.abs(Y))
LOSSES = {  # the loss of one row's outputs, from prediction p and target t
    "huber": lambda p, t: np.where(np.abs(p - t) <= 1, (p - t) ** 2 / 2, np.abs(p - t) - 0.5),
    fastmlp.Huber(0.1): lambda p, t: np.where(np.abs(p - t) <= 0.1, (p - t) ** 2 / 2, 0.1 * (np.abs(p - t) - 0.05)),
    "absolute_error": lambda p, t: np.abs(p - t),
    "quantile": lambda p, t: 0.5 * np.abs(p - t),
    fastmlp.Quantile(0.9): lambda p, t: np.where(p > t, 0.1 * (p - t), 0.9 * (t - p)),
    "poisson": lambda p, t: p - t - t * np.log(p / np.where(t > 0, t, 1)) * (t > 0),
    "squared_error": lambda p, t: (p - t) ** 2,
}


@DEVICES
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_train_minimises_it(loss, device):
    y = COUNTS if loss == "poisson" else Y
    model = fastmlp.train(X, y, hidden=32, loss=loss, epochs=40, batch_size=20, learning_rate=0.01, seed=0,
                          dtype="float64", device=device, validation_data=(X, y))
    assert model.history["loss"][-1] < 0.7 * model.history["loss"][0]
    assert (model.loss, model.task.loss_parameter) == losses.loss_of(loss)
    expected = LOSSES[loss](model.predict(X), y).mean()
    assert model.evaluate(X, y)["loss"] == pytest.approx(expected, rel=1e-9)
    assert model.history["val_loss"][-1] == pytest.approx(expected, rel=1e-9)
    if loss == "poisson":
        assert model.predict(X).min() > 0
        assert model.predict(X).mean() == pytest.approx(COUNTS.mean(), rel=0.1)


def test_quantiles_bound_their_share():
    y = np.random.default_rng(0).normal(size=600)
    X = np.zeros((600, 1))
    for q in (0.1, 0.8):
        model = fastmlp.train(X, y, hidden=(), loss=fastmlp.Quantile(q), epochs=150, batch_size=600, seed=0,
                              optimizer="sgd", learning_rate=0.3, device="reference")
        assert (y < model.predict(X)).mean() == pytest.approx(q, abs=0.02)


@pytest.mark.parametrize("loss", [fastmlp.Huber(0.3), "poisson"], ids=str)
def test_it_stays_when_training_goes_on(loss, tmp_path):
    y = COUNTS if loss == "poisson" else Y
    options = {"epochs": 2, "seed": 0, "device": "reference"}
    model = fastmlp.train(X, y, hidden=8, loss=loss, **options)
    model.save(tmp_path / "model.safetensors")
    again = fastmlp.load(tmp_path / "model.safetensors")
    again.device = model.device
    assert again.task.loss_parameter == model.task.loss_parameter
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    for given in ({}, {"loss": loss}):
        fastmlp.train(X, y, model=again, **given, **options)
    assert again.loss == model.loss
    for other in ("huber", fastmlp.Huber(0.4), "squared_error"):
        with pytest.raises(ValueError, match="contradicts the model"):
            fastmlp.train(X, y, model=again, loss=other, **options)


@pytest.mark.parametrize(("loss", "y", "error", "message"), [
    ("hubert", Y, ValueError, "did you mean 'huber'"),
    (fastmlp.Huber, Y, TypeError, r"write fastmlp.Huber\(\)"),
    ("poisson", Y, ValueError, "y must hold counts, none below 0.*got -"),
    ("quantile", ["a", "b"] * 100, ValueError, "loss='quantile' cannot predict"),
])
def test_refusals(loss, y, error, message):
    with pytest.raises(error, match=message):
        fastmlp.train(X, y, loss=loss, epochs=1, device="reference")


def test_parameters_are_checked():
    for make, wrong in ((fastmlp.Huber, 0), (fastmlp.Huber, -1.0), (fastmlp.Quantile, 0.0), (fastmlp.Quantile, 1)):
        with pytest.raises(ValueError, match="finite number above 0"):
            make(wrong)
