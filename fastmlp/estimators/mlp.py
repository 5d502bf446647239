"""MLPClassifier and MLPRegressor: scikit-learn's estimators, trained by the compiled kernels.

`coefs_` and `intercepts_` are views into one flat array, the kernels' layout. Whoever replaces one of them is
heeded: the next call copies them into a new flat array.
"""
import math
import operator
from itertools import chain, pairwise
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, _fit_context
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import (
    _check_partial_fit_first_call,
    check_classification_targets,
    type_of_target,
    unique_labels,
)
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .. import device as devices
from ..data import validation_pair
from ..kernels import activations as act
from ..kernels import losses
from ..kernels.reference.activations import activate
from ..losses import Huber, Quantile, loss_of
from .callbacks import CallbackSupportMixin, Tasks, with_callbacks
from .solvers import Net, Source, fit_lbfgs, fit_stochastic

STOCHASTIC = ("sgd", "adam")
# scikit-learn's name first: its logistic is our sigmoid.
ACTIVATIONS = {"logistic": act.SIGMOID, **{name: act.NAMES.index(name) for name in act.TRAINABLE}}
OUTPUTS = {"identity": act.IDENTITY, "logistic": act.SIGMOID, "softmax": act.SOFTMAX, "exp": act.EXP}
FEW_ROWS = 4  # predicted in NumPy: entering compiled loops takes some 50 µs, two products of one row 4
NO_LABELS, NO_WEIGHTS = np.empty(0, np.int64), np.empty(0)


class _MLP(CallbackSupportMixin, BaseEstimator):
    """What classifier and regressor share."""

    _parameter_constraints: dict = {  # noqa: RUF012 (scikit-learn's name for it)
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS)), "array-like"],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
        "device": [str],
        "n_threads": [Interval(Integral, 1, None, closed="left"), None],
    }

    # ------------------------------------------------------------------------------- weights

    def _parameters(self):
        """All weights and biases as one flat array, of which coefs_ and intercepts_ are views afterwards."""
        arrays = [*self.coefs_, *self.intercepts_]
        packed = self.__dict__.get("_packed")
        if packed is not None and len(packed[1]) == len(arrays) and all(map(operator.is_, packed[1], arrays)):
            return packed[0]
        parts = list(chain.from_iterable(zip(self.coefs_, self.intercepts_, strict=True)))
        kind = np.float32 if all(np.asarray(part).dtype == np.float32 for part in parts) else np.float64
        self._adopt(np.concatenate([np.ravel(part) for part in parts]).astype(kind),
                    (len(self.coefs_[0]), *(np.shape(w)[1] for w in self.coefs_)))
        return self._packed[0]

    def _adopt(self, flat, sizes):
        coefs, intercepts, start = [], [], 0
        for n_in, n_out in pairwise(sizes):
            middle = start + n_in * n_out
            coefs.append(flat[start:middle].reshape(n_in, n_out))
            intercepts.append(flat[middle:middle + n_out])
            start = middle + n_out
        self.coefs_, self.intercepts_ = coefs, intercepts
        self._packed = flat, [*coefs, *intercepts], sizes

    def __getstate__(self):
        state = dict(super().__getstate__())  # which may be the very __dict__
        state.pop("_packed", None)  # views: a copy has to look into its own parameters
        return state

    def _hidden(self):
        """Widths, activation codes and dropout rates of the hidden layers."""
        sizes = self.hidden_layer_sizes
        sizes = tuple(sizes) if hasattr(sizes, "__iter__") else (sizes,)
        if any(size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {list(sizes)}.")
        names = (self.activation,) * len(sizes) if isinstance(self.activation, str) else tuple(self.activation)
        rates = tuple(self.dropout) if hasattr(self.dropout, "__len__") else (self.dropout,) * len(sizes)
        for name, values in (("activation", names), ("dropout", rates)):
            if len(values) != len(sizes):
                raise ValueError(f"{name} must be one value, or one for each of the {len(sizes)} hidden layers; "
                                 f"got {values!r}")
        for name in names:
            if name not in ACTIVATIONS:
                raise ValueError(f"activation must be of {', '.join(map(repr, ACTIVATIONS))}, got {name!r}")
        if any(rates) and self.solver == "lbfgs":
            raise ValueError("dropout needs solver='sgd' or 'adam': L-BFGS follows one function")
        return tuple(map(int, sizes)), tuple(ACTIVATIONS[name] for name in names), tuple(map(float, rates))

    def _initialize(self, sizes, codes, dtype):
        """Weights and biases drawn as scikit-learn draws them, and the counters of a fit at their start."""
        self.n_iter_ = self.t_ = 0
        self.n_layers_ = len(sizes)
        self.out_activation_ = self._output()
        parts = []
        for layer, (n_in, n_out) in enumerate(pairwise(sizes)):
            code = codes[min(layer, len(codes) - 1)] if codes else act.RELU
            bound = np.sqrt((2.0 if code == act.SIGMOID else 6.0) / (n_in + n_out))
            parts += [self._random_state.uniform(-bound, bound, n_in * n_out),
                      self._random_state.uniform(-bound, bound, n_out)]
        self._adopt(np.concatenate(parts).astype(dtype), sizes)
        self._best_parameters = self._packed[0].copy()
        if self.solver in STOCHASTIC:
            self.loss_curve_ = []
            self._no_improvement_count = 0
            self.best_loss_ = None if self.early_stopping else np.inf
            self.validation_scores_ = [] if self.early_stopping else None
            self.best_validation_score_ = -np.inf if self.early_stopping else None

    # ------------------------------------------------------------------------------- fit

    def _fit(self, X, y, sample_weight=None, incremental=False, validation_data=None):
        hidden, codes, dropout = self._hidden()
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        first = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        X, y = self._validate(X, y, incremental, reset=first)
        sample_weight = None if sample_weight is None else _check_sample_weight(sample_weight, X)
        weights = self._class_weighted(y, sample_weight, incremental)
        encoded = self._encode(y)
        self.n_outputs_ = self._n_outputs(encoded)
        self._random_state = check_random_state(self.random_state)
        sizes = (X.shape[1], *hidden, self.n_outputs_)
        if first:
            self._initialize(sizes, codes, X.dtype)
        loss, parameter = self._loss()
        net = Net(sizes, (*codes, act.IDENTITY), (*dropout, 0.0), loss, parameter, float(self.alpha))

        kernels, n_threads = devices.kernels(self.device), devices.threads(self.n_threads)
        held = None
        if validation_data is not None:
            held = self._held(validation_data)
            if not hasattr(self, "val_loss_curve_") or first:
                self.val_loss_curve_ = []
        elif first:
            self.__dict__.pop("val_loss_curve_", None)
        score = None
        parameters = self._parameters()
        if self.early_stopping and self.solver in STOCHASTIC:
            train, watched = (np.arange(X.shape[0]), held) if held else self._split(X, y, encoded, sample_weight)
            score = lambda: self._score_of(*watched)  # noqa: E731
            X, encoded = X[train], encoded[train]
            weights = weights if weights is None else weights[train]
        tasks = Tasks(self, X, y, sample_weight, self._fitted, enabled=not incremental)
        dtype = np.float64 if self.solver == "lbfgs" else parameters.dtype
        source = self._source(kernels, X, encoded, weights, dtype, smoothing=getattr(self, "label_smoothing", 0.0))
        if self.solver == "lbfgs":
            fit_lbfgs(self, net, parameters, source, tasks, n_threads)
        else:
            judged = held and self._source(kernels, held[0], self._encode(held[1]), held[2], dtype)
            fit_stochastic(self, net, parameters, source, judged, score, tasks, incremental, n_threads)
        tasks.close()
        if not np.isfinite(parameters).all():
            raise ValueError("Solver produced non-finite parameter weights. The input data may contain large values "
                             "and need to be preprocessed.")
        return self

    def _source(self, kernels, X, encoded, weights, dtype, smoothing=0.0):
        labels, targets = self._targets(encoded, dtype, smoothing)
        x = X.tocsr().astype(dtype, copy=False) if hasattr(X, "tocsr") else np.ascontiguousarray(X, dtype)
        return Source(kernels, x, labels, targets, np.asarray(NO_WEIGHTS if weights is None else weights, dtype))

    def _held(self, validation_data):
        X, y, weight = validation_pair(validation_data)
        X, y = self._validate(X, y, incremental=True, reset=False)
        return X, y, None if weight is None else _check_sample_weight(weight, X)

    def _split(self, X, y, encoded, sample_weight):
        """Rows to train on, and (X, y, sample_weight) of those early stopping watches; drawn as scikit-learn does."""
        train, held = train_test_split(np.arange(X.shape[0]), random_state=self._random_state,
                                       test_size=self.validation_fraction, stratify=self._strata(encoded))
        if len(held) < 2:
            raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your "
                             "dataset.")
        return train, (X[held], y[held], None if sample_weight is None else sample_weight[held])

    def _fitted(self):
        """What a callback's copy of this estimator needs to predict as of now."""
        flat = self._parameters().copy()
        copy = object.__new__(type(self))
        copy._adopt(flat, self._packed[2])
        return {"coefs_": copy.coefs_, "intercepts_": copy.intercepts_}

    def _check_solver(self):
        if self.solver not in STOCHASTIC:
            raise AttributeError("partial_fit is only available for stochastic optimizers. "
                                 f"{self.solver} is not stochastic.")
        return True

    # ------------------------------------------------------------------------------- predict

    def _read(self, X):
        """X as checked rows. What needs no check but for NaN takes 3 µs; scikit-learn's own checks take 60."""
        if (type(X) is np.ndarray and X.ndim == 2 and X.dtype in (np.float32, np.float64) and len(X)
                and hasattr(self, "coefs_") and X.shape[1] == self.n_features_in_
                and not hasattr(self, "feature_names_in_") and math.isfinite(np.add.reduce(X, axis=None))):
            return X
        check_is_fitted(self)
        return validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)

    def _outputs(self, X, output):
        """The net's outputs (n, n_outputs_) for checked X, the last layer's activation being the code `output`."""
        flat, codes, sparse = self._parameters(), (*self._hidden()[1], output), hasattr(X, "tocsr")
        if X.shape[0] <= FEW_ROWS and not sparse:
            y = X.astype(flat.dtype, copy=False)
            for w, b, code in zip(self.coefs_, self.intercepts_, codes, strict=True):
                y = y @ w
                y += b
                activate(code, y, y)
            return y
        kernels, sizes = devices.kernels(self.device), self._packed[2]
        out = np.empty((X.shape[0], sizes[-1]), flat.dtype)
        X = X.tocsr() if sparse else np.ascontiguousarray(X, flat.dtype)
        step = 4096 if sparse else max(1, X.shape[0])
        for start in range(0, X.shape[0], step):
            x = np.ascontiguousarray(X[start:start + step].toarray(), flat.dtype) if sparse else X
            kernels.forward(flat, sizes, codes, x, 1.0, devices.threads(self.n_threads), out[start:start + step])
        return out

    def _score_of(self, X, y, sample_weight):
        prediction = self._predict(X)
        if prediction.dtype.kind == "f" and not np.isfinite(prediction).all():
            return np.nan
        return self._metric(y, prediction, sample_weight=sample_weight)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class MLPClassifier(ClassifierMixin, _MLP):
    """scikit-learn's `MLPClassifier` on compiled kernels, several times as fast, with class weights, dropout and more.

    Parameters and attributes of the same name have the same default and meaning as in
    `sklearn.neural_network.MLPClassifier` (scikit-learn 1.9), and random numbers are drawn in the same order: the
    same `random_state` starts at the same weights and visits the rows in the same order. It follows the dtype of X:
    float32 is trained in float32, all else in float64.

    Parameters
    ----------
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init, power_t, max_iter, \
    shuffle, random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, early_stopping, \
    validation_fraction, beta_1, beta_2, epsilon, n_iter_no_change, max_fun
        As there. `activation` may also be "leaky_relu", "gelu", "silu", or a sequence of one name per hidden layer.
    dropout : float or sequence of float, default=0.0
        Share of a hidden layer's outputs dropped in training, below 1; one for all or one each. Not for "lbfgs".
    class_weight : dict, "balanced" or None
        Weight of each class in the loss, {label: weight}; multiplies sample_weight.
    label_smoothing : float, default=0.0
        The share of each row's answer that is spread evenly over all classes, in training only.
    device : "auto", "cpu" or "reference"
        As in `fastmlp.train`.
    n_threads : int or None
        Threads on the CPU. None leaves it to the kernels; the number does not change the result.

    Attributes
    ----------
    coefs_, intercepts_, classes_, loss_, best_loss_, loss_curve_, validation_scores_, best_validation_score_, t_, \
    n_iter_, n_layers_, n_outputs_, out_activation_, n_features_in_, feature_names_in_
        As there.
    val_loss_curve_ : list of float
        The loss on `validation_data` after every epoch; only if `fit` was given any and the solver has epochs.

    Notes
    -----
    Weights equal scikit-learn's to rounding; `loss_` to its fourth digit, for the penalty's share takes the norm of
    the weights to change evenly within an epoch. With sample_weight it is the epoch's weighted mean, there the mean of
    its batches' weighted means. A sparse X is made dense a few thousand rows at a time.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = fastmlp.MLPClassifier((16,), learning_rate_init=0.01, random_state=0, class_weight="balanced")
    >>> bool(model.fit(X, y).score(X, y) > 0.95)
    True
    """

    _parameter_constraints: dict = {  # noqa: RUF012
        **_MLP._parameter_constraints,
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    }
    _metric = staticmethod(accuracy_score)

    def __init__(self, hidden_layer_sizes=(100,), activation="relu", *, solver="adam", alpha=0.0001, batch_size="auto",
                 learning_rate="constant", learning_rate_init=0.001, power_t=0.5, max_iter=200, shuffle=True,
                 random_state=None, tol=1e-4, verbose=False, warm_start=False, momentum=0.9, nesterovs_momentum=True,
                 early_stopping=False, validation_fraction=0.1, beta_1=0.9, beta_2=0.999, epsilon=1e-8,
                 n_iter_no_change=10, max_fun=15000, dropout=0.0, class_weight=None, label_smoothing=0.0,
                 device="auto", n_threads=None):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.dropout = dropout
        self.class_weight = class_weight
        self.label_smoothing = label_smoothing
        self.device = device
        self.n_threads = n_threads

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, *, validation_data=None):
        """Train on X (n, features), an array, frame or sparse matrix, and y (n,) labels or (n, labels) 0/1 columns.

        sample_weight : (n,) weights of the rows in the loss
        validation_data : (X, y) or (X, y, sample_weight), whose loss makes up `val_loss_curve_`; with
            early_stopping=True its score decides, and no row of X is set aside
        """
        return self._fit(X, y, sample_weight, validation_data=validation_data)

    @available_if(lambda estimator: estimator._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None, classes=None):
        """One epoch over X and y. The first call needs `classes`, all labels that will ever come."""
        if _check_partial_fit_first_call(self, classes):
            self._kind = "multilabel" if type_of_target(y).startswith("multilabel") else _kind_of(self.classes_)
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X):
        """(n,) labels, or (n, labels) of 0 and 1."""
        return self._predict(self._read(X))

    def predict_proba(self, X):
        """(n, classes) probabilities, in the order of `classes_`."""
        out = self._outputs(self._read(X), OUTPUTS[self.out_activation_])
        return np.hstack([1 - out, out]) if self.n_outputs_ == 1 else out

    def predict_log_proba(self, X):
        """The logarithm of `predict_proba`."""
        p = self.predict_proba(X)
        return np.log(p, out=p)

    def _predict(self, X):
        z = self._outputs(X, act.IDENTITY)
        if self._kind == "multilabel":
            return (z > 0).astype(int)
        if z.shape[1] == 1:
            return self.classes_[(z[:, 0] > 0).astype(np.intp) * (len(self.classes_) - 1)]
        return self.classes_[z.argmax(axis=1)]

    def _output(self):
        return "softmax" if self._kind == "multiclass" else "logistic"

    def _loss(self):
        return (losses.SOFTMAX_XENT if self.out_activation_ == "softmax" else losses.SIGMOID_XENT), 0.0

    def _n_outputs(self, encoded):
        return len(self.classes_) if self._kind == "multiclass" else encoded.shape[1]

    def _strata(self, encoded):
        return encoded if encoded.ndim == 2 and encoded.shape[1] == 1 else None

    def _validate(self, X, y, incremental, reset):
        X, y = validate_data(self, X, y, accept_sparse=["csr", "csc"], multi_output=True,
                             dtype=(np.float64, np.float32), reset=reset)
        y = y.toarray() if hasattr(y, "toarray") else y
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        first = not hasattr(self, "classes_") or (not self.warm_start and not incremental)
        plain = y.ndim == 1 and y.dtype.kind in "biuUS"
        if first or not plain:
            check_classification_targets(y)
            kind = type_of_target(y)
            if kind == "multiclass-multioutput":
                raise ValueError("y has several columns of several classes each; pass 0/1 columns, one for each label")
        if first:
            self.classes_ = unique_labels(y)
            self._kind = "multilabel" if kind.startswith("multilabel") else _kind_of(self.classes_)
            return X, y
        classes = np.unique(y) if plain else unique_labels(y)  # which takes 150 µs to come to the same
        if self.warm_start and not incremental:
            if set(classes) != set(self.classes_):
                raise ValueError("warm_start can only be used where `y` has the same classes as in the previous call "
                                 f"to fit. Previously got {self.classes_}, `y` has {classes}")
        elif len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
            raise ValueError(f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. "
                             f"'y' has {classes}.")
        return X, y

    def _encode(self, y):
        """Class indices (n,), or truth values (n, outputs)."""
        if self._kind == "multiclass":
            return np.searchsorted(self.classes_, y)
        return y.astype(bool) if self._kind == "multilabel" else ((y != self.classes_[0])[:, None])

    def _targets(self, encoded, dtype, smoothing):
        if self._kind != "multiclass":
            return NO_LABELS, (encoded * (1.0 - smoothing) + 0.5 * smoothing).astype(dtype)
        if not smoothing:
            return encoded, np.empty((0, 0), dtype)
        targets = np.full((len(encoded), len(self.classes_)), smoothing / len(self.classes_), dtype)
        targets[np.arange(len(encoded)), encoded] += 1.0 - smoothing
        return NO_LABELS, targets

    def _class_weighted(self, y, sample_weight, incremental):
        if self.class_weight is None:
            return sample_weight
        if incremental and self.class_weight == "balanced":
            raise ValueError("class_weight 'balanced' is not supported for partial_fit, which does not see all rows; "
                             "pass {label: weight}, for instance from sklearn.utils.class_weight.compute_class_weight")
        weights = compute_sample_weight(self.class_weight, y)
        return weights if sample_weight is None else weights * sample_weight

    def _fitted(self):
        return {**super()._fitted(), **{name: getattr(self, name) for name in (
            "classes_", "_kind", "n_outputs_", "n_layers_", "out_activation_")}}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _kind_of(classes):
    return "multiclass" if len(classes) > 2 else "binary"


class MLPRegressor(RegressorMixin, _MLP):
    """scikit-learn's `MLPRegressor` on compiled kernels, several times as fast, with more losses, dropout and more.

    Parameters and attributes of the same name have the same default and meaning as in
    `sklearn.neural_network.MLPRegressor` (scikit-learn 1.9), and random numbers are drawn in the same order. It
    follows the dtype of X: float32 is trained in float32, all else in float64.

    Parameters
    ----------
    loss : "squared_error", "poisson", "huber", "absolute_error", "quantile", `fastmlp.Huber(delta)` or \
    `fastmlp.Quantile(q)`
        The first two as in scikit-learn. The others are means over outputs; a name alone means delta 1, q 0.5.
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init, power_t, max_iter, \
    shuffle, random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, early_stopping, \
    validation_fraction, beta_1, beta_2, epsilon, n_iter_no_change, max_fun
        As there. `activation` may also be "leaky_relu", "gelu", "silu", or a sequence of one name per hidden layer.
    dropout, device, n_threads
        As in `fastmlp.MLPClassifier`.

    Attributes
    ----------
    coefs_, intercepts_, loss_, best_loss_, loss_curve_, validation_scores_, best_validation_score_, t_, n_iter_, \
    n_layers_, n_outputs_, out_activation_, n_features_in_, feature_names_in_
        As there.
    val_loss_curve_ : list of float
        The loss on `validation_data` after every epoch; only if `fit` was given any and the solver has epochs.

    Examples
    --------
    >>> from sklearn.datasets import make_regression
    >>> X, y = make_regression(n_samples=200, n_features=5, random_state=0)
    >>> model = fastmlp.MLPRegressor(fastmlp.Huber(10.0), (32,), solver="lbfgs", random_state=0)
    >>> bool(model.fit(X, y).score(X, y) > 0.99)
    True
    """

    _parameter_constraints: dict = {  # noqa: RUF012
        **_MLP._parameter_constraints,
        "loss": [StrOptions({"squared_error", "poisson", "huber", "absolute_error", "quantile"}), Huber, Quantile],
    }
    _metric = staticmethod(r2_score)

    def __init__(self, loss="squared_error", hidden_layer_sizes=(100,), activation="relu", *, solver="adam",
                 alpha=0.0001, batch_size="auto", learning_rate="constant", learning_rate_init=0.001, power_t=0.5,
                 max_iter=200, shuffle=True, random_state=None, tol=1e-4, verbose=False, warm_start=False,
                 momentum=0.9, nesterovs_momentum=True, early_stopping=False, validation_fraction=0.1, beta_1=0.9,
                 beta_2=0.999, epsilon=1e-8, n_iter_no_change=10, max_fun=15000, dropout=0.0, device="auto",
                 n_threads=None):
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.dropout = dropout
        self.device = device
        self.n_threads = n_threads

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, *, validation_data=None):
        """Train on X (n, features), an array, frame or sparse matrix, and y (n,) or (n, outputs) numbers.

        sample_weight, validation_data : as in `fastmlp.MLPClassifier.fit`
        """
        return self._fit(X, y, sample_weight, validation_data=validation_data)

    @available_if(lambda estimator: estimator._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None):
        """One epoch over X and y."""
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X):
        """(n,) or (n, outputs) numbers, in the dtype of the weights."""
        return self._predict(self._read(X))

    def _predict(self, X):
        out = self._outputs(X, OUTPUTS[self.out_activation_])
        return out[:, 0] if out.shape[1] == 1 else out

    def _output(self):
        return "exp" if loss_of(self.loss)[0] == "poisson" else "identity"

    def _loss(self):
        name, parameter = loss_of(self.loss)
        return losses.NAMES.index(name), parameter

    def _n_outputs(self, encoded):
        return encoded.shape[1]

    def _strata(self, encoded):
        return None

    def _validate(self, X, y, incremental, reset):
        X, y = validate_data(self, X, y, accept_sparse=["csr", "csc"], multi_output=True, y_numeric=True,
                             dtype=(np.float64, np.float32), reset=reset)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if self._output() == "exp" and y.min() < 0:
            raise ValueError(f"y must hold counts, none below 0, for loss='poisson', got {y.min():.4g}")
        return X, y

    def _encode(self, y):
        return y[:, None] if y.ndim == 1 else y

    def _targets(self, encoded, dtype, smoothing):
        return NO_LABELS, np.ascontiguousarray(encoded, dtype)

    def _class_weighted(self, y, sample_weight, incremental):
        return sample_weight

    def _fitted(self):
        return {**super()._fitted(), **{name: getattr(self, name) for name in (
            "n_outputs_", "n_layers_", "out_activation_")}}
