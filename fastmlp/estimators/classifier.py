"""MLPClassifier: scikit-learn's estimator, trained by the compiled kernels."""
from numbers import Real

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import (
    _check_partial_fit_first_call,
    check_classification_targets,
    type_of_target,
    unique_labels,
)
from sklearn.utils.validation import validate_data

from ..kernels import activations as act
from ..kernels import losses
from ..net.model import both_probabilities
from .base import NO_LABELS, OUTPUTS, BaseMLP, one_kind
from .callbacks import with_callbacks


class MLPClassifier(ClassifierMixin, BaseMLP):
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
        The share of each row's label that is spread evenly over all classes, in training only.
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
        **BaseMLP._parameter_constraints,
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
        if _check_partial_fit_first_call(self, one_kind(classes, "classes")):
            y = one_kind(y, "y")
            self._kind = "multilabel" if type_of_target(y).startswith("multilabel") else _kind_of(self.classes_)
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X):
        """(n,) labels, or (n, labels) of 0 and 1."""
        return self._predict(self._read(X))

    def predict_proba(self, X):
        """(n, classes) probabilities, in the order of `classes_`."""
        X = self._read(X)
        if self.n_outputs_ == 1:
            return both_probabilities(self._outputs(X, act.IDENTITY))
        return self._outputs(X, OUTPUTS[self.out_activation_])

    def predict_log_proba(self, X):
        """The logarithm of `predict_proba`, also where that is 0 or 1 to rounding."""
        z = self._outputs(self._read(X), act.IDENTITY)
        if self.out_activation_ == "softmax":
            z -= z.max(axis=1, keepdims=True)
            z -= np.log(np.exp(z).sum(axis=1, keepdims=True))
            return z
        if self.n_outputs_ == 1:
            return np.hstack([-np.logaddexp(0, z), -np.logaddexp(0, -z)])
        # Labels that are sure to the last bit stay equal, as their probabilities are: 1.
        return np.where(z > 0, np.log(both_probabilities(z)[:, z.shape[1]:]), -np.logaddexp(0, -z))

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
        return (losses.SOFTMAX_CROSS_ENTROPY
                if self.out_activation_ == "softmax" else losses.SIGMOID_CROSS_ENTROPY), 0.0

    def _n_outputs(self, encoded):
        return len(self.classes_) if self._kind == "multiclass" else encoded.shape[1]

    def _strata(self, encoded):
        return encoded if encoded.ndim == 2 and encoded.shape[1] == 1 else None

    def _validate(self, X, y, incremental, reset):
        X, y = validate_data(self, X, one_kind(y, "y"), accept_sparse=["csr", "csc"], multi_output=True,
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
