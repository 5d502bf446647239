"""fastmlp: multi-layer perceptrons trained by hand-written Numba kernels.

>>> import fastmlp
>>> model = fastmlp.train([[0, 0], [0, 1], [1, 0], [1, 1]], ["no", "yes", "yes", "no"], hidden=8, activation="tanh",
...                       optimizer="adam", learning_rate=0.1, epochs=200, seed=0, device="reference")
>>> print(*model.predict([[1, 0], [1, 1]]))
yes no

Everything below loads on first use (SPEC 1): `import fastmlp` alone costs next to nothing.
"""
import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

# Run from the repository's root without being installed, `kernels/` is a sibling folder, not yet `fastmlp.kernels`.
_sibling = Path(__file__).parent.parent / "kernels" / "__init__.py"
if importlib.util.find_spec("fastmlp.kernels") is None and _sibling.is_file():
    import sys

    _spec = importlib.util.spec_from_file_location("fastmlp.kernels", _sibling,
                                                   submodule_search_locations=[str(_sibling.parent)])
    kernels = sys.modules["fastmlp.kernels"] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(kernels)

if TYPE_CHECKING:
    from . import datasets, kernels, schedules
    from .convert import from_keras, from_sklearn, from_torch
    from .early_stopping import EarlyStopping
    from .ensembles import Ensemble, ensemble
    from .environment import info
    from .estimators import MLPClassifier, MLPRegressor, Perceptron
    from .files import load
    from .history import History
    from .losses import Huber, Quantile
    from .model import MLP
    from .optimizers import SGD, Adam, AdamW, Momentum, RMSprop
    from .perceptron import train_perceptron
    from .selection import CrossValidation, cross_validate
    from .training import DivergedError, train

    __version__: str

_HOME = {"train": "training", "DivergedError": "training", "MLP": "model", "load": "files", "History": "history",
         "EarlyStopping": "early_stopping", "Huber": "losses", "Quantile": "losses",
         "SGD": "optimizers", "Momentum": "optimizers", "RMSprop": "optimizers",
         "Adam": "optimizers", "AdamW": "optimizers", "train_perceptron": "perceptron", "info": "environment",
         "cross_validate": "selection", "CrossValidation": "selection", "ensemble": "ensembles",
         "Ensemble": "ensembles",
         "from_torch": "convert", "from_keras": "convert", "from_sklearn": "convert",
         "MLPClassifier": "estimators", "MLPRegressor": "estimators", "Perceptron": "estimators"}
_MODULES = ("datasets", "kernels", "schedules")
__all__ = ["MLP", "SGD", "Adam", "AdamW", "CrossValidation", "DivergedError", "EarlyStopping", "Ensemble", "History",
           "Huber", "MLPClassifier", "MLPRegressor", "Momentum", "Perceptron", "Quantile", "RMSprop", "__version__",
           "cross_validate", "datasets", "ensemble", "from_keras", "from_sklearn", "from_torch", "info", "kernels",
           "load", "schedules", "train", "train_perceptron"]


def __getattr__(name):
    if name in _HOME:
        value = getattr(importlib.import_module(f"fastmlp.{_HOME[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"fastmlp.{name}")
    elif name == "__version__":
        from importlib.metadata import PackageNotFoundError, version
        try:
            value = version("fastmlp")
        except PackageNotFoundError:
            value = "0+not.installed"
    else:
        raise AttributeError(f"module 'fastmlp' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
