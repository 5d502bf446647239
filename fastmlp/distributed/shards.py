"""An epoch over the rows of several ranks: which rows of each batch this rank has, and the steps all take together.

Of each batch a rank computes the gradient of its rows times their share of the batch's Σ w; the sum over ranks
(`collectives`) is the batch's gradient.
"""
from contextlib import closing
from itertools import pairwise

import numpy as np

from .sources import Windows, block_order, source_of


class Shards:
    """Rows in memory. Order and batches are those that one process with the rows of all ranks would draw.

    rows : finished `Rows` of this rank; train_rows : of all ranks, numbered through; batch_size : of all ranks together
    """

    def __init__(self, ranks, rows, train_rows, batch_size):
        self._ranks, self._rows, self._train_rows, self._batch = ranks, rows, train_rows, batch_size
        self._sum = None             # of gradients, over the ranks

    def train_epoch(self, kernels, state, rng, rates):
        ranks, weights = self._ranks, self._rows.weights
        self._sum = self._sum or ranks.gradients(state)
        batches, steps = self._draw(rng, kernels)
        sums = np.array([weights[batch].sum(dtype=np.float64) if weights.size else len(batch) for batch in batches],
                        np.float64)
        shares = np.divide(sums, ranks.sum(sums.copy()), out=np.zeros(len(sums)), where=sums > 0)
        totals = np.zeros(3)
        with closing(steps):
            for (arrays, batch), share, rate in zip(steps, shares, rates, strict=True):
                totals += kernels.batch_gradient(state, *arrays, batch, share)
                self._sum(state.gradients)
                kernels.apply_gradients(state, rate)
        return tuple(ranks.sum(totals).tolist())

    def evaluate(self, kernels, state):
        totals = np.zeros(4)
        if len(self._rows):
            totals[:3], totals[3] = source_of(self._rows).evaluate(kernels, state)
        totals = self._ranks.sum(totals)
        return tuple(totals[:3].tolist()), totals[3]

    def _draw(self, rng, kernels):
        """The rows of each batch that this rank has, as indices into its own; and, step by step, arrays as the kernels
        take them and the batch's rows in these."""
        order, ranks = rng.permutation(self._train_rows), self._ranks
        counts = [len(ranks.mine(order[start:start + self._batch])) for start in range(0, len(order), self._batch)]
        batches = np.split(ranks.mine(order), np.cumsum(counts)[:-1])
        return batches, ((self._rows, batch) for batch in batches)


class ShardsInWindows(Shards):
    """Stored rows. Each rank reads windows of its own, `window_rows` of its rows at a time, and draws their order from
    a generator of its own; of every batch it has as many rows as its share of all rows is, rounded up or down."""

    def __init__(self, ranks, rows, train_rows, batch_size):
        super().__init__(ranks, rows, train_rows, batch_size)
        if len(train_rows) == 0:
            return
        own, n, steps = ranks.mine(train_rows), len(train_rows), -(-len(train_rows) // batch_size)
        # Of the first s batches this rank has ends[s] rows.
        self._ends = np.minimum(np.arange(steps + 1) * batch_size, n) * len(own) // n
        self._steps = max(1, -(-rows.x.window_rows * steps // max(1, len(own))))     # of a window
        self._windows = Windows(rows, own, int(np.diff(self._ends[::self._steps], append=len(own)).max()))

    def _draw(self, rng, kernels):
        rng = np.random.default_rng((int(rng.integers(1 << 63)), self._ranks.rank))
        order = block_order(len(self._windows), self._rows.x.window_rows, rng)
        plans, positions = [], []
        for first in range(0, len(self._ends) - 1, self._steps):
            ends = self._ends[first:first + self._steps + 1]
            # The file is read forwards: the rows of a window are shuffled afterwards, in memory.
            plans.append(np.sort(order[ends[0]:ends[-1]]))
            shuffled = rng.permutation(ends[-1] - ends[0])
            positions.append([shuffled[start:stop] for start, stop in pairwise(ends - ends[0])])
        batches = [self._windows.train_rows[plan[batch]] for plan, window in zip(plans, positions, strict=True)
                   for batch in window]
        return batches, self._read(plans, positions, kernels)

    def _read(self, plans, positions, kernels):
        with closing(self._windows.read(plans, kernels)) as windows:
            for (arrays, rows), window in zip(windows, positions, strict=True):
                for batch in window:
                    yield arrays, rows[batch]
