"""Learning-rate schedules: what the learning rate is multiplied by at every step.

A schedule is any callable ``schedule(steps, total_steps, steps_per_epoch) -> factors`` where `steps` is an int64
array of step numbers counted from 0 and `factors` a float array of the same shape. `train` calls it once per epoch.

>>> import numpy as np
>>> fastmlp.schedules.Step(every=2, factor=0.5)(np.arange(6), total_steps=6, steps_per_epoch=1)
array([1.  , 1.  , 0.5 , 0.5 , 0.25, 0.25])
"""
from dataclasses import dataclass

import numpy as np

from . import checks


@dataclass(frozen=True)
class Constant:
    """The same learning rate throughout."""

    def __call__(self, steps, total_steps, steps_per_epoch):
        return np.ones(len(steps))


@dataclass(frozen=True)
class Step:
    """Times `factor` after every `every` epochs."""

    every: int = 10
    factor: float = 0.1

    def __post_init__(self):
        checks.integer("Step.every", self.every)
        checks.real("Step.factor", self.factor, above=0)

    def __call__(self, steps, total_steps, steps_per_epoch):
        return float(self.factor) ** (steps // (self.every * steps_per_epoch))


@dataclass(frozen=True)
class Exponential:
    """Times `factor` per epoch, a little at every step."""

    factor: float = 0.95

    def __post_init__(self):
        checks.real("Exponential.factor", self.factor, above=0)

    def __call__(self, steps, total_steps, steps_per_epoch):
        return float(self.factor) ** (steps / steps_per_epoch)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 down to `final`, after `warmup` epochs of a straight rise. Loshchilov & Hutter 2017."""

    final: float = 0.0
    warmup: float = 0.0

    def __post_init__(self):
        checks.real("Cosine.final", self.final, minimum=0)
        checks.real("Cosine.warmup", self.warmup, minimum=0)

    def __call__(self, steps, total_steps, steps_per_epoch):
        rise = min(self.warmup * steps_per_epoch, total_steps)
        down = np.clip((steps - rise) / max(total_steps - rise, 1), 0, 1)
        factors = self.final + (1 - self.final) * 0.5 * (1 + np.cos(np.pi * down))
        return np.where(steps < rise, (steps + 1) / (rise + 1), factors)


@dataclass(frozen=True)
class OneCycle:
    """Up from `start` to 1 over the share `rise` of all steps, then down to `final`; both along cosines.

    Smith & Topin 2018: the learning rate given is the peak, several times what a constant one could be.
    """

    rise: float = 0.3
    start: float = 0.04
    final: float = 1e-4

    def __post_init__(self):
        checks.real("OneCycle.rise", self.rise, above=0, below=1)
        checks.real("OneCycle.start", self.start, minimum=0)
        checks.real("OneCycle.final", self.final, minimum=0)

    def __call__(self, steps, total_steps, steps_per_epoch):
        at = steps / max(total_steps - 1, 1)
        up, down = np.minimum(at / self.rise, 1), np.maximum((at - self.rise) / (1 - self.rise), 0)
        rising = self.start + (1 - self.start) * 0.5 * (1 - np.cos(np.pi * up))
        falling = self.final + (1 - self.final) * 0.5 * (1 + np.cos(np.pi * down))
        return np.where(at < self.rise, rising, falling)


NAMES = {"constant": Constant(), "step": Step(), "exponential": Exponential(), "cosine": Cosine(),
         "one_cycle": OneCycle()}


def schedule_of(schedule):
    """The callable that None, a name or a callable means."""
    if schedule is None:
        return NAMES["constant"]
    if isinstance(schedule, type):
        raise TypeError(f"schedule must be a name or an instance, got the class; write {schedule.__name__}()")
    return schedule if callable(schedule) else NAMES[checks.choice("schedule", schedule, tuple(NAMES))]


def rates_of(schedule, learning_rate, epoch, total_steps, steps_per_epoch):
    """The learning rate of every step of `epoch` (counted from 0), float64 (steps_per_epoch,)."""
    steps = np.arange(epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch)
    total_steps = min(total_steps, 1 << 62)  # beyond int64, NumPy 1 would compute with Python's objects
    factors = np.asarray(schedule(steps, total_steps, steps_per_epoch), dtype=np.float64)
    if factors.shape != steps.shape or not np.isfinite(factors).all() or factors.min() < 0:
        raise ValueError(f"schedule must give one finite factor of at least 0 for each of the {len(steps)} steps, "
                         f"got shape {factors.shape}" + (f" from {factors.min()} to {factors.max()}" if factors.size
                                                         else ""))
    return learning_rate * factors
