"""One training: set-up, a loop over epochs, finish. `entry.train` and many nets (`many`) call `fit`.

Early stopping, callbacks and checkpoints observe the loop (`observers`), `progress` shows it. With MPI, `ranks` stands
for the other processes; alone it returns what it is given.
"""
import logging
import math
from time import perf_counter

import numpy as np

from .. import device as devices
from ..distributed.ranks import Alone
from ..input import scaling
from ..input.arrays import first_non_finite
from ..input.rows import finished_rows
from ..kernels import update_rules
from ..optimizers import OptimizerState
from ..schedules import rates_of
from . import setup
from .checkpoints import DATA, run_record
from .early_stopping import EarlyStopping, watch_of
from .observers import Callbacks, Checkpoints
from .progress import reporter
from .slots import is_checked, overflow
from .streams import Streams

log = logging.getLogger("fastmlp")
ALONE = Alone()


class DivergedError(FloatingPointError):
    """Training reached NaN or infinity. `model` has the weights of the last epoch that ended finite."""

    def __init__(self, message, model=None):
        super().__init__(message)
        self.model = model


def fit(data, train_rows, options, validation_data=None, model=None, ranks=ALONE):
    """Train on the rows `train_rows` (int64 indices) of checked `Dataset` data by checked `Options`; as `train`.

    With `ranks`, many processes that each have rows of their own, train_rows are of all of them, numbered through.
    """
    run = Run(data, train_rows, options, validation_data, model, ranks)
    run.loop()
    return run.finish()


class Run:
    """A training between two of its epochs: the model, the kernels' state, where the rows come from, who observes."""

    # --------------------------------------------------------------------------- set-up

    def __init__(self, data, train_rows, options, validation_data, model, ranks):
        self.options, self.ranks = options, ranks
        random = Streams(options.seed)
        self.rng = random.order                  # what is left of it is in a checkpoint
        self.kernels = kernels = devices.kernels(options.device)
        n_threads = ranks.threads(devices.threads(options.n_threads))

        # Which rows are learned from, the net, and the rows as it reads them.
        train_rows, held_out = setup.hold_out(data, train_rows, validation_data, options, random, ranks)
        own_rows, self.rows_in_all = ranks.mine(train_rows), len(train_rows)
        self.batch_size = min(options.batch_size, len(train_rows))
        self.steps = -(-len(train_rows) // self.batch_size)
        self.continued = model is not None
        self.model = model = setup.net_to_train(model, data, own_rows, self.batch_size, options, random, ranks)
        validation = setup.validation_rows(validation_data, data.rows, held_out, model, options, ranks)
        rows = setup.training_rows(data.rows, own_rows, model, options, ranks)

        # Who observes; they say what they need before anything is compiled.
        early_stopping = options.early_stopping
        if early_stopping is None and options.preset == "tabular" and validation is not None:
            early_stopping = EarlyStopping(patience=options.epochs)
        self.watch = watch_of(early_stopping, validation is not None, has_accuracy=model.task.kind != "numbers")
        dropout_seed = int(random.dropout.integers(1 << 63))
        self.history = model.history
        self.history.begin(setup.compile_kernels(kernels, model.dtype, options.verbose))
        self.epochs_done, checkpoint = 0, options.checkpoint
        if checkpoint is not None:
            record = ranks.record(run_record(self, data.rows, train_rows, validation), DATA, len(data.rows))
            self.epochs_done = checkpoint.resume(record, model, self.rng, self.watch)
        self.observers = [each for each in (
            self.watch, options.callbacks and Callbacks(options.callbacks, ranks),
            checkpoint and Checkpoints(checkpoint, ranks)) if each]
        self.progress = reporter(options.verbose, options.epochs, self.steps, self.epochs_done)

        # Every buffer of training, allocated once; the state works on its own copy of the weights.
        self.state = setup.kernel_state(kernels, model, options, self.batch_size, ranks.seed(dropout_seed), n_threads)
        self.source = ranks.source(rows, train_rows, self.batch_size)
        self.validation = None if validation is None else ranks.source(finished_rows(validation, model))
        model.seed, model.device, model.n_threads = options.seed, options.device, n_threads
        self._first_epoch, self._first_step = self.epochs_done, self.state.step
        self._before, self._started = self.history.duration, perf_counter()

    # --------------------------------------------------------------------------- loop

    def loop(self):
        """Epoch after epoch, until the last one or until an observer says why to stop. Ctrl-C ends it early."""
        history = self.history
        try:
            with self.progress:
                for epoch in range(self.epochs_done, 0 if history.stopped else self.options.epochs):
                    self.progress.epoch_begins(epoch + 1)
                    numbers = self.epoch(epoch)
                    number = history.append(numbers)
                    self.epochs_done = epoch + 1
                    self.progress.epoch_ends(numbers)
                    for observer in self.observers:
                        history.stopped = observer.epoch_ends(self, number, numbers) or history.stopped
                    if history.stopped:
                        log.info("stopped after epoch %d by %s", number, history.stopped)
                        break
        except KeyboardInterrupt:
            if self.ranks.size > 1:
                raise
            self._interrupted()
        finally:
            history.duration = self.duration()

    def epoch(self, epoch):
        """One pass over the training rows, and one over those of validation; returns the epoch's numbers."""
        started, options = perf_counter(), self.options
        rates = rates_of(options.schedule, options.optimizer.learning_rate, epoch, options.epochs * self.steps,
                         self.steps)
        totals = self.source.train_epoch(self.kernels, self.state, self.rng, rates)
        numbers = self._means(totals, self.rows_in_all)
        self._publish_weights(numbers["loss"])
        if is_checked(epoch + 1):
            self._finite_optimizer_state()
        if self.validation is not None:
            numbers |= self._means(*self.validation.evaluate(self.kernels, self.state), "val_")
        return numbers | {"learning_rate": float(rates[-1]), "seconds": perf_counter() - started}

    def _means(self, totals, n, prefix=""):
        """Loss and accuracy from an epoch's totals. The accuracy counts every row once, whatever its weight."""
        loss_sum, correct, weight_sum = totals
        loss = scaling.loss_scale(self.model) * float(loss_sum / weight_sum) if weight_sum else math.nan
        return {f"{prefix}loss": loss} | (
            {f"{prefix}accuracy": float(correct / n)} if self.model.task.kind != "numbers" else {})

    def _publish_weights(self, loss):
        """The state's weights become the model's; DivergedError if they or the loss are not finite."""
        if not (math.isfinite(loss) and self._copy_weights()):
            state = self.state
            step = state.failed_step and f", step {state.failed_step - (state.step - self.steps)} of {self.steps}"
            raise DivergedError(
                f"training diverged in epoch {len(self.history) + 1}{step or ''}: the loss is {loss:.4g} and the "
                f"weights are no longer all finite numbers. Lower learning_rate (now "
                f"{self.options.optimizer.learning_rate:g}), scale the columns of X (and y, if numbers) to about -1 to "
                "1, or pass dtype='float64'. This error's .model has the weights of the last epoch that ended finite.",
                self.model)
        self.ranks.same_bits(self.model.parameters)

    def _copy_weights(self):
        """Copies the weights of the state into the model if all are finite; returns whether they were."""
        parameters = np.empty_like(self.model.parameters)
        self.kernels.read_parameters(self.state, parameters)
        finite = first_non_finite(parameters) is None
        if finite:
            scaling.publish(self.model, parameters)
        return finite

    def _interrupted(self):
        self.history.interrupted = True
        self.history.settle()
        self._copy_weights()
        taken = self.state.step - self._first_step
        log.warning("interrupted after %d of %d epochs and %d of %d steps", self._first_epoch + taken // self.steps,
                    self.options.epochs, taken % self.steps, self.steps)

    # --------------------------------------------------------------------------- finish

    def finish(self):
        """The model as it is returned: with the optimizer's state, and the best weights where they were kept."""
        if not self.history.interrupted:
            self.model.optimizer_state = self._finite_optimizer_state()
        elif not overflow(kept := self.optimizer_state(), self.options.optimizer):
            self.model.optimizer_state = kept
        if self.watch is not None and self.watch.parameters is not None:
            self.model.publish(self.watch.parameters)
            self.history.best_epoch = self.watch.best_epoch
        return self.model

    def optimizer_state(self):
        """The optimizer's slots and steps as they are now, copied."""
        optimizer = self.options.optimizer
        slots = update_rules.SLOTS[optimizer.rule]
        s1, s2 = (np.empty(self.model.n_parameters if slots > i else 0, self.model.dtype) for i in range(2))
        self.kernels.read_optimizer(self.state, s1, s2)
        return OptimizerState(optimizer.rule, self.state.step, s1, s2)

    def _finite_optimizer_state(self):
        """The optimizer's state; DivergedError if it has overflowed, which stops the weights without a word."""
        kept = self.optimizer_state()
        if problem := overflow(kept, self.options.optimizer):
            raise DivergedError(f"{problem}. This error's .model has the weights of the last epoch.", self.model)
        return kept

    def duration(self):
        """Seconds of training so far, of those before it in a resumed or continued run as well."""
        return self._before + perf_counter() - self._started
