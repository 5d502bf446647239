"""What MLPClassifier and MLPRegressor share: weights, fitting, prediction.

`coefs_` and `intercepts_` are views into one flat array, the kernels' layout. Whoever replaces one of them is
heeded: the next call copies them into a new flat array.
"""
import math
import operator
from functools import partial
from itertools import chain, pairwise
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .. import device as devices
from ..input.labels import target_array
from ..input.rows import validation_pair, weights_in
from ..kernels import activations as act
from ..kernels.flat import views
from .callbacks import CallbackSupportMixin, Tasks
from .solvers import Net, Source, fit_lbfgs, fit_stochastic

STOCHASTIC = ("sgd", "adam")
# scikit-learn's name first: its logistic is our sigmoid.
ACTIVATIONS = {"logistic": act.SIGMOID, **{name: act.NAMES.index(name) for name in act.TRAINABLE}}
OUTPUTS = {"identity": act.IDENTITY, "logistic": act.SIGMOID, "softmax": act.SOFTMAX, "exp": act.EXP}
FEW_ROWS = 4  # whose prediction takes less time than the checks of `forward`: they are made here already
NO_LABELS, NO_WEIGHTS = np.empty(0, np.int64), np.empty(0)


def one_kind(y, name):
    """A list of labels as an array of one kind, or ValueError; anything else as it is, for scikit-learn to read."""
    return target_array(y, name) if isinstance(y, list | tuple) and len(y) else y


def _one_each(name, values, layers):
    if len(values) != layers:
        raise ValueError(f"{name} must be one value, or one for each of the {layers} hidden layers; got {values!r}")


class BaseMLP(CallbackSupportMixin, BaseEstimator):
    """What classifier and regressor share: all but how y is read and what predictions are made of."""

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
        self.coefs_, self.intercepts_ = map(list, views(flat, sizes))
        self._packed = flat, [*self.coefs_, *self.intercepts_], sizes

    def __getstate__(self):
        state = dict(super().__getstate__())  # which may be the very __dict__
        state.pop("_packed", None)  # views: a copy has to look into its own parameters
        return state

    def _codes(self, layers):
        """The activation codes of so many hidden layers; ValueError for names that are not known, or too few."""
        names = (self.activation,) * layers if isinstance(self.activation, str) else tuple(self.activation)
        _one_each("activation", names, layers)
        for name in names:
            if name not in ACTIVATIONS:
                raise ValueError(f"activation must be of {', '.join(map(repr, ACTIVATIONS))}, got {name!r}")
        return tuple(ACTIVATIONS[name] for name in names)

    def _hidden(self):
        """Widths, activation codes and dropout rates of the hidden layers."""
        sizes = self.hidden_layer_sizes
        sizes = tuple(sizes) if hasattr(sizes, "__iter__") else (sizes,)
        if any(size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {list(sizes)}.")
        codes = self._codes(len(sizes))
        rates = tuple(self.dropout) if hasattr(self.dropout, "__len__") else (self.dropout,) * len(sizes)
        _one_each("dropout", rates, len(sizes))
        if any(rates) and self.solver == "lbfgs":
            raise ValueError("dropout needs solver='sgd' or 'adam': L-BFGS follows one function")
        return tuple(map(int, sizes)), codes, tuple(map(float, rates))

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

    def _begin_counting(self, first):
        """The losses, scores and best values of a fit at their start; of a fit that goes on, those that it lacks, since
        the last one was by another solver, or with and without early stopping."""
        if self.solver not in STOCHASTIC:
            return
        if first or not hasattr(self, "loss_curve_"):
            self.loss_curve_ = []
            self._no_improvement_count = 0
        if first or getattr(self, "best_loss_", None) is None or self.early_stopping:
            self.best_loss_ = None if self.early_stopping else np.inf
        if first or (getattr(self, "validation_scores_", None) is None) == bool(self.early_stopping):
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
        self._random_state = check_random_state(self.random_state)
        sizes = (X.shape[1], *hidden, self._n_outputs(encoded))
        if first:
            self._initialize(sizes, codes, X.dtype)
        elif (has := (len(self.coefs_[0]), *(w.shape[1] for w in self.coefs_))) != sizes:
            raise ValueError(f"the net to be trained further has {'-'.join(map(str, has))} units (features, hidden, "
                             f"outputs), but X, hidden_layer_sizes and y ask for {'-'.join(map(str, sizes))}; call fit "
                             "with warm_start=False for a new one")
        self.n_outputs_ = sizes[-1]
        self._begin_counting(first)
        loss, parameter = self._loss()
        net = Net(sizes, (*codes, act.IDENTITY), (*dropout, 0.0), loss, parameter, float(self.alpha))

        kernels, n_threads = devices.kernels(self.device), devices.threads(self.n_threads)
        held_out = None
        if validation_data is not None:
            held_out = self._hold_out(validation_data)
        if first:
            self.__dict__.pop("val_loss_curve_", None)
        if held_out and self.solver in STOCHASTIC and not hasattr(self, "val_loss_curve_"):
            self.val_loss_curve_ = []
        score = None
        parameters = self._parameters()
        if self.early_stopping and self.solver in STOCHASTIC:
            train, watched = ((np.arange(X.shape[0]), held_out) if held_out else
                              self._split(X, y, encoded, sample_weight))
            score = partial(self._score_of, *watched)
            X, encoded = X[train], encoded[train]
            weights = weights if weights is None else weights[train]
        tasks = Tasks(self, X, y, sample_weight, self._fitted, enabled=not incremental)
        dtype = np.float64 if self.solver == "lbfgs" else parameters.dtype
        source = self._source(kernels, X, encoded, weights, dtype, smoothing=getattr(self, "label_smoothing", 0.0))
        if self.solver == "lbfgs":
            fit_lbfgs(self, net, parameters, source, tasks, n_threads)
        else:
            validation = held_out and self._source(kernels, held_out[0], self._encode(held_out[1]), held_out[2], dtype)
            fit_stochastic(self, net, parameters, source, validation, score, tasks, incremental, n_threads)
        tasks.close()
        if not np.isfinite(parameters).all():
            raise ValueError("Solver produced non-finite parameter weights. The input data may contain large values "
                             "and need to be preprocessed.")
        return self

    def _source(self, kernels, X, encoded, weights, dtype, smoothing=0.0):
        labels, targets = self._targets(encoded, dtype, smoothing)
        x = X.tocsr().astype(dtype, copy=False) if hasattr(X, "tocsr") else np.ascontiguousarray(X, dtype)
        weights = NO_WEIGHTS.astype(dtype) if weights is None else weights_in(weights, dtype, "sample_weight")
        return Source(kernels, x, labels, targets, weights)

    def _hold_out(self, validation_data):
        X, y, weight = validation_pair(validation_data)
        X, y = self._validate(X, y, incremental=True, reset=False)
        return X, y, None if weight is None else _check_sample_weight(weight, X)

    def _split(self, X, y, encoded, sample_weight):
        """Rows to train on, and (X, y, sample_weight) of those early stopping watches; drawn as scikit-learn does."""
        train, held_out = train_test_split(np.arange(X.shape[0]), random_state=self._random_state,
                                       test_size=self.validation_fraction, stratify=self._strata(encoded))
        if len(held_out) < 2:
            raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your "
                             "dataset.")
        return train, (X[held_out], y[held_out], None if sample_weight is None else sample_weight[held_out])

    def _fitted(self):
        """What a callback's copy of this estimator needs to predict as of now."""
        coefs, intercepts = map(list, views(self._parameters().copy(), self._packed[2]))
        return {"coefs_": coefs, "intercepts_": intercepts}

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
        flat, codes, sparse = self._parameters(), (*self._codes(len(self.coefs_) - 1), output), hasattr(X, "tocsr")
        kernels, sizes, rows = devices.kernels(self.device), self._packed[2], X.shape[0]
        X = X.tocsr() if sparse else np.ascontiguousarray(X, flat.dtype)
        if rows <= FEW_ROWS and not sparse and hasattr(kernels, "forward_few"):
            return kernels.forward_few(flat, sizes, codes, X, 1.0)
        out = np.empty((rows, sizes[-1]), flat.dtype)
        step = 4096 if sparse else max(1, rows)
        for start in range(0, rows, step):
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
