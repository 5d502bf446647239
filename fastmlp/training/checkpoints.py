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
from pathlib import Path

import numpy as np

from .. import device as devices
from .._version import __version__
from ..files import UNREADABLE, checksum, to_bytes, write_atomically
from ..input.arrays import on_host
from ..input.stored import parts
from ..kernels import update_rules
from ..optimizers import OptimizerState

FORMAT = 1
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


DATA = ("X", "y", "sample_weight or class_weight", "validation_data", "model")


def run_record(options, batch_size, rows, train_rows, validation, model, watch):
    """All that decides the course of a run, by argument of `train`: plain values, and for arrays their SHA-256.

    model : the net before its first step. n_threads, verbose and callbacks are left out: they change no bits.
    """
    kept = model.optimizer_state
    return {
        "hidden": model.sizes[1:-1], "activation": model.activations, "dropout": model.dropout, "loss": model.loss,
        "dtype": str(model.dtype), "device": devices.choose(options.device)[0], "precision": options.precision,
        "initializer": options.initializer,
        "optimizer": repr(options.optimizer), "schedule": _name(options.schedule), "l2": options.l2,
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


def _name(schedule):
    """A schedule of ours with its numbers; another callable by its name."""
    if type(schedule).__module__ == "fastmlp.schedules":
        return repr(schedule)
    named = schedule if hasattr(schedule, "__qualname__") else type(schedule)
    return f"{named.__module__}.{named.__qualname__}"
