"""Perceptron: scikit-learn's estimator, all classes trained in one compiled pass over the rows."""
import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model._base import LinearClassifierMixin, SparseCoefMixin
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import _check_partial_fit_first_call, check_classification_targets
from sklearn.utils.validation import _check_sample_weight, validate_data

from .. import device as devices
from .base import one_kind
from .callbacks import CallbackSupportMixin, Tasks, with_callbacks
from .solvers import SPARSE_BLOCK

MAX_INT = np.iinfo(np.int32).max
SPARSE_INTERCEPT = 0.01  # scikit-learn moves the intercept by less on sparse X, so that it does not swing


class Perceptron(CallbackSupportMixin, LinearClassifierMixin, SparseCoefMixin, BaseEstimator):
    """scikit-learn's `Perceptron` on a compiled kernel: one unit a class, each against the rest.

    Parameters and attributes have the same default and meaning as in `sklearn.linear_model.Perceptron`
    (scikit-learn 1.9). All units learn in one pass over the rows, in one order drawn from `random_state` (there each
    has an order of its own), so `n_jobs` has nothing to do. It runs on one thread of the CPU.

    Parameters
    ----------
    penalty, alpha, l1_ratio, fit_intercept, max_iter, tol, shuffle, verbose, eta0, n_jobs, random_state, \
    early_stopping, validation_fraction, n_iter_no_change, class_weight, warm_start
        As there.

    Attributes
    ----------
    coef_, intercept_, classes_, n_iter_, t_, n_features_in_, feature_names_in_
        As there.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> bool(fastmlp.Perceptron().fit(X, y).score(X, y) > 0.9)
    True
    """

    _parameter_constraints: dict = {  # noqa: RUF012 (scikit-learn's name for it)
        "penalty": [StrOptions({"l2", "l1", "elasticnet"}), None],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "l1_ratio": [Interval(Real, 0, 1, closed="both")],
        "fit_intercept": ["boolean"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left"), None],
        "shuffle": ["boolean"],
        "verbose": ["verbose"],
        "eta0": [Interval(Real, 0, None, closed="neither")],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "warm_start": ["boolean"],
    }

    def __init__(self, *, penalty=None, alpha=0.0001, l1_ratio=0.15, fit_intercept=True, max_iter=1000, tol=1e-3,
                 shuffle=True, verbose=0, eta0=1.0, n_jobs=None, random_state=0, early_stopping=False,
                 validation_fraction=0.1, n_iter_no_change=5, class_weight=None, warm_start=False):
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.shuffle = shuffle
        self.verbose = verbose
        self.eta0 = eta0
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.warm_start = warm_start

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, coef_init=None, intercept_init=None, sample_weight=None):
        """Train on X (n, features), an array, frame or sparse matrix, and y (n,) labels.

        coef_init (classes, features) and intercept_init (classes,) are where to start; one row for two classes.
        sample_weight : (n,) factors of the rows' moves
        """
        start = coef_init, intercept_init
        if self.warm_start and hasattr(self, "coef_"):
            start = (self.coef_ if coef_init is None else coef_init,
                     self.intercept_ if intercept_init is None else intercept_init)
        X, y = self._validate(X, y, reset=True)
        self.classes_ = np.unique(y)
        self.t_ = 1.0
        self.coef_ = None
        self._learn(X, y, sample_weight, self.max_iter, start, Tasks(self, X, y, sample_weight, self._fitted, True))
        if self.tol is not None and self.n_iter_ == self.max_iter:
            warnings.warn("Maximum number of iteration reached before convergence. Consider increasing max_iter to "
                          "improve the fit.", ConvergenceWarning, stacklevel=2)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """One pass over X and y. The first call needs `classes`, all labels that will ever come."""
        first = not hasattr(self, "classes_")
        if first and self.early_stopping:
            raise ValueError("early_stopping should be False with partial_fit")
        if first and self.class_weight == "balanced":
            raise ValueError("class_weight 'balanced' is not supported for partial_fit, which does not see all rows; "
                             "pass {label: weight}, for instance from sklearn.utils.class_weight.compute_class_weight")
        X, y = self._validate(X, y, reset=first)
        _check_partial_fit_first_call(self, one_kind(classes, "classes"))
        self.t_ = getattr(self, "t_", 1.0)
        return self._learn(X, y, sample_weight, 1, (None, None), Tasks(self, X, y, sample_weight, self._fitted, False))

    def _validate(self, X, y, reset):
        X, y = validate_data(self, X, one_kind(y, "y"), accept_sparse="csr", dtype=[np.float64, np.float32], order="C",
                             accept_large_sparse=False, reset=reset)
        check_classification_targets(y)
        return X, y

    def _learn(self, X, y, sample_weight, max_iter, start, tasks):
        if len(self.classes_) < 2:
            raise ValueError(f"The number of classes has to be greater than one; got {len(self.classes_)} class")
        kernels, n, binary = devices.kernels("cpu"), X.shape[0], len(self.classes_) == 2
        class_weights = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
        weights = _check_sample_weight(sample_weight, X, dtype=X.dtype)
        labels = np.searchsorted(self.classes_, y).astype(np.int64)
        labels = 1 - labels if binary else labels     # one unit, number 0, for the second of two classes
        positive = self.eta0 * (class_weights[1:] if binary else class_weights)
        negative = self.eta0 * (class_weights[:1] if binary else np.ones(len(class_weights)))
        coef, intercept = self._start(X, start, len(positive))
        seed = self._seed(binary)
        held_out = self._hold_out(y, weights)
        rows, learnt = np.arange(n), np.delete(np.arange(n), held_out)
        watched = (X[held_out], labels[held_out], weights[held_out]) if self.early_stopping else ()
        validation = _Validation(self, len(positive), *watched)

        ratio = {None: 0.0, "l2": 0.0, "l1": 1.0}.get(self.penalty, self.l1_ratio)
        alpha = self.alpha if self.penalty else 0.0
        l1, l2 = ratio * self.eta0 * alpha, (1.0 - ratio) * self.eta0 * alpha
        shrunk = np.zeros(coef.shape if l1 else (0, 0), X.dtype)
        sparse = not isinstance(X, np.ndarray)
        moves = (SPARSE_INTERCEPT if sparse else 1.0) if self.fit_intercept else 0.0
        weights = weights if sample_weight is not None else np.empty(0, X.dtype)
        for epoch in range(max_iter):
            tasks.begin()
            if self.shuffle:
                kernels.shuffle(rows, seed)
                learnt = rows if not len(held_out) else rows[~np.isin(rows, held_out)]
            totals = np.zeros((len(positive), 3))
            for done, block in _blocks(X, learnt, labels, weights):
                kernels.perceptron_epoch(*block, positive, negative, l2, l1, moves, epoch * len(learnt) + done,
                                         validation.active, coef, intercept, shrunk, totals)
            if not (np.isfinite(coef).all() and np.isfinite(intercept).all()):
                raise ValueError(f"Floating-point under-/overflow occurred at epoch #{epoch + 1}. Scaling input data "
                                 "with StandardScaler or MinMaxScaler might help.")
            objective = (totals[:, 0] + alpha * ((1.0 - ratio) * totals[:, 1] + ratio * totals[:, 2])) / len(learnt)
            self._take(coef, intercept)
            self.n_iter_ = epoch + 1
            validation.see(objective, coef, intercept)
            if self.verbose:
                print(f"Epoch {epoch + 1}: mean loss {totals[:, 0].mean() / len(learnt):.6f}, "
                      f"{int(validation.active.sum())} of {len(positive)} units still learn")
            if tasks.end() or not validation.active.any():
                break
        self.t_ += self.n_iter_ * n
        tasks.close()
        return self

    def _start(self, X, start, units):
        if getattr(self, "coef_", None) is not None and start == (None, None):
            return np.ascontiguousarray(self.coef_, X.dtype), np.array(self.intercept_, X.dtype)
        coef, intercept = np.zeros((units, X.shape[1]), X.dtype), np.zeros(units, X.dtype)
        for name, given, here in (("coef_init", start[0], coef), ("intercept_init", start[1], intercept)):
            if given is not None:
                given = np.asarray(given, X.dtype)
                if given.size != here.size or (given.ndim == here.ndim and given.shape != here.shape):
                    raise ValueError(f"Provided {name} does not match dataset: expected shape {here.shape}, got "
                                     f"{given.shape}.")
                here[...] = given.reshape(here.shape)
        return coef, intercept

    def _take(self, coef, intercept):
        self.coef_, self.intercept_ = coef, intercept

    def _fitted(self):
        return {"coef_": self.coef_.copy(), "intercept_": self.intercept_.copy(), "classes_": self.classes_}

    def _seed(self, binary):
        """What scikit-learn shuffles by: for two classes its order, for more the order of its first unit."""
        random_state = check_random_state(self.random_state)
        if not binary:
            random_state = np.random.RandomState(random_state.randint(MAX_INT, size=len(self.classes_))[0])
        random_state.randint(1, MAX_INT)               # drawn there for a data set's own use
        return int(random_state.randint(MAX_INT))

    def _hold_out(self, y, weights):
        """The rows that early stopping watches."""
        if not self.early_stopping:
            return np.empty(0, np.int64)
        splitter = StratifiedShuffleSplit(test_size=self.validation_fraction, random_state=self.random_state)
        _, held_out = next(splitter.split(np.zeros((len(y), 1)), y))
        if not np.any(weights[held_out] > 0):
            raise ValueError("The sample weights for validation set are all zero, consider using a different random "
                             "state.")
        return np.sort(held_out)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class _Validation:
    """Which units still learn: each stops when its own objective, or score on hold-out rows, no longer improves."""

    def __init__(self, estimator, units, X=None, labels=None, weights=None):
        self.tol, self.patience = estimator.tol, estimator.n_iter_no_change
        self.X, self.labels, self.weights = X, labels, weights
        self.active = np.ones(units, bool)
        self.best, self.waited = np.full(units, np.inf), np.zeros(units, int)

    def see(self, objective, coef, intercept):
        if self.X is not None:
            right = (self.X @ coef.T + intercept > 0) == (self.labels[:, None] == np.arange(len(coef)))
            objective = -np.average(right, axis=0, weights=self.weights)
        if self.tol is not None:
            self.waited = np.where(objective > self.best - self.tol, self.waited + 1, 0)
            self.active &= self.waited < self.patience
        self.best = np.minimum(self.best, objective)


def _blocks(X, rows, labels, weights):
    """(rows done before, (x, rows, labels, weights)) as the kernel reads them; sparse X block by block."""
    if isinstance(X, np.ndarray):
        X = X.view()
        X.flags.writeable = False  # one type, also for those who pass read-only arrays: the kernel compiles once
        yield 0, (X, rows, labels, weights)
        return
    for start in range(0, len(rows), SPARSE_BLOCK):
        chosen = rows[start:start + SPARSE_BLOCK]
        yield start, (X[chosen].toarray(), np.arange(len(chosen)), labels[chosen],
                      weights[chosen] if weights.size else weights)
