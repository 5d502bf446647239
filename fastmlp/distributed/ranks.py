"""Many processes train one net (MPI): each has its share of the rows, all have the same weights.

The rows of all ranks are numbered through, those of rank 0 first. Split, order and batches are drawn from one seed
over these numbers, as one process with all rows would draw them; of each batch a rank computes the gradient of the
rows it has, scaled by its share of the batch's Σ w; MPI sums these (Allreduce) and every rank takes the same
optimizer step. So the result is that of one process, up to the rounding of sums in another order. With dropout the
masks are each rank's own. Rows read in windows are the exception: there each rank draws an order of its own (`shards`).

`fit` calls `Alone` or `Ranks` for whatever depends on there being other processes; `Alone` returns its argument.
"""
import hashlib
import json
import logging
import os
import sys
import time
import traceback
import zlib
from contextlib import contextmanager
from dataclasses import fields, replace

import numpy as np

from .. import device as devices
from ..input import stored
from ..input.labels import joint_task, summary
from ..input.rows import Dataset, input_scale, read_data, read_features, read_rows, scales
from ..kernels.cores import available_cores
from . import collectives
from .shards import Shards, ShardsInWindows
from .sources import NO_ROWS, source_of

log = logging.getLogger("fastmlp")
PATIENCE = 5.0               # seconds for the other ranks to raise an error as well, before all are ended
FORWARDING = 1.0             # seconds for the launcher to pass on what a rank has said: Abort does not wait for it


def ranks_of(comm):
    """What `fit` calls: `Alone` without a communicator, or with one of a single rank."""
    if comm is None:
        return Alone()
    if not all(hasattr(comm, name) for name in ("Allreduce", "Get_size", "allgather", "Ibarrier")):
        raise TypeError(f"comm must be an MPI communicator such as mpi4py.MPI.COMM_WORLD, got {comm!r}")
    return Alone() if comm.Get_size() == 1 else Ranks(comm)


class Alone:
    """One process has all rows."""

    size = 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def options(self, options, seed):
        return options

    def checked(self, local):
        """local(), of every rank; where one of them raises, all do."""
        return local()

    def read(self, X, y, sample_weight, options, model):
        return read_data(X, y, sample_weight, options.loss, options.net.dtype, model, options.window_rows,
                         options.scaling == "robust")

    def same(self, what, value):
        """ValueError on all ranks if `value` is not the same on all."""

    def same_bits(self, array):
        """An error if the bits of `array` are not those that the other ranks have."""

    def total(self, array):
        """The sum over ranks."""
        return array

    def any(self, flag):
        return flag

    def gather(self, array):
        """The arrays of all ranks, one after the other."""
        return array

    def mine(self, rows):
        """Those of the rows numbered through that this rank has, as indices into its own."""
        return rows

    def seed(self, seed):
        """What the dropout of this rank is drawn from."""
        return seed

    def threads(self, n_threads):
        return n_threads

    def record(self, run, data, rows):
        """What `checkpoints.run_record` says of this call, of all ranks. data: which entries are of this rank's rows
        alone; rows: how many it has."""
        return run

    def source(self, rows, train_rows=NO_ROWS, batch_size=1):
        """Where the kernels get finished `Rows` from (`sources`)."""
        return source_of(rows, train_rows, batch_size)


class Ranks(Alone):
    """One rank of several. Every method is called by all of them in the same order."""

    def __init__(self, comm):
        from mpi4py import MPI
        self._mpi, self._comm = MPI, comm
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self._failures = comm.Dup()
        self._first, self._rows = 0, 0

    # --------------------------------------------------------------------------- errors

    def __exit__(self, kind, error, trace):
        """An error on all ranks is raised on all. One that the others do not have would leave them waiting for
        ever: it ends them all."""
        if error is None:
            self._failures.Free()
            return
        everyone = self._failures.Ibarrier()
        deadline = time.monotonic() + PATIENCE
        while not everyone.Test():
            if time.monotonic() > deadline:
                sys.stderr.write(f"fastmlp: rank {self.rank} of {self.size} failed, all ranks end: {error!r}\n"
                                 + "".join(traceback.format_exception(kind, error, trace)))
                sys.stderr.flush()
                time.sleep(FORWARDING)
                self._comm.Abort(1)
            time.sleep(0.02)

    def checked(self, local):
        try:
            result, error = local(), None
        except Exception as raised:
            result, error = None, raised
        errors = self._comm.allgather(None if error is None else f"{type(error).__name__}: {error}")
        if error is not None:
            raise error
        for rank, text in enumerate(errors):
            if text is not None:
                raise ValueError(f"rank {rank} of {self.size} raised {text}")
        return result

    def same(self, what, value):
        values = self._comm.allgather(value)
        for rank, other in enumerate(values):
            if other != values[0]:
                raise ValueError(f"{what} must be the same on all ranks, got {values[0]!r} on rank 0 and {other!r} on "
                                 f"rank {rank}")

    # --------------------------------------------------------------------------- before training

    def options(self, options, seed):
        """The options that all ranks have, with the seed of rank 0 if none was given; rank 0 alone shows progress."""
        self.same("whether checkpoint is given", options.checkpoint is not None)
        self.same("seed", seed)
        for field in fields(options):
            if field.name not in ("seed", "verbose", "callbacks", "checkpoint", "n_threads", "net"):
                self.same(field.name, _text(getattr(options, field.name)))
        for field in fields(options.net):
            self.same(field.name, _text(getattr(options.net, field.name)))
        checkpoint = self._comm.bcast(options.checkpoint)
        if checkpoint is not None:
            checkpoint.writes = self.rank == 0
        return replace(options, seed=self._comm.bcast(options.seed), checkpoint=checkpoint,
                       device=self.checked(lambda: self._device(options.device)),
                       verbose=options.verbose if self.rank == 0 else 0)

    def _device(self, device):
        """The device of this rank: of the machine's GPUs it takes one for itself."""
        with self._machine() as machine:
            rank, visible = machine.Get_rank(), machine.allgather(os.environ.get(devices.VISIBLE))
        device = devices.of_rank(device, rank, visible)
        devices.kernels(device)         # here, where all ranks hear of what is wrong with one's
        return device

    def read(self, X, y, sample_weight, options, model):
        """The `Dataset` of this rank's rows, for the task and the scale that the rows of all ask for."""
        dtype, wide = options.net.dtype, options.scaling == "robust" or scales(model)
        window = options.window_rows or self._comm.allreduce(self.checked(
            lambda: stored.default_window(X, dtype) if stored.too_large(X, dtype) else 0), self._mpi.MAX)

        def own():
            in_file = stored.train_in_windows(X, "X", dtype, window) if window else None
            return *read_features(X, "X", dtype, model, in_file, wide), summary(y, options.loss)
        x, names, labels = self.checked(own)
        for what, value in (("the number of columns of X", x.shape[1]), ("the columns' names of X", names),
                            ("whether X is uint8", x.dtype == np.uint8),
                            ("whether sample_weight is given", sample_weight is not None),
                            ("whether a model is given", model is not None)):
            self.same(what, value)
        summaries = self._comm.allgather(labels)
        task = self.checked(lambda: joint_task(summaries, options.loss)) if model is None else model.task
        if model is None:
            scale = 1 / 255 if self.any(input_scale(x) < 1) else 1.0
        else:
            scale = model.scale
            self.same("the weights of model", zlib.crc32(model.parameters))
        rows = self.checked(lambda: read_rows(x, y, sample_weight, task, dtype, wide=wide, trained=True))
        counts = self._comm.allgather(len(rows))
        self._first, self._rows = sum(counts[:self.rank]), len(rows)
        log.info("rank %d of %d has %s of %s rows", self.rank, self.size, f"{len(rows):,}", f"{sum(counts):,}")
        return Dataset(rows, task, names, scale)

    def threads(self, n_threads):
        """The cores that the ranks of this machine may use, shared equally among them, where no number was given."""
        if n_threads is not None:
            return n_threads
        # A launcher may have given each rank cores of its own.
        cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
        with self._machine() as machine:
            shared = machine.allgather(set(cores))
        return max(1, min(available_cores(), len(set.union(*shared)) // len(shared)))

    @contextmanager
    def _machine(self):
        """The communicator of the ranks on this machine."""
        machine = self._comm.Split_type(self._mpi.COMM_TYPE_SHARED)
        yield machine
        machine.Free()

    def seed(self, seed):
        return (seed + self.rank * 0x9E3779B97F4A7C15) % (1 << 63)

    # --------------------------------------------------------------------------- over all rows

    def total(self, array):
        return self._comm.allreduce(array)

    def any(self, flag):
        return self._comm.allreduce(bool(flag), self._mpi.LOR)

    def gather(self, array):
        return np.concatenate(self._comm.allgather(array))

    def mine(self, rows):
        return rows[(rows >= self._first) & (rows < self._first + self._rows)] - self._first

    def record(self, run, data, rows):
        """The data's fingerprints of all ranks as one; all else as rank 0 says it."""
        everyone = self._comm.allgather({name: run[name] for name in data if name in run})
        joint = {name: hashlib.sha256(json.dumps([each[name] for each in everyone]).encode()).hexdigest()
                 for name in everyone[0]}
        return {**self._comm.bcast(run), **joint, "rows of each rank": self._comm.allgather(rows)}

    def source(self, rows, train_rows=NO_ROWS, batch_size=1):
        kind = ShardsInWindows if isinstance(rows.x, stored.StoredRows) else Shards
        return kind(self, rows, train_rows, batch_size)

    def gradients(self, state):
        """What sums state.gradients over the ranks, in place."""
        return collectives.gradient_sum(self._comm, state)

    def sum(self, array):
        """The sum over ranks of an array, in place."""
        self._comm.Allreduce(self._mpi.IN_PLACE, array)
        return array

    def same_bits(self, array):
        # That every rank gets the same sum is what MPI recommends to its implementations, not what it promises.
        checksum = zlib.crc32(array)
        if self.any(self._comm.bcast(checksum) != checksum):
            raise RuntimeError("the ranks' weights are no longer the same bits: this MPI's Allreduce does not give "
                               "every rank the same sum; choose another algorithm for it")


def _text(value):
    """An option as text that is the same for the same option; a callable by its name."""
    named = callable(value) and not hasattr(value, "__dataclass_fields__")
    return getattr(value, "__qualname__", type(value).__qualname__) if named else repr(value)
