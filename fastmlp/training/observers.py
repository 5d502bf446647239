"""Observers of a training: each is called at the end of every epoch. `early_stopping.Watch` is another one.

    epoch_ends(run, number, numbers) -> why training should stop, or None
        run: the `Run`, whose model has the epoch's weights; number: of the epoch, from 1; numbers: as in the history
"""
import numpy as np


class Callbacks:
    """The user's functions, called as callback(model, numbers). Training goes on with the weights it had."""

    def __init__(self, functions, ranks):
        self._functions, self._ranks = functions, ranks

    def epoch_ends(self, run, number, numbers):
        kept = run.model.parameters.copy()
        try:
            returned = [function(run.model, {"epoch": number, **numbers}) for function in self._functions]
        finally:
            run.model.publish(kept)
        stop = any(value is True or value is np.True_ for value in returned)
        return "callback" if self._ranks.any(stop) else None


class Checkpoints:
    """Replaces the checkpoint's file by the state of the run."""

    def __init__(self, checkpoint, ranks):
        self._checkpoint, self._ranks = checkpoint, ranks

    def epoch_ends(self, run, number, numbers):
        self._ranks.checked(lambda: self._checkpoint.save(
            run.epochs_done, run.model, run.optimizer_state(), run.rng, run.watch, run.duration()))
