"""Modules that had another name, for what names them by itself: pickles of models and the indices of users' Numba
caches find a class by the module it was defined in, and one that is gone is a ModuleNotFoundError.

Each is there from `import fastmlp` on, which comes before any of its modules, and loads nothing until it is asked.
"""
import sys
from types import ModuleType

from .kernels.interrupts import import_module

_HOMES = {
    "checkpoints": ("training.checkpoints", "Checkpoint"),
    "early_stopping": ("training.early_stopping", "EarlyStopping"),
    "ensembles": ("many.ensembles", "Ensemble"),
    "history": ("net.history", "History"),
    "kernels.cpu.row": ("kernels.cpu.net.row", "RowNetType", "_restore"),
    "labels": ("input.labels", "Task"),
    "model": ("net.model", "MLP"),
    "perceptron": ("training.perceptron", "ThresholdUnit"),
    "scaling": ("input.scaling", "InputScaling"),
    "selection": ("many.selection", "CrossValidation"),
}


def _stand_in(old, home, *names):
    module = ModuleType(f"fastmlp.{old}", f"Moved to fastmlp.{home}.")

    def moved(name):
        if name not in names:
            raise AttributeError(f"module 'fastmlp.{old}' has no attribute {name!r}")
        return getattr(import_module(f"fastmlp.{home}"), name)
    module.__getattr__ = moved
    return module


def install():
    for old, home in _HOMES.items():
        sys.modules.setdefault(f"fastmlp.{old}", _stand_in(old, *home))
