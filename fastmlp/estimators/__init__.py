"""scikit-learn's estimators on the compiled kernels: same parameters, attributes and meaning, plus what it refuses.

`base` reads user input as scikit-learn does, `classifier` and `regressor` their y; `solvers` are the loops around
`kernels.train_epoch`; `perceptron` is the linear one. Loaded on first use: `fastmlp.MLPClassifier`,
`fastmlp.MLPRegressor`, `fastmlp.Perceptron`.
"""
try:
    import sklearn as _sklearn  # noqa: F401
except ImportError as error:
    raise ImportError("the estimators need scikit-learn: pip install 'fastmlp[sklearn]'") from error

from .classifier import MLPClassifier
from .perceptron import Perceptron
from .regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor", "Perceptron"]
