"""The estimators: step by step what scikit-learn's do, and what they add."""
import pickle

import numpy as np
import pytest
from toy import blobs, waves

import fastmlp

pytest.importorskip("sklearn")
from sklearn import linear_model, neural_network
from sklearn.base import clone
from sklearn.datasets import load_digits

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X_DIGITS, Y_DIGITS = load_digits(return_X_y=True)
X_DIGITS = X_DIGITS[:450] / 16
Y_DIGITS = Y_DIGITS[:450]
rng = np.random.default_rng(0)
X_NUMBERS = rng.normal(size=(203, 6))
Y_NUMBERS = np.stack([np.sin(X_NUMBERS[:, 0]), X_NUMBERS[:, 1] * X_NUMBERS[:, 2], X_NUMBERS[:, 3]], axis=1)
WEIGHTS = rng.integers(1, 4, len(X_DIGITS)).astype(float)

SETTINGS = {
    "adam": {},
    "sgd": {"solver": "sgd", "learning_rate_init": 0.05},
    "momentum": {"solver": "sgd", "nesterovs_momentum": False, "momentum": 0.5, "alpha": 1.0},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.2, "momentum": 0},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.5, "n_iter_no_change": 1},
    "lbfgs": {"solver": "lbfgs"},
    "early_stopping": {"early_stopping": True, "validation_fraction": 0.2},
    "deep": {"hidden_layer_sizes": (20, 10), "activation": "tanh", "batch_size": 64, "shuffle": False},
    "logistic": {"activation": "logistic", "batch_size": 50, "beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3},
    "linear": {"hidden_layer_sizes": (), "solver": "sgd"},
}
ATTRIBUTES = ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_")


def assert_same_fit(theirs, ours, penalty_met_exactly=False):
    """Weights to rounding. Our loss takes the penalty's norm to change evenly within an epoch."""
    for name in ATTRIBUTES:
        assert getattr(ours, name) == getattr(theirs, name), name
    for a, b in zip(theirs.coefs_ + theirs.intercepts_, ours.coefs_ + ours.intercepts_, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-7, atol=1e-11)
    np.testing.assert_allclose(ours.loss_, theirs.loss_, rtol=1e-4)
    if theirs.solver != "lbfgs":
        np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-4)
        for name in ("validation_scores_", "best_validation_score_", "best_loss_"):
            expected, got = getattr(theirs, name), getattr(ours, name)
            assert (expected is None) == (got is None), name
            if expected is not None:
                np.testing.assert_allclose(got, expected, rtol=1e-4)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("kind", ["classes", "two classes", "multilabel"])
def test_classifier_takes_the_same_steps(settings, kind):
    y = {"classes": Y_DIGITS, "two classes": Y_DIGITS % 2 == 0,
         "multilabel": np.stack([Y_DIGITS % 2, Y_DIGITS % 3 == 0, Y_DIGITS > 4], axis=1).astype(int)}[kind]
    settings = {"random_state": 3, "max_iter": 6, **settings}
    theirs = neural_network.MLPClassifier(**settings).fit(X_DIGITS, y)
    ours = fastmlp.MLPClassifier(**settings).fit(X_DIGITS, y)
    assert_same_fit(theirs, ours)
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)
    np.testing.assert_allclose(ours.predict_proba(X_DIGITS), theirs.predict_proba(X_DIGITS), rtol=1e-6, atol=1e-12)
    np.testing.assert_array_equal(ours.predict(X_DIGITS), theirs.predict(X_DIGITS))
    assert ours.predict(X_DIGITS).dtype == theirs.predict(X_DIGITS).dtype


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("kind", ["numbers", "poisson"])
def test_regressor_takes_the_same_steps(settings, kind):
    y = Y_NUMBERS[:, 0] if kind == "numbers" else np.floor(4 * np.abs(Y_NUMBERS[:, 1]))
    settings = {"random_state": 3, "max_iter": 6, "loss": "poisson" if kind == "poisson" else "squared_error",
                **settings, **({"learning_rate_init": 1e-3} if kind == "poisson" else {})}
    theirs = neural_network.MLPRegressor(**settings).fit(X_NUMBERS, y)
    ours = fastmlp.MLPRegressor(**settings).fit(X_NUMBERS, y)
    assert_same_fit(theirs, ours)
    np.testing.assert_allclose(ours.predict(X_NUMBERS), theirs.predict(X_NUMBERS), rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_several_outputs_take_the_same_steps(solver):
    settings = {"random_state": 3, "max_iter": 6, "solver": solver, "alpha": 0.1}
    assert_same_fit(neural_network.MLPRegressor(**settings).fit(X_NUMBERS, Y_NUMBERS),
                    fastmlp.MLPRegressor(**settings).fit(X_NUMBERS, Y_NUMBERS))


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_sample_weights_take_the_same_steps(solver):
    settings = {"random_state": 3, "max_iter": 5, "solver": solver, "alpha": 0.5}
    theirs = neural_network.MLPClassifier(**settings).fit(X_DIGITS, Y_DIGITS, WEIGHTS)
    ours = fastmlp.MLPClassifier(**settings).fit(X_DIGITS, Y_DIGITS, WEIGHTS)
    for a, b in zip(theirs.coefs_, ours.coefs_, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-7, atol=1e-11)


def test_partial_fit_takes_the_same_steps():
    theirs, ours = (package.MLPClassifier(random_state=0, batch_size=32) for package in (neural_network, fastmlp))
    for rows in np.array_split(np.arange(len(X_DIGITS)), 4):
        for model in (theirs, ours):
            model.partial_fit(X_DIGITS[rows], Y_DIGITS[rows], classes=np.arange(10))
    ours = pickle.loads(pickle.dumps(ours))
    assert_same_fit(theirs.partial_fit(X_DIGITS, Y_DIGITS), ours.partial_fit(X_DIGITS, Y_DIGITS))


def test_warm_start_takes_the_same_steps():
    models = [package.MLPRegressor(random_state=0, warm_start=True, max_iter=4)
              for package in (neural_network, fastmlp)]
    for model in models:
        model.fit(X_NUMBERS, Y_NUMBERS[:, 0])
        model.coefs_[0] = model.coefs_[0] * 0.5  # what people put there counts
        model.set_params(learning_rate_init=0.01).fit(X_NUMBERS, Y_NUMBERS[:, 0])
    assert_same_fit(*models)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_sparse_rows_are_dense_rows(solver, monkeypatch):
    sparse = pytest.importorskip("scipy.sparse")
    from fastmlp.estimators import solvers
    monkeypatch.setattr(solvers, "SPARSE_BLOCK", 100)
    settings = {"random_state": 0, "max_iter": 4, "batch_size": 32, "solver": solver}
    dense = fastmlp.MLPClassifier(**settings).fit(X_DIGITS, Y_DIGITS)
    for container in (sparse.csr_matrix, sparse.csc_array):
        model = fastmlp.MLPClassifier(**settings).fit(container(X_DIGITS), Y_DIGITS)
        for a, b in zip(dense.coefs_, model.coefs_, strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-6, atol=1e-9)
        np.testing.assert_array_equal(model.predict(container(X_DIGITS)), model.predict(X_DIGITS))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_of_x_is_followed(dtype):
    model = fastmlp.MLPRegressor(random_state=0, max_iter=3).fit(X_NUMBERS.astype(dtype), Y_NUMBERS)
    assert {array.dtype for array in model.coefs_ + model.intercepts_} == {np.dtype(dtype)}
    assert model.predict(X_NUMBERS.astype(dtype)).dtype == dtype
    lbfgs = fastmlp.MLPRegressor(solver="lbfgs", random_state=0, max_iter=3).fit(X_NUMBERS.astype(dtype), Y_NUMBERS)
    assert lbfgs.predict(X_NUMBERS.astype(dtype)).dtype == dtype


# ------------------------------------------------------------------------------- what scikit-learn does not have

def test_class_weight_is_sample_weight():
    weights = np.where(Y_DIGITS == 3, 5.0, 1.0)
    settings = {"random_state": 0, "max_iter": 4}
    a = fastmlp.MLPClassifier(class_weight={3: 5.0}, **settings).fit(X_DIGITS, Y_DIGITS)
    b = fastmlp.MLPClassifier(**settings).fit(X_DIGITS, Y_DIGITS, sample_weight=weights)
    np.testing.assert_array_equal(a.coefs_[0], b.coefs_[0])
    balanced = fastmlp.MLPClassifier(class_weight="balanced", **settings)
    with pytest.raises(ValueError, match="balanced"):
        balanced.partial_fit(X_DIGITS, Y_DIGITS, classes=np.arange(10))
    balanced.fit(X_DIGITS, Y_DIGITS)


def test_dropout_and_smoothing_change_training_only():
    settings = {"random_state": 0, "max_iter": 30, "learning_rate_init": 0.01}
    plain, dropped, smooth = (fastmlp.MLPClassifier(**settings, **more).fit(X_DIGITS, Y_DIGITS) for more in (
        {}, {"dropout": 0.5}, {"label_smoothing": 0.2}))
    assert dropped.loss_ > 2 * plain.loss_
    assert smooth.predict_proba(X_DIGITS).max() < 0.97 < plain.predict_proba(X_DIGITS).max()
    for model in (plain, dropped, smooth):
        assert model.score(X_DIGITS, Y_DIGITS) > 0.95
        np.testing.assert_array_equal(model.predict_proba(X_DIGITS), model.predict_proba(X_DIGITS))
    # The least loss that smoothed answers allow is their entropy.
    smoothed = np.full(10, 0.02) + 0.8 * (np.arange(10) == 0)
    assert smooth.loss_ > -np.sum(smoothed * np.log(smoothed))


def test_activation_per_layer():
    model = fastmlp.MLPClassifier((8, 6), activation=("gelu", "tanh"), max_iter=3, random_state=0)
    model.fit(X_DIGITS, Y_DIGITS)
    hand = fastmlp.MLP.from_parameters(model.coefs_, model.intercepts_, activation=("gelu", "tanh"))
    np.testing.assert_allclose(model.predict_proba(X_DIGITS), hand.predict_proba(X_DIGITS), rtol=1e-12)
    for wrong, message in ((("relu",), "activation must be one value, or one for each of the 2"),
                           (("relu", "swish"), "'swish'")):
        with pytest.raises(ValueError, match=message):
            clone(model).set_params(activation=wrong).fit(X_DIGITS, Y_DIGITS)


@pytest.mark.parametrize(("loss", "solver", "statistic"), [
    ("absolute_error", "sgd", np.median), (fastmlp.Quantile(0.9), "sgd", lambda y: np.quantile(y, 0.9)),
    (fastmlp.Huber(1e-3), "lbfgs", np.median), (fastmlp.Huber(1e3), "lbfgs", np.mean), ("huber", "sgd", None),
    ("squared_error", "lbfgs", np.mean), ("poisson", "lbfgs", np.mean)])
def test_a_loss_is_least_at_its_statistic(loss, solver, statistic):
    """With nothing to learn from X, the best prediction is the mean, median or quantile of y."""
    y = np.random.default_rng(0).gamma(2.0, 1.0, 400)
    if statistic is None:  # the Huber estimate of location, where the cut residuals cancel
        grid = np.linspace(0, 4, 4001)
        estimate = grid[np.abs(np.clip(y - grid[:, None], -1, 1).sum(axis=1)).argmin()]
        statistic = lambda y: estimate  # noqa: E731
    model = fastmlp.MLPRegressor(loss, (), solver=solver, learning_rate_init=0.2, learning_rate="adaptive", tol=1e-7,
                                 momentum=0, batch_size=400, alpha=0, max_iter=3000,
                                 random_state=0).fit(np.zeros((400, 1)), y)
    assert model.predict(np.zeros((1, 1)))[0] == pytest.approx(statistic(y), abs=0.03)


def test_validation_data():
    X, y = blobs(300)
    model = fastmlp.MLPClassifier(random_state=0, max_iter=12)
    model.fit(X[:200], y[:200], validation_data=(X[200:], y[200:]))
    assert len(model.val_loss_curve_) == len(model.loss_curve_) == 12
    p = model.predict_proba(X[200:])[np.arange(100), y[200:]]
    assert model.val_loss_curve_[-1] == pytest.approx(-np.log(p).mean(), rel=1e-5)
    model.set_params(early_stopping=True).fit(X[:200], y[:200], validation_data=(X[200:], y[200:]))
    assert model.t_ == model.n_iter_ * 200  # nothing of X was set aside
    assert model.best_validation_score_ == pytest.approx(model.score(X[200:], y[200:]))
    model = clone(model).set_params(early_stopping=False)
    assert not hasattr(model.fit(X, y), "val_loss_curve_")
    assert not hasattr(model.set_params(solver="lbfgs").fit(X, y, validation_data=(X, y)), "val_loss_curve_")
    X, y = waves()
    model = fastmlp.MLPRegressor(random_state=0, max_iter=3).fit(X, y, validation_data=(X, y, np.ones(len(y))))
    assert model.val_loss_curve_[-1] == pytest.approx(0.5 * np.mean((model.predict(X) - y) ** 2), rel=1e-5)


def test_devices_and_threads_agree():
    settings = {"random_state": 0, "max_iter": 3}
    fits = [fastmlp.MLPClassifier(**settings, **more).fit(X_DIGITS, Y_DIGITS)
            for more in ({"device": "reference"}, {"n_threads": 1}, {"n_threads": 2})]
    np.testing.assert_allclose(fits[0].coefs_[0], fits[1].coefs_[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(fits[1].coefs_[0], fits[2].coefs_[0])


def test_weights_put_there_by_hand_count():
    model = fastmlp.MLPClassifier(max_iter=3, random_state=0).fit(X_DIGITS, Y_DIGITS)
    before = model.predict_proba(X_DIGITS)
    model.coefs_[1] = np.zeros_like(model.coefs_[1])
    model.intercepts_[1] = np.arange(10.0)
    assert set(model.predict(X_DIGITS)) == {9}
    assert np.abs(model.predict_proba(X_DIGITS) - before).max() > 0.1


def test_bad_values_are_seen_in_prediction():
    model = fastmlp.MLPClassifier(max_iter=2, random_state=0).fit(X_DIGITS, Y_DIGITS)
    for wrong in (np.nan, np.inf):
        X = X_DIGITS[:2].copy()
        X[1, 3] = wrong
        with pytest.raises(ValueError, match="contains"):
            model.predict(X)
    with pytest.raises(ValueError, match="features"):
        model.predict(X_DIGITS[:, :5])


def test_refusals():
    with pytest.raises(ValueError, match="dropout needs solver"):
        fastmlp.MLPClassifier(solver="lbfgs", dropout=0.5).fit(X_DIGITS, Y_DIGITS)
    with pytest.raises(ValueError, match="counts"):
        fastmlp.MLPRegressor("poisson").fit(X_NUMBERS, Y_NUMBERS[:, 0])
    with pytest.raises(ValueError, match="'dropout' parameter"):
        fastmlp.MLPRegressor(dropout=1.5).fit(X_NUMBERS, Y_NUMBERS)


# ------------------------------------------------------------------------------- perceptron

@pytest.mark.parametrize("settings", [
    {}, {"penalty": "l2", "alpha": 1e-3}, {"penalty": "l1"},
    # Theirs forgets what l1 took when it reckons the norm for its objective, so only the epochs' number could differ.
    {"penalty": "elasticnet", "l1_ratio": 0.5, "tol": None, "max_iter": 9},
    {"early_stopping": True}, {"eta0": 0.5, "class_weight": "balanced"}, {"fit_intercept": False},
    {"shuffle": False, "tol": None, "max_iter": 7}, {"random_state": np.random.RandomState(5)}], ids=str)
def test_perceptron_takes_the_same_steps(settings):
    state = settings.get("random_state")
    for y in (Y_DIGITS == 3, Y_DIGITS) if settings.get("shuffle") is False else (Y_DIGITS == 3,):
        models = []
        for package in (linear_model, fastmlp):
            more = {"random_state": np.random.RandomState(5)} if state is not None else {}
            models.append(package.Perceptron(**{**settings, **more}).fit(X_DIGITS, y))
        theirs, ours = models
        assert (ours.n_iter_, ours.t_) == (theirs.n_iter_, theirs.t_)
        np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-9, atol=1e-9)


def test_perceptron_on_sparse_rows(monkeypatch):
    sparse = pytest.importorskip("scipy.sparse")
    from fastmlp.estimators import perceptron
    monkeypatch.setattr(perceptron, "SPARSE_BLOCK", 100)
    X = sparse.csr_matrix(X_DIGITS)
    theirs, ours = (package.Perceptron().fit(X, Y_DIGITS == 3) for package in (linear_model, fastmlp))
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-9)


def test_perceptron_partial_fit_and_warm_start():
    theirs, ours = (package.Perceptron(shuffle=False) for package in (linear_model, fastmlp))
    for rows in np.array_split(np.arange(len(X_DIGITS)), 3):
        for model in (theirs, ours):
            model.partial_fit(X_DIGITS[rows], Y_DIGITS[rows], classes=np.arange(10))
    np.testing.assert_allclose(ours.coef_, theirs.coef_)
    assert ours.t_ == theirs.t_
    for model in (theirs, ours):
        model.set_params(warm_start=True, max_iter=2).fit(X_DIGITS, Y_DIGITS)
    np.testing.assert_allclose(ours.coef_, theirs.coef_)
    with pytest.raises(ValueError, match="classes should include all valid labels"):
        ours.partial_fit(X_DIGITS[:2], [3, 77])
    with pytest.raises(ValueError, match="Provided coef_init does not match"):
        fastmlp.Perceptron().fit(X_DIGITS, Y_DIGITS, coef_init=np.zeros((3, 64)))


def test_overflow_is_told():
    with pytest.raises(ValueError, match="under-/overflow occurred at epoch #1"):
        fastmlp.Perceptron(eta0=10).fit([[1e308], [-1e308]], [0, 1])


# ------------------------------------------------------------------------------- scikit-learn's callbacks

class Recorder:
    """A callback after `sklearn.callback.FitCallback` that predicts after every epoch and stops after some."""

    def __init__(self, X, y, stop_after=None):
        self.X, self.y, self.stop_after = X, y, stop_after
        self.scores, self.begun, self.calls = [], 0, []

    def setup(self, estimator, context):
        self.calls.append("setup")

    def teardown(self, estimator, context):
        self.calls.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.begun += 1

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name == "epoch":
            self.scores.append(fitted_estimator.score(self.X, self.y))
            return len(self.scores) == self.stop_after
        return False


@pytest.mark.parametrize("make", [
    lambda: fastmlp.MLPClassifier(max_iter=5, random_state=0), lambda: fastmlp.Perceptron(max_iter=5, tol=None),
    lambda: fastmlp.MLPClassifier(max_iter=5, random_state=0, solver="lbfgs")], ids=["adam", "perceptron", "lbfgs"])
def test_callbacks(make):
    pytest.importorskip("sklearn.callback", reason="scikit-learn before 1.9 has no callbacks")
    recorder = Recorder(X_DIGITS, Y_DIGITS)
    model = make().set_callbacks(recorder).fit(X_DIGITS, Y_DIGITS)
    assert recorder.calls == ["setup", "teardown"]
    assert len(recorder.scores) == recorder.begun - 1 == 5 + (getattr(model, "solver", "") == "lbfgs")
    assert recorder.scores[-1] == model.score(X_DIGITS, Y_DIGITS)
    assert recorder.scores[0] < recorder.scores[-1]
    stopper = Recorder(X_DIGITS, Y_DIGITS, stop_after=2)
    assert make().set_callbacks(stopper).fit(X_DIGITS, Y_DIGITS).n_iter_ == 2
    plain = make().fit(X_DIGITS, Y_DIGITS)
    np.testing.assert_array_equal(plain.predict(X_DIGITS), model.predict(X_DIGITS))


def test_progress_bar(capsys):
    """scikit-learn's own bar runs to its end on our fit, alone and inside a search."""
    callback = pytest.importorskip("sklearn.callback", reason="scikit-learn before 1.9 has no callbacks")
    pytest.importorskip("rich", reason="scikit-learn's ProgressBar needs rich")
    from sklearn.model_selection import GridSearchCV
    model = fastmlp.MLPClassifier(max_iter=4, random_state=0).set_callbacks(callback.ProgressBar())
    model.fit(X_DIGITS, Y_DIGITS)
    shown = capsys.readouterr().out
    assert "MLPClassifier - fit" in shown
    assert "100%" in shown
    search = GridSearchCV(fastmlp.MLPClassifier(max_iter=2), {"alpha": [1e-4, 1e-2]}, cv=2)
    search.set_callbacks(callback.ProgressBar(max_propagation_depth=None)).fit(X_DIGITS, Y_DIGITS)
    assert "MLPClassifier" in capsys.readouterr().out


def test_ctrl_c_leaves_a_model():
    class Interrupt(fastmlp.MLPClassifier):
        def _score_of(self, *held):
            if self.n_iter_ == 3:
                raise KeyboardInterrupt
            return super()._score_of(*held)

    with pytest.warns(UserWarning, match="interrupted"):
        model = Interrupt(early_stopping=True, random_state=0).fit(X_DIGITS, Y_DIGITS)
    assert model.n_iter_ == 3
    assert model.predict(X_DIGITS).shape == Y_DIGITS.shape
