"""When to stop before the last epoch, and which weights to keep."""
from dataclasses import dataclass

import numpy as np

from .. import checks

MONITORS = ("val_loss", "loss", "val_accuracy", "accuracy")


@dataclass(frozen=True)
class EarlyStopping:
    """Stop when a number has not improved for `patience` epochs.

    Parameters
    ----------
    patience : epochs without improvement after which training stops, at least 1
    min_delta : the least change that counts as an improvement
    monitor : "val_loss", "loss", "val_accuracy" or "accuracy"; the first and third need validation data
    restore_best : whether the model ends with the weights of its best epoch, also where training ran to the end

    Examples
    --------
    >>> fastmlp.EarlyStopping(patience=5)
    EarlyStopping(patience=5, min_delta=0.0, monitor='val_loss', restore_best=True)
    """

    patience: int = 10
    min_delta: float = 0.0
    monitor: str = "val_loss"
    restore_best: bool = True

    def __post_init__(self):
        checks.integer("EarlyStopping.patience", self.patience)
        checks.real("EarlyStopping.min_delta", self.min_delta, minimum=0)
        checks.choice("EarlyStopping.monitor", self.monitor, MONITORS)


class Watch:
    """An EarlyStopping at work: follows the monitored number and keeps a copy of the best weights."""

    def __init__(self, rule):
        self.rule = rule
        self.best = None  # the best number so far, of which smaller is better
        self.best_epoch = None
        self.parameters = None
        self.waited = 0

    def epoch_ends(self, run, number, numbers):
        """Note an epoch; "early_stopping" if training should stop."""
        monitored = numbers[self.rule.monitor]
        monitored = -monitored if self.rule.monitor.endswith("accuracy") else monitored
        if self.best is None or monitored < self.best - self.rule.min_delta:
            best = np.inf if np.isnan(monitored) else monitored
            kept = run.model.parameters.copy() if self.rule.restore_best else None
            self.best, self.best_epoch, self.waited, self.parameters = best, number, 0, kept  # Ctrl-C: all or none
        else:
            self.waited += 1
        return "early_stopping" if self.waited >= self.rule.patience else None

    @property
    def keeps_best(self):
        return self.rule.restore_best

    def to_record(self):
        """What has been seen so far as plain numbers, without the weights: what `restore` takes."""
        return {"best": self.best, "best_epoch": self.best_epoch, "waited": self.waited}

    def restore(self, record, parameters):
        self.best, self.best_epoch = float(record["best"]), int(record["best_epoch"])
        self.waited = int(record["waited"])
        self.parameters = parameters if self.keeps_best else None


def watch_of(early_stopping, has_validation, has_accuracy):
    """A Watch for the user's early_stopping, or None; errors say what the monitored number needs."""
    if early_stopping is None or early_stopping is False:
        return None
    if isinstance(early_stopping, EarlyStopping):
        rule = early_stopping
    elif isinstance(early_stopping, int | np.integer) and early_stopping is not True:
        rule = EarlyStopping(patience=checks.integer("early_stopping", early_stopping))
    else:
        raise TypeError("early_stopping must be a number of epochs or fastmlp.EarlyStopping(...), "
                        f"got {early_stopping!r}")
    if rule.monitor.startswith("val_") and not has_validation:
        raise ValueError(f"early_stopping watches {rule.monitor}, which needs validation: pass validation_data=(X, y) "
                         "or validation_fraction=0.1, or watch the training loss by EarlyStopping(monitor='loss')")
    if rule.monitor.endswith("accuracy") and not has_accuracy:
        raise ValueError(f"early_stopping watches {rule.monitor}, which predicting numbers does not have; "
                         f"use monitor={rule.monitor.replace('accuracy', 'loss')!r}")
    return Watch(rule)
