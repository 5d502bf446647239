"""What is told of every epoch's end, beside `early_stopping.Watch`.

    epoch_ends(run, number, numbers) -> why training should stop, or None
        run: the `Run`, whose model has the epoch's weights; number: of the epoch, from 1; numbers: as in the history
"""
import numpy as np


class Callbacks:
    """The user's functions, called as callback(model, numbers). Training goes on with the weights it had."""

    def __init__(self, functions, ranks):
        self._functions, self._ranks = functions, ranks

    def epoch_ends(self, run, number, numbers):
        parameters = run.model.parameters
        kept = parameters.copy()
        try:
            answers = [function(run.model, {"epoch": number, **numbers}) for function in self._functions]
        finally:
            parameters[:] = kept
        stop = any(answer is True or answer is np.True_ for answer in answers)
        return "callback" if self._ranks.any(stop) else None


class Checkpoints:
    """Replaces the checkpoint's file by the state of the run."""

    def __init__(self, checkpoint, ranks):
        self._checkpoint, self._ranks = checkpoint, ranks

    def epoch_ends(self, run, number, numbers):
        self._ranks.checked(lambda: self._checkpoint.save(
            run.epochs_done, run.model, run.optimizer_state(), run.rng, run.watch, run.duration()))
