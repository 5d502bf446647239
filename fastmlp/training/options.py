"""The options of `train`, checked: every one by itself, before any data are looked at."""
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .. import checks
from .. import device as devices
from ..kernels import activations as act
from ..losses import instance_of, loss_of
from ..net import initializers
from ..net.model import MLP
from ..optimizers import Adam, optimizer_of
from ..schedules import schedule_of
from .checkpoints import Checkpoint, open_checkpoint
from .streams import member_seeds


@dataclass(frozen=True, eq=False)
class NetOptions:
    """What shapes a net: hidden widths; activation and dropout rate of each hidden layer."""

    hidden: tuple
    activations: tuple
    dropout: tuple
    dtype: np.dtype


@dataclass(frozen=True, eq=False)
class Options:
    """Every option of `train` as its loop reads it; named and meant as there. `seed` is always a number."""

    net: NetOptions
    loss: object
    initializer: str
    optimizer: object
    schedule: Callable
    l2: float
    epochs: int
    batch_size: int
    window_rows: int | None
    validation_fraction: float
    early_stopping: object
    class_weight: object
    device: str
    n_threads: int | None
    seed: int
    verbose: int
    callbacks: tuple
    checkpoint: Checkpoint | None = None
    scaling: str = "none"
    preset: str | None = None
    label_smoothing: float | None = None
    precision: str = "float32"

    def smoothing_for(self, task):
        """The label smoothing of a training for `task`."""
        classes = task.kind != "numbers"
        if self.label_smoothing is None:
            return TABULAR_SMOOTHING if self.preset == "tabular" and classes else 0.0
        if self.label_smoothing and not classes:
            raise ValueError(f"label_smoothing={self.label_smoothing} needs classes or labels, but "
                             f"loss={task.loss!r} predicts numbers; leave it out")
        return self.label_smoothing


# preset="tabular", after RealMLP (Holzmüller et al. 2024, arXiv 2407.04491); bench/selection.py compares it with none.
TABULAR_OPTIMIZER = Adam(learning_rate=0.003, beta2=0.95)
TABULAR_SMOOTHING = 0.1
MOST_ROWS = 1 << 60          # of a window: more than any file has, and sums of two still fit int64


def check_options(*, hidden, activation, dropout, loss, initializer, optimizer, learning_rate, schedule, l2, epochs,
                  batch_size, window_rows, validation_fraction, early_stopping, class_weight, device, dtype, n_threads,
                  seed, verbose, callbacks, model=None, checkpoint=None, scaling=None, preset=None,
                  label_smoothing=None, precision="float32"):
    """`Options` from the arguments of `train`; TypeError or ValueError names the one that cannot be used."""
    checks.choice("precision", precision, devices.PRECISIONS)
    devices.check_precision(precision, device, dtype)
    if preset is not None:
        checks.choice("preset", preset, ("tabular",))
        optimizer = TABULAR_OPTIMIZER if optimizer == "adam" else optimizer
        schedule, scaling = schedule or "cosine", scaling or "robust"
    loss_of(loss)  # refuses unknown losses; what "auto" means depends on y
    checkpoint = open_checkpoint(checkpoint)
    if seed is None:
        seed = draw_seed() if checkpoint is None or checkpoint.seed is None else checkpoint.seed
    return Options(
        epochs=checks.integer("epochs", epochs), batch_size=checks.integer("batch_size", batch_size),
        window_rows=None if window_rows is None else min(checks.integer("window_rows", window_rows), MOST_ROWS),
        l2=checks.real("l2", l2, minimum=0), optimizer=optimizer_of(optimizer, learning_rate),
        schedule=schedule_of(schedule), callbacks=_callables(callbacks),
        seed=checks.integer("seed", seed, 0), checkpoint=checkpoint,
        scaling=checks.choice("scaling", scaling or "none", ("none", "robust")), preset=preset,
        label_smoothing=None if label_smoothing is None else checks.real("label_smoothing", label_smoothing, minimum=0,
                                                                         below=1),
        net=_net_options(hidden, activation, dropout, loss, dtype, model),
        loss=loss,
        initializer=checks.choice("initializer", initializer, initializers.NAMES),
        validation_fraction=checks.real("validation_fraction", validation_fraction, minimum=0, below=1),
        early_stopping=early_stopping, class_weight=class_weight, device=device, n_threads=n_threads, verbose=verbose,
        precision=precision)


def draw_seed():
    """A seed where none was given."""
    return member_seeds(None, 1)[0]


def _net_options(hidden, activation, dropout, loss, dtype, model):
    """The options that shape a net, checked; those of `model` if one is given, which no other option may contradict."""
    if model is not None and not isinstance(model, MLP):
        raise TypeError(f"model must be a fastmlp.MLP to train further, got {model!r}")
    hidden, dtype = checks.hidden_sizes(hidden), checks.dtype(dtype)
    layers = len(hidden) if model is None or hidden != (100,) else len(model.activations)
    activations = checks.per_layer("activation", activation, layers,
                                   lambda name, value: checks.choice(name, value, act.TRAINABLE))
    rates = checks.per_layer("dropout", dropout, layers,
                             lambda name, value: checks.real(name, value, minimum=0, below=1))
    if not layers and dropout:
        raise ValueError(f"dropout={dropout} acts on hidden layers, of which there are none; pass dropout=0")
    if model is None:
        return NetOptions(hidden, activations, rates, dtype)
    if model.loss is None or not set(model.activations) <= set(act.TRAINABLE):
        raise ValueError(f"model has units that cannot be trained: {', '.join((*model.activations, model.output))}")
    given = {"hidden": hidden, "activation": activations, "dropout": rates, "loss": instance_of(*loss_of(loss)),
             "dtype": dtype}
    plain = {"hidden": (100,), "activation": ("relu",) * layers, "dropout": (0.0,) * layers, "loss": "auto",
             "dtype": np.dtype(np.float32)}
    fixed = {"hidden": model.sizes[1:-1], "activation": model.activations, "dropout": model.dropout,
             "loss": instance_of(model.loss, model.task.loss_parameter), "dtype": model.dtype}
    for name, value in given.items():
        if value not in (plain[name], fixed[name]):
            raise ValueError(f"{name}={value!r} contradicts the model to be trained further, which has "
                             f"{fixed[name]!r}; leave {name} out")
    return NetOptions(fixed["hidden"], model.activations, model.dropout, model.dtype)


def _callables(callbacks):
    callbacks = (callbacks,) if callable(callbacks) else callbacks
    if not isinstance(callbacks, list | tuple) or not all(map(callable, callbacks)):
        raise TypeError(f"callbacks must be a list of callables that take (model, numbers), got {callbacks!r}")
    return tuple(callbacks)
