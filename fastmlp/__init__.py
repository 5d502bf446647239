"""fastmlp: multi-layer perceptrons trained by hand-written Numba kernels.

>>> import fastmlp
>>> model = fastmlp.train([[0, 0], [0, 1], [1, 0], [1, 1]], ["no", "yes", "yes", "no"], hidden=8, activation="tanh",
...                       optimizer="adam", learning_rate=0.1, epochs=200, seed=0, device="reference")
>>> print(*model.predict([[1, 0], [1, 1]]))
yes no

Everything below loads on first use (SPEC 1): `import fastmlp` alone costs next to nothing.
"""
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

from . import _moved  # noqa: E402  (not before there is a fastmlp.kernels)
from .kernels.interrupts import import_module  # noqa: E402

_moved.install()

if TYPE_CHECKING:
    from . import datasets, kernels, schedules
    from ._version import __version__
    from .environment import info
    from .estimators import MLPClassifier, MLPRegressor, Perceptron
    from .importers import from_keras, from_sklearn, from_torch
    from .losses import Huber, Quantile
    from .many.ensembles import Ensemble, ensemble
    from .many.selection import CrossValidation, cross_validate
    from .net.history import History
    from .net.loading import load
    from .net.model import MLP
    from .optimizers import SGD, Adam, AdamW, Momentum, RMSprop
    from .training.early_stopping import EarlyStopping
    from .training.entry import train
    from .training.perceptron import train_perceptron
    from .training.run import DivergedError

_HOME = {
    "_version": ("__version__",), "environment": ("info",),
    "estimators": ("MLPClassifier", "MLPRegressor", "Perceptron"),
    "importers": ("from_keras", "from_sklearn", "from_torch"), "losses": ("Huber", "Quantile"),
    "many.ensembles": ("Ensemble", "ensemble"), "many.selection": ("CrossValidation", "cross_validate"),
    "net.history": ("History",), "net.loading": ("load",), "net.model": ("MLP",),
    "optimizers": ("SGD", "Adam", "AdamW", "Momentum", "RMSprop"), "training.early_stopping": ("EarlyStopping",),
    "training.perceptron": ("train_perceptron",), "training.entry": ("train",), "training.run": ("DivergedError",),
}
_HOME = {name: module for module, names in _HOME.items() for name in names}
_MODULES = ("datasets", "kernels", "schedules")
__all__ = ["MLP", "SGD", "Adam", "AdamW", "CrossValidation", "DivergedError", "EarlyStopping", "Ensemble", "History",
           "Huber", "MLPClassifier", "MLPRegressor", "Momentum", "Perceptron", "Quantile", "RMSprop", "__version__",
           "cross_validate", "datasets", "ensemble", "from_keras", "from_sklearn", "from_torch", "info", "kernels",
           "load", "schedules", "train", "train_perceptron"]


def __getattr__(name):
    if name in _HOME:
        value = getattr(import_module(f"fastmlp.{_HOME[name]}"), name)
    elif name in _MODULES:
        value = import_module(f"fastmlp.{name}")
    else:
        raise AttributeError(f"module 'fastmlp' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
