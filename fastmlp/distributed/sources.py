"""Where the rows of an epoch come from: arrays in memory, or a file in windows. `shards` has those of many MPI ranks.

All sources have one interface:
    train_epoch(kernels, state, rng, rates) -> (Σ w l, correct, Σ w)      one epoch; len(rates) steps
    evaluate(kernels, state) -> (totals, rows)                            the same totals without training, of how many

Rows in memory are shuffled as one. The order of an epoch over a file depends on the seed, the rows, window_rows and
batch_size alone: a window holds window_rows rows, rounded up to whole batches, so that only the epoch's last batch may
be smaller. The rows trained on, as they follow each other in X, are cut into blocks of a 32nd of a window (rounded
down); the blocks are shuffled; their rows fill window after window; the rows of a window are shuffled. Where X is
sorted, batches are as mixed as 32 blocks are: shuffle such a file once when it is written.
"""
from contextlib import closing

import numpy as np

from ..input.stored import BLOCKS, StoredRows, read_ahead, release

NO_ROWS = np.empty(0, np.int64)


def source_of(rows, train_rows=NO_ROWS, batch_size=1):
    """The source of finished `Rows`, of which those with the indices `train_rows` are trained on."""
    return (FileWindows if isinstance(rows.x, StoredRows) else InMemory)(rows, train_rows, batch_size)


class InMemory:
    """Rows in memory: an epoch is one call of the kernels."""

    def __init__(self, rows, train_rows, batch_size):
        self._rows, self._train_rows = rows, train_rows

    def train_epoch(self, kernels, state, rng, rates):
        return kernels.train_epoch(state, *self._rows, rng.permutation(self._train_rows), rates)

    def evaluate(self, kernels, state):
        return kernels.evaluate(state, *self._rows), len(self._rows)


class FileWindows:
    """Stored rows: a call of the kernels for each window."""

    def __init__(self, rows, train_rows, batch_size):
        self._rows, self._batch = rows, batch_size
        self._window = -(-rows.x.window_rows // batch_size) * batch_size
        self._windows = Windows(rows, train_rows, self._window) if len(train_rows) else None

    def train_epoch(self, kernels, state, rng, rates):
        totals, step = np.zeros(3), 0
        order = block_order(len(self._windows), self._window, rng)
        # The file is read forwards: the rows of a window are shuffled afterwards, in memory.
        plans = [np.sort(order[first:first + self._window]) for first in range(0, len(order), self._window)]
        with closing(self._windows.read(plans, kernels)) as windows:
            for arrays, rows in windows:
                steps = -(-len(rows) // self._batch)
                order = rows[rng.permutation(len(rows))]
                totals += kernels.train_epoch(state, *arrays, order, rates[step:step + steps])
                step += steps
        return tuple(totals.tolist())

    def evaluate(self, kernels, state):
        totals = np.zeros(3)
        with closing(self._rows.x.windows()) as windows:
            for window, x in windows:
                totals += kernels.evaluate(state, x, *self._rows.take_labels(window))
        return tuple(totals.tolist()), len(self._rows)


class Windows:
    """The rows `train_rows` of stored `Rows`, of which `window_rows` at a time come into memory."""

    def __init__(self, rows, train_rows, window_rows):
        assert rows.x.rows is None, "labels are numbered as the rows of the file are"
        self._rows, self.train_rows = rows, np.sort(train_rows)
        self._stored = rows.x.subset(self.train_rows, window_rows)
        self._buffers = self._stored.buffers()

    def __len__(self):
        return len(self._stored)

    def read(self, plans, kernels):
        """For each plan, ascending positions in `train_rows`: the four arrays as `kernels` take them, and where in
        these arrays the plan's rows are."""
        x = self._stored.in_place() if getattr(kernels, "READS_IN_PLACE", False) else None
        return self._copied(plans) if x is None else self._in_place(plans, x)

    def _copied(self, plans):
        with closing(read_ahead(self._stored, plans, self._buffers)) as windows:
            for plan, x in windows:
                yield (x, *self._rows.take_labels(self.train_rows[plan])), np.arange(len(plan))
        self._stored.checked = True

    def _in_place(self, plans, x):
        """Not copied: for a small net that takes as long as its training does."""
        labels = self._rows.take_labels(slice(None))
        for plan, following in zip(plans, (*plans[1:], NO_ROWS), strict=True):
            self._stored.read_soon(following)
            yield (x, *labels), self.train_rows[plan]
            release(self._stored.source)


def block_order(n, window_rows, rng):
    """(n,) the numbers 0 ... n - 1 by shuffled blocks: so many at a time are the rows of a window."""
    block = min(n, max(1, window_rows // BLOCKS))
    starts = rng.permutation(-(-n // block)) * block
    order = (starts[:, None] + np.arange(block)).reshape(-1)
    return order[order < n]
