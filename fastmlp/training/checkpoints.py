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
from dataclasses import fields
from pathlib import Path

import numpy as np

from .. import device as devices
from .. import files
from .._version import __version__
from ..input.arrays import on_host
from ..input.stored import parts
from ..kernels import update_rules
from ..losses import instance_of
from ..optimizers import OptimizerState
from ..schedules import rates_of

log = logging.getLogger("fastmlp")
FORMAT = 2
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
            rule, step, done = update_rules.TABLE.code(header["rule"]), header["step"], header["done"]
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
        """Replace the file by the state after `done` epochs: atomically, at whatever moment we are killed.

        Where that fails (a full disk, a folder that is gone), this warns and returns: the model is worth more than the
        file, the next epoch tries again, and until then the file is that of an earlier epoch.
        """
        if not self.writes:
            return
        nothing = np.empty(0, model.dtype)
        best = nothing if watch is None or watch.parameters is None else watch.parameters
        header = {
            "format": FORMAT, "library": f"fastmlp {__version__}", "run": self._run, "done": done,
            "rule": update_rules.NAMES[optimizer_state.rule], "step": optimizer_state.step,
            "generator": rng.bit_generator.state,
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
            if header["format"] < FORMAT:
                raise ValueError(f"it has format {header['format']}, of a version that compared fewer arguments; this "
                                 f"one reads format {FORMAT}")
            self._tensors = {name: tensors[name].copy() for name in _TENSORS}
            if type(header["run"]["seed"]) is not int:
                raise TypeError("its seed is not a whole number")
            if header["rule"] not in update_rules.NAMES:
                raise ValueError(f"rule {header['rule']!r:.100} is not an update rule")
            if not all(type(header[name]) is int and header[name] >= 0 for name in ("step", "done")):
                raise ValueError("step and done must be whole numbers")
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
# Entries of a record that are of one process's rows alone, and shown to nobody: fingerprints.
DATA = ("X", "y", "sample_weight", "validation_data", "model")
# Options that change no bit, and what the record says more exactly.
_LEFT_OUT = ("n_threads", "verbose", "callbacks", "checkpoint")


def run_record(run, rows, train_rows, validation):
    """All that decides the course of a run, by argument of `train`: every option, and of arrays their SHA-256.

    run : the `Run` before its first step; rows, validation : what users passed, before class weights, label smoothing
        and scaling: these are options
    """
    options, model, kept = run.options, run.model, run.model.optimizer_state
    record = {field.name: _text(getattr(options, field.name)) for field in fields(options)
              if field.name not in ("net", *_LEFT_OUT)}
    return record | {
        "hidden": model.sizes[1:-1], "activation": model.activations, "dropout": model.dropout,
        "dtype": str(model.dtype), "loss": _text(instance_of(model.loss, model.task.loss_parameter)),
        "device": devices.choose(options.device)[0], "batch_size": run.batch_size,
        "early_stopping": _text(run.watch and run.watch.rule), "schedule": _rates(run),
        "window_rows": getattr(rows.x, "window_rows", None),
        "X": _fingerprint(rows.x),
        "y": _fingerprint(rows.labels, rows.targets, *([] if model.classes is None else [model.classes])),
        "sample_weight": _fingerprint(rows.weights),
        "validation_data": None if validation is None else _fingerprint(train_rows, *validation),
        "model": None if not run.continued else _fingerprint(model.parameters,
                                                             *(() if kept is None else (kept.s1, kept.s2))),
    }


def _text(option):
    """An option as JSON holds it."""
    return option if option is None or type(option) in (bool, int, float, str) else repr(option)


def _rates(run):
    """The schedule's name and the SHA-256 of its rates, in all epochs or, of a long run, in some thousands of them: two
    lambdas, or two partials of one function, have one name."""
    schedule, epochs, steps, digest = run.options.schedule, run.options.epochs, run.steps, hashlib.sha256()
    named = schedule if hasattr(schedule, "__qualname__") else type(schedule)
    sampled = min(epochs, max(2, MOST_RATES // max(steps, MOST_RATES // MOST_EPOCHS)))
    for i in range(sampled):
        epoch = i * (epochs - 1) // max(sampled - 1, 1)
        digest.update(rates_of(schedule, 1.0, epoch, epochs * steps, steps).tobytes())
    shown = repr(schedule) if type(schedule).__module__ == "fastmlp.schedules" else named.__qualname__
    return f"{shown}, rates {digest.hexdigest()[:16]}"


def _fingerprint(*arrays):
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        for part in parts(array):
            digest.update(np.ascontiguousarray(on_host(part)).reshape(-1).view(np.uint8))
    return digest.hexdigest()
