"""Losses that have a parameter: frozen dataclasses. The formulas stand in `kernels`.

`train(loss=...)` takes a name or an instance:

>>> fastmlp.Quantile(0.9)
Quantile(q=0.9)
"""
from dataclasses import dataclass

from . import checks
from .kernels import losses

NUMBERS = tuple(record.name for record in losses.TABLE if record.y == "numbers")  # the others are of classes


@dataclass(frozen=True)
class Huber:
    """Squared error within `delta` of the target, and beyond a straight line of slope delta. Huber 1964."""

    delta: float = 1.0

    def __post_init__(self):
        checks.real("Huber.delta", self.delta, above=0)


@dataclass(frozen=True)
class Quantile:
    """Pinball loss, least where a share `q` of the targets lies below the prediction. Koenker & Bassett 1978."""

    q: float = 0.5

    def __post_init__(self):
        checks.real("Quantile.q", self.q, above=0, below=1)


def loss_of(loss):
    """(name, parameter) of what a name or an instance means; the parameter is 0 for losses that have none."""
    if isinstance(loss, type) and issubclass(loss, Huber | Quantile):
        raise TypeError(f"loss must be a name or an instance, got the class; write fastmlp.{loss.__name__}()")
    if loss == "huber" or isinstance(loss, Huber):
        return "huber", float((loss if isinstance(loss, Huber) else Huber()).delta)
    if loss == "quantile" or isinstance(loss, Quantile):
        return "quantile", float((loss if isinstance(loss, Quantile) else Quantile()).q)
    return checks.choice("loss", loss, ("auto", *losses.NAMES)), 0.0


def instance_of(name, parameter):
    """The way back: an instance for a loss that has a parameter, the name of any other."""
    return {"huber": Huber, "quantile": Quantile}[name](parameter) if name in ("huber", "quantile") else name
