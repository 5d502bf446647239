"""Checkpoints: a training run as it stands between two epochs, in a file.

A run is killed, the same call of `train` takes it up again, and what comes out has the same bits as if nothing had
happened. Everything that an epoch depends on and the call does not say is in the file: weights, the optimizer's slots
and steps, the position of the random generator, the history, what early stopping remembers. What the call does say
(data, options) is there as a record of it, so that a checkpoint is never continued by another run.

Tensors: ``parameters``, ``s1``, ``s2`` (the optimizer's slots) and ``best`` (the weights of early stopping's best
epoch), each flat and of size 0 where there is none. Header: one JSON object under the key "fastmlp_checkpoint", and
the checksum under "crc32".
"""
import hashlib
import json
import logging
import os
import reprlib
import warnings
from pathlib import Path

import numpy as np

from .. import device as devices
from .. import files
from .._version import __version__
from ..input.arrays import on_host
from ..input.stored import parts
from ..kernels import update_rules
from ..optimizers import OptimizerState
from ..schedules import rates_of

log = logging.getLogger("fastmlp")
FORMAT = 1
_KEY = "fastmlp_checkpoint"
_TENSORS = ("parameters", "s1", "s2", "best")
_SHORT = reprlib.Repr()                         # of what a file says, which may be megabytes
_SHORT.maxstring = _SHORT.maxother = 200


def open_checkpoint(path):
    """The `Checkpoint` at `path`, read if the file exists; None for None."""
    return None if path is None else Checkpoint(Path(os.path.abspath(files.path_of(path, "checkpoint"))))


class Checkpoint:
    """The file of one run. `seed` is that of the run saved in it; None if there is none yet.

    path : absolute, so that the run may change its folder
    writes : whether `save` writes; of several processes with the same weights one does
    """

    writes = True

    def __init__(self, path):
        self.path = path
        self._run = None
        self._header, self._tensors = None, None
        self._failed = False                    # whether the last `save` did
        self._unwritable = None                 # why there will be none: a finished run needs none
        try:
            target, _ = files.checked_target(path)
            files.remove_leftovers(target)
        except OSError as error:
            self._unwritable = type(error)(error.errno, f"checkpoint: {error.strerror}", error.filename)
            if not path.is_file():
                raise self._unwritable from None
        if path.is_file():
            self._read()

    @property
    def seed(self):
        return None if self._header is None else self._header["run"]["seed"]

    def resume(self, run, model, rng, watch):
        """Put model, rng and watch where the saved run stood; returns how many of its epochs are done.

        run : what `run_record` says of this call; ValueError names what differs from the run saved.
        """
        self._run = run
        if self._header is None:
            return 0
        self._compare(run)
        header, tensors = self._header, self._tensors
        try:
            rule, step, done = header["rule"], header["step"], header["done"]
            if self._unwritable is not None and done < run["epochs"] and header["history"]["stopped"] is None:
                raise self._unwritable
            slots = update_rules.SLOTS[rule]
            wanted = {"parameters": 1, "s1": slots > 0, "s2": slots > 1, "best": watch is not None and watch.keeps_best}
            for name, present in wanted.items():
                tensor, size = tensors[name], model.n_parameters * present
                if tensor.shape != (size,) or tensor.dtype != model.dtype:
                    raise ValueError(f"{name} is {tensor.dtype} of shape {tensor.shape}, "
                                     f"not {model.dtype} of shape {(size,)}")
            if not np.isfinite(tensors["parameters"]).all():
                raise ValueError("it holds weights that are not finite")
            rng.bit_generator.state = header["generator"]
            model.history.restore(header["history"])
            if watch is not None:
                watch.restore(header["watch"], tensors["best"])
        except files.UNREADABLE as error:
            raise self._damaged(error) from files.brief(error)
        model.publish(tensors["parameters"])
        model.optimizer_state = OptimizerState(rule, step, tensors["s1"], tensors["s2"])
        return done

    def save(self, done, model, optimizer_state, rng, watch, duration):
        """Replace the file by the state after `done` epochs: whole or not at all, at whatever moment we are killed.

        Where that fails (a full disk, a folder that is gone), this warns and returns: the model is worth more than the
        file, the next epoch tries again, and until then the file is that of an earlier epoch.
        """
        if not self.writes:
            return
        nothing = np.empty(0, model.dtype)
        best = nothing if watch is None or watch.parameters is None else watch.parameters
        header = {
            "format": FORMAT, "library": f"fastmlp {__version__}", "run": self._run, "done": done,
            "rule": optimizer_state.rule, "step": optimizer_state.step, "generator": rng.bit_generator.state,
            "history": model.history.to_record(duration), "watch": None if watch is None else watch.to_record(),
        }
        tensors = {"parameters": model.parameters, "s1": optimizer_state.s1, "s2": optimizer_state.s2, "best": best}
        try:
            files.write_atomically(self.path, files.to_bytes(tensors, _KEY, header))
        except (OSError, MemoryError) as error:
            self._warn(done, error, ends=done >= self._run["epochs"] or model.history.stopped is not None)
        else:
            if self._failed:
                log.info("checkpoint %s is written again, after %d epochs", self.path, done)
            self._failed = False

    def _warn(self, done, error, ends):
        """Log every failure; warn of the first in a row, and once more of one at the end of the run."""
        goes_on = ("this was the last epoch: the file, if there is one, is that of an earlier epoch; save the model "
                   "itself" if ends else "training goes on, and the next epoch tries again")
        text = (f"checkpoint {self.path} could not be written after epoch {done} ({str(error) or 'out of memory'}); "
                f"{goes_on}")
        log.warning(text)
        if ends or not self._failed:
            warnings.warn(text, RuntimeWarning, stacklevel=3)
        self._failed = True

    def _read(self):
        from safetensors import SafetensorError
        try:
            header, tensors = files.read_tensors(self.path, _KEY, FORMAT)
            self._tensors = {name: tensors[name].copy() for name in _TENSORS}
            if type(header["run"]["seed"]) is not int:
                raise TypeError("its seed is no whole number")
            if not all(type(header[name]) is int and header[name] >= 0 for name in ("rule", "step", "done")):
                raise ValueError("rule, step and done must be whole numbers")
        except (SafetensorError, *files.UNREADABLE) as error:
            raise self._damaged(error) from files.brief(error)
        self._header = header

    def _damaged(self, error):
        return files.refusal(f"checkpoint {self.path} is not a checkpoint that this version of fastmlp can read; "
                             f"delete it to start anew, or pass another path ({type(error).__name__}: {error})")

    def _compare(self, run):
        run = json.loads(json.dumps(run))  # tuples become lists, as in the file
        saved = self._header["run"]
        differ = [name for name in {**run, **saved} if saved.get(name) != run.get(name)]
        if differ:
            changes = [f"{name[:40]} (was {_SHORT.repr(saved.get(name))}, is {_SHORT.repr(run.get(name))})"
                       if name not in DATA else f"{name} (other values than then)" for name in differ[:len(run)]]
            raise ValueError(f"checkpoint {self.path} was written by a run with other arguments: {'; '.join(changes)}. "
                             "Pass the same ones to resume it, or another path (or delete the file) to start anew")


MOST_RATES, MOST_EPOCHS = 10_000_000, 4_000     # computed to tell schedules apart: some 0.2 s
DATA = ("X", "y", "sample_weight or class_weight", "validation_data", "model")


def run_record(options, batch_size, rows, train_rows, validation, model, watch):
    """All that decides the course of a run, by argument of `train`: plain values, and for arrays their SHA-256.

    model : the net before its first step. n_threads, verbose and callbacks are left out: they change no bits.
    """
    kept = model.optimizer_state
    return {
        "hidden": model.sizes[1:-1], "activation": model.activations, "dropout": model.dropout,
        "loss": f"{model.loss}({model.task.loss_parameter})" if model.task.loss_parameter else model.loss,
        "dtype": str(model.dtype), "device": devices.choose(options.device)[0], "precision": options.precision,
        "initializer": options.initializer,
        "optimizer": repr(options.optimizer), "schedule": _name(options, -(-len(train_rows) // batch_size)),
        "l2": options.l2,
        "epochs": options.epochs, "batch_size": batch_size, "validation_fraction": options.validation_fraction,
        "early_stopping": repr(watch and watch.rule), "seed": options.seed,
        "window_rows": getattr(rows.x, "window_rows", None),
        "X": _fingerprint(rows.x),
        "y": _fingerprint(rows.labels, rows.targets, *([] if model.classes is None else [model.classes])),
        "sample_weight or class_weight": _fingerprint(rows.weights),
        "validation_data": None if validation is None else _fingerprint(train_rows, *validation),
        "model": _fingerprint(model.parameters, *(() if kept is None else (kept.s1, kept.s2))),
    }


def _fingerprint(*arrays):
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        for part in parts(array):
            digest.update(np.ascontiguousarray(on_host(part)).reshape(-1).view(np.uint8))
    return digest.hexdigest()


def _name(options, steps):
    """A schedule of ours with its numbers; another callable by its name and the SHA-256 of its rates, in all epochs or,
    of a long run, in some thousands of them: two lambdas have one name."""
    schedule, epochs = options.schedule, options.epochs
    if type(schedule).__module__ == "fastmlp.schedules":
        return repr(schedule)
    named, digest = schedule if hasattr(schedule, "__qualname__") else type(schedule), hashlib.sha256()
    sampled = min(epochs, max(2, MOST_RATES // max(steps, MOST_RATES // MOST_EPOCHS)))
    for i in range(sampled):
        epoch = i * (epochs - 1) // max(sampled - 1, 1)
        digest.update(rates_of(schedule, 1.0, epoch, epochs * steps, steps).tobytes())
    return f"{named.__module__}.{named.__qualname__} {digest.hexdigest()[:16]}"
