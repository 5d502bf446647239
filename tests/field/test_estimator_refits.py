"""Estimators whose parameters are changed between two fits, as grid searches and notebooks do."""
import numpy as np
import pytest

import fastmlp

pytest.importorskip("sklearn")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(120, 5)), RNG.integers(0, 3, 120)
QUICK = {"max_iter": 3, "random_state": 0}


def fitted(**options):
    return fastmlp.MLPClassifier((6,), **QUICK, **options).fit(X, Y)


@pytest.mark.parametrize("step", ["fit", "partial_fit"])
def test_a_net_that_is_to_be_trained_further_with_other_widths(step):
    """Was "parameters must have shape (84,), got (57,)", of no argument."""
    estimator = fitted(warm_start=True).set_params(hidden_layer_sizes=(9,))
    before = [w.copy() for w in estimator.coefs_]
    with pytest.raises(ValueError, match=r"has 5-6-3 units .* ask for 5-9-3; call fit with warm_start=False"):
        getattr(estimator, step)(X, Y)
    for w, old in zip(estimator.coefs_, before, strict=True):
        np.testing.assert_array_equal(w, old)
    assert estimator.predict(X).shape == (120,)


def test_a_regressor_that_is_to_predict_more_numbers():
    estimator = fastmlp.MLPRegressor("squared_error", (6,), warm_start=True, **QUICK).fit(X, X[:, 0])
    with pytest.raises(ValueError, match=r"has 5-6-1 units .* ask for 5-6-2"):
        estimator.fit(X, X[:, :2])
    assert estimator.predict(X).shape == (120,)


@pytest.mark.parametrize(("first", "then"), [
    ({"solver": "lbfgs"}, {"solver": "adam"}), ({"solver": "lbfgs"}, {"solver": "sgd"}),
    ({"solver": "sgd"}, {"solver": "adam"}), ({"solver": "adam"}, {"solver": "lbfgs"}),
    ({}, {"early_stopping": True}), ({"early_stopping": True}, {"early_stopping": False}),
    ({"solver": "lbfgs"}, {"solver": "adam", "early_stopping": True}),
], ids=str)
def test_another_solver_goes_on_with_the_weights(first, then):
    """After L-BFGS: "no attribute loss_curve_"; after other solvers the old one went on without a word."""
    estimator = fitted(warm_start=True, **first).set_params(**then)
    before = estimator.coefs_[0].copy()
    estimator.fit(X, Y)
    assert np.abs(estimator.coefs_[0] - before).max() > 0
    if then.get("solver", "adam") == "lbfgs" or then.get("early_stopping"):
        return
    again = fitted(**first).set_params(**then).partial_fit(X, Y)
    assert len(again.loss_curve_) >= 1
    assert np.isfinite(again.loss_)


def test_partial_fit_steps_by_the_solver_of_now():
    start = fitted(solver="sgd")
    adam = fitted(solver="sgd").set_params(solver="adam").partial_fit(X, Y)
    step = np.abs(adam.coefs_[0] - start.coefs_[0]).max()
    assert step == pytest.approx(0.001, rel=0.1), "the first step of Adam has the length of the learning rate"


def test_predictions_are_of_the_weights_there_are():
    """Widths that were changed after fit are those of the next one."""
    estimator = fitted()
    wanted = estimator.predict_proba(X)
    for change in ({"hidden_layer_sizes": (9, 9)}, {"hidden_layer_sizes": ()}, {"dropout": (0.1, 0.2)}):
        np.testing.assert_array_equal(fitted().set_params(**change).predict_proba(X), wanted)
        np.testing.assert_allclose(fitted().set_params(**change).predict_proba(X[:2]), wanted[:2])
    with pytest.raises(ValueError, match="activation must be one value, or one for each of the 1 hidden layers"):
        fitted().set_params(activation=("relu", "tanh")).predict(X)
