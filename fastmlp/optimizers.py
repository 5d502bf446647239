"""Optimizers: frozen dataclasses of hyper-parameters. The mathematics of a step stands in `kernels.update_rules`.

`train(optimizer=...)` takes a name from `NAMES` or an instance:

>>> fastmlp.Adam(learning_rate=3e-3, beta2=0.95)
Adam(learning_rate=0.003, beta1=0.9, beta2=0.95, epsilon=1e-08)
"""
from dataclasses import dataclass, fields, replace

import numpy as np

from . import checks
from .kernels import update_rules

_ALLOWED = {  # below 1: a decay of 1 would never forget; epsilon keeps the division by a zero gradient finite
    "learning_rate": {"above": 0}, "epsilon": {"above": 0}, "weight_decay": {"minimum": 0},
    "momentum": {"minimum": 0, "below": 1}, "rho": {"minimum": 0, "below": 1},
    "beta1": {"minimum": 0, "below": 1}, "beta2": {"minimum": 0, "below": 1},
}


def _check(optimizer):
    for field in fields(optimizer):
        if field.name in _ALLOWED:
            checks.real(f"{type(optimizer).__name__}.{field.name}", getattr(optimizer, field.name),
                        **_ALLOWED[field.name])


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent: w ← w - η g."""

    learning_rate: float = 0.01

    def __post_init__(self):
        _check(self)

    @property
    def rule(self):
        return update_rules.SGD

    @property
    def hyper(self):
        return np.zeros(4)


@dataclass(frozen=True)
class Momentum:
    """Gradient descent that keeps its speed: s ← μ s - η g; w ← w + s, or with Nesterov's look ahead w + μ s - η g."""

    learning_rate: float = 0.01
    momentum: float = 0.9
    nesterov: bool = False

    def __post_init__(self):
        _check(self)

    @property
    def rule(self):
        return update_rules.NESTEROV if self.nesterov else update_rules.MOMENTUM

    @property
    def hyper(self):
        return np.array([self.momentum, 0, 0, 0])


@dataclass(frozen=True)
class RMSprop:
    """Steps divided by a running root mean square of the gradient. Defaults are those of Keras, as in the lecture."""

    learning_rate: float = 1e-3
    rho: float = 0.9
    epsilon: float = 1e-7

    def __post_init__(self):
        _check(self)

    @property
    def rule(self):
        return update_rules.RMSPROP

    @property
    def hyper(self):
        return np.array([self.rho, 0, self.epsilon, 0])


@dataclass(frozen=True)
class Adam:
    """Running means of the gradient and of its square, both corrected for their start at zero. Kingma & Ba 2015."""

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    def __post_init__(self):
        _check(self)

    @property
    def rule(self):
        return update_rules.ADAM

    @property
    def hyper(self):
        return np.array([self.beta1, self.beta2, self.epsilon, 0])


@dataclass(frozen=True)
class AdamW:
    """Adam after shrinking every weight (no bias) by η · weight_decay. Loshchilov & Hutter 2019."""

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01

    def __post_init__(self):
        _check(self)

    @property
    def rule(self):
        return update_rules.ADAMW

    @property
    def hyper(self):
        return np.array([self.beta1, self.beta2, self.epsilon, self.weight_decay])


@dataclass(frozen=True, eq=False)
class OptimizerState:
    """What an optimizer remembers between two trainings of a model: its steps and slots, in the flat layout."""

    rule: int
    step: int
    s1: np.ndarray
    s2: np.ndarray


NAMES = {"sgd": SGD(), "momentum": Momentum(), "nesterov": Momentum(nesterov=True), "rmsprop": RMSprop(),
         "adam": Adam(), "adamw": AdamW()}


def optimizer_of(optimizer, learning_rate=None):
    """The instance that a name or an instance means, at `learning_rate` if that is given."""
    if isinstance(optimizer, type) and issubclass(optimizer, tuple(type(o) for o in NAMES.values())):
        raise TypeError(f"optimizer must be a name or an instance, got the class; write fastmlp.{optimizer.__name__}()")
    if not isinstance(optimizer, tuple(type(o) for o in NAMES.values())):
        optimizer = NAMES[checks.choice("optimizer", optimizer, tuple(NAMES))]
    if learning_rate is None:
        return optimizer
    return replace(optimizer, learning_rate=checks.real("learning_rate", learning_rate, above=0))
