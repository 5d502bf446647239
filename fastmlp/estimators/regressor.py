"""MLPRegressor: scikit-learn's estimator, trained by the compiled kernels."""

import numpy as np
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import validate_data

from ..input.labels import check_resolution
from ..kernels import losses
from ..losses import Huber, Quantile, loss_of
from .base import NO_LABELS, OUTPUTS, BaseMLP
from .callbacks import with_callbacks


class MLPRegressor(RegressorMixin, BaseMLP):
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
        **BaseMLP._parameter_constraints,
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
        targets = np.ascontiguousarray(encoded, dtype)
        check_resolution(encoded, targets, "y", "pass X as float64")
        return NO_LABELS, targets

    def _class_weighted(self, y, sample_weight, incremental):
        return sample_weight

    def _fitted(self):
        return {**super()._fitted(), **{name: getattr(self, name) for name in (
            "n_outputs_", "n_layers_", "out_activation_")}}
