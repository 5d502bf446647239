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
import os
from dataclasses import fields
from pathlib import Path

import numpy as np

from .. import device as devices
from .._version import __version__
from ..files import UNREADABLE, checksum, to_bytes, write_atomically
from ..input.arrays import on_host
from ..input.stored import parts
from ..kernels import update_rules
from ..losses import instance_of
from ..optimizers import OptimizerState
from ..schedules import rates_of

FORMAT = 2
_KEY = "fastmlp_checkpoint"


def open_checkpoint(path):
    """The `Checkpoint` at `path`, read if the file exists; None for None."""
    if path is None:
        return None
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"checkpoint must be a path such as 'run.safetensors', got {path!r}")
    return Checkpoint(Path(path))


class Checkpoint:
    """The file of one run. `seed` is that of the run saved in it; None if there is none yet.

    writes : whether `save` writes; of several processes with the same weights one does
    """

    writes = True

    def __init__(self, path):
        self.path = path
        self._run = None
        self._header, self._tensors = None, None
        if path.exists():
            self._read()
        elif not path.parent.is_dir():
            raise FileNotFoundError(f"checkpoint: there is no folder {path.parent} to write {path.name} to")
        # A process killed while it wrote leaves its half file behind.
        for part in path.parent.glob(f".{path.name}.*.part"):
            part.unlink(missing_ok=True)

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
        except UNREADABLE as error:
            raise self._damaged(error) from error
        model.parameters[:] = tensors["parameters"]
        model.optimizer_state = OptimizerState(rule, step, tensors["s1"], tensors["s2"])
        return done

    def save(self, done, model, optimizer_state, rng, watch, duration):
        """Replace the file by the state after `done` epochs: whole or not at all, at whatever moment we are killed."""
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
        write_atomically(self.path, to_bytes(tensors, _KEY, header))

    def _read(self):
        from safetensors import SafetensorError, safe_open
        try:
            with safe_open(self.path, framework="np") as file:
                metadata = file.metadata() or {}
                header = json.loads(metadata[_KEY])
                if header["format"] != FORMAT:
                    raise ValueError(f"it has format {header['format']!r} (written by {header.get('library')}), "
                                     f"this version reads format {FORMAT}")
                self._tensors = {name: file.get_tensor(name) for name in ("parameters", "s1", "s2", "best")}
                if metadata["crc32"] != checksum(metadata[_KEY], self._tensors):
                    raise ValueError("its checksum is not that of its content")
            header["run"]["seed"]
            if not all(type(header[name]) is int and header[name] >= 0 for name in ("rule", "step", "done")):
                raise ValueError("rule, step and done must be whole numbers")
        except (SafetensorError, *UNREADABLE) as error:
            raise self._damaged(error) from error
        self._header = header

    def _damaged(self, error):
        return ValueError(f"checkpoint {self.path} is not a checkpoint that this version of fastmlp can read "
                          f"({type(error).__name__}: {error}); delete it to start anew, or pass another path")

    def _compare(self, run):
        run = json.loads(json.dumps(run))  # tuples become lists, as in the file
        saved = self._header["run"]
        differ = [name for name in {**run, **saved} if saved.get(name) != run.get(name)]
        if differ:
            changes = [f"{name} (was {saved.get(name)!r}, is {run.get(name)!r})" if name not in DATA else
                       f"{name} (other values than then)" for name in differ]
            raise ValueError(f"checkpoint {self.path} was written by a run with other arguments: {'; '.join(changes)}. "
                             "Pass the same ones to resume it, or another path (or delete the file) to start anew")


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
    """The schedule's name and all its learning rates: two functions of one name are not one schedule."""
    options, digest = run.options, hashlib.sha256()
    for epoch in range(options.epochs):
        digest.update(rates_of(options.schedule, options.optimizer.learning_rate, epoch, options.epochs * run.steps,
                               run.steps))
    named = options.schedule if hasattr(options.schedule, "__qualname__") else type(options.schedule)
    return f"{named.__qualname__}, learning rates {digest.hexdigest()[:16]}"


def _fingerprint(*arrays):
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        for part in parts(array):
            digest.update(np.ascontiguousarray(on_host(part)).reshape(-1).view(np.uint8))
    return digest.hexdigest()
