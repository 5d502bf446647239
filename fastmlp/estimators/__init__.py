"""scikit-learn's estimators on the compiled kernels: same parameters, attributes and meaning, plus what it refuses.

`mlp` reads what people pass as scikit-learn does; `solvers` are its loops around `kernels.train_epoch`; `perceptron`
is the linear one. Loaded on first use: `fastmlp.MLPClassifier`, `fastmlp.MLPRegressor`, `fastmlp.Perceptron`.
"""
try:
    import sklearn as _sklearn  # noqa: F401
except ImportError as error:
    raise ImportError("the estimators need scikit-learn: pip install 'fastmlp[sklearn]'") from error

from .mlp import MLPClassifier, MLPRegressor
from .perceptron import Perceptron

__all__ = ["MLPClassifier", "MLPRegressor", "Perceptron"]
