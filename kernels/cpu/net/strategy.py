"""How a net is trained: on panels, on panels with zeros stepped over, or narrow. Chosen here, once a state, and logged.

What decides the bits of a training is decided by what is declared, sizes, batch and dropout, and never by the data: a
run that is resumed sees other rows first. Whether zeros are stepped over is the one thing that the data decide; it
changes no bits.
"""
import logging
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ...losses import SOFTMAX_CROSS_ENTROPY
from ..vector.panels import python_panel_width, round_up
from ..vector.simd import ROWS
from .arrange import room_for_arranging
from .epoch import train_steps
from .layout import B, W, aligned_rows, buffer_rows, cache_aligned, padded_rows, plan
from .narrow import NarrowWork, train_narrow_steps
from .network import Work
from .sparse import room_for_lists
from .zeros import has_zeros_to_skip, pair_quads

log = logging.getLogger("fastmlp")

# Rows that a thread takes at a time, at most: enough tiles to share the fetching of the next weights.
BLOCK = 64

# Sorting the rows of a batch by class takes about a microsecond: first layers from this size on take fifty and more.
ARRANGED_WEIGHTS, ARRANGED_CLASSES = 50_000, 256

# Rows in lanes (`narrow`) or columns (`network`)? Measured on nets of 2 to 100 units and batches of 8 to 256, the first
# takes 0.6 to 0.95 of the other's time within these bounds, 1.05 at their edge. Summing over lanes costs by the weight,
# whatever the batch.
NARROW_WIDTH = 128
NARROW_WEIGHTS = 10_000
NARROW_WEIGHTS_PER_ROW = 100
NARROW_BLOCK = 128               # rows at a time, and at least so many for each thread
NARROW_CHUNKS = 16               # parts of a batch, at most, whose gradients are summed apart
NO_QUADS = np.empty((0, 2), np.int32)


class Strategy(NamedTuple):
    """A way to train."""

    name: str
    why: str
    steps: Callable              # what the threads run: `epoch.train_steps` or another with the same arguments
    make_work: Callable          # (sizes, activations, recipe, threads, dtype) -> its scratch memory
    widths: Callable             # sizes -> the sides of the W's that are divided into tasks: `tasks_of`


def choose(sizes, recipe, dropout, dtype, x):
    """The `Strategy` for a net and the data it sees first."""
    if is_narrow(sizes, recipe.batch) and not dropout.any():
        chosen = Strategy("narrow", f"at most {NARROW_WIDTH} units a layer, few weights and no dropout",
                          train_narrow_steps, make_narrow_work, lambda sizes: sizes[1:])
    else:
        sparse = fits_lists(sizes, recipe.batch, dtype) and has_zeros_to_skip(x)
        quads, arranged = pair_quads(x) if sparse else NO_QUADS, is_arranged(sizes, recipe.loss, dropout)

        def make(sizes, activations, recipe, threads, dtype):
            _, need = plan(sizes, activations, recipe.batch, dtype)
            block = min(BLOCK, padded_rows(-(-recipe.batch // threads), dtype))
            room = room_for_arranging(recipe.batch, sizes[-1]) if arranged else 0
            return make_work(sizes, need, recipe.batch, block, True, threads, dtype, sparse, quads, room)

        chosen = Strategy("sparse panels" if sparse else "panels",
                          "many zeros in X" if sparse else "few zeros in X, or too many rows and columns to list them",
                          train_steps, make, lambda sizes: sizes[:-1])
    log.info("training %s: %s (%s)", "-".join(map(str, sizes)), chosen.name, chosen.why)
    return chosen


def is_narrow(sizes, batch):
    weights = sum(n_in * n_out for n_in, n_out in pairwise(sizes))
    return max(sizes) <= NARROW_WIDTH and weights <= min(NARROW_WEIGHTS, NARROW_WEIGHTS_PER_ROW * batch)


def fits_lists(sizes, batch, dtype):
    """Whether the lists of what is not zero can hold all positions, which are of 32 bits."""
    _, need = plan(sizes, (0,) * (len(sizes) - 1), batch, dtype)
    return max(need.activations, need.weights) < 1 << 31


def is_arranged(sizes, loss, dropout):
    """Whether the rows of a batch are sorted by class. It changes the order of sums, so it must not depend on the data
    seen first, sparse or not. Masks of dropout go by a row's position."""
    return (loss == SOFTMAX_CROSS_ENTROPY and sizes[-1] <= ARRANGED_CLASSES
            and sizes[0] * sizes[1] >= ARRANGED_WEIGHTS and not dropout.any())


def tasks_of(widths, dtype):
    """What threads share in the weights' phase: (layer, panel of so wide a side of its W), panel -1 for its biases."""
    width = python_panel_width(dtype)
    return np.array([(layer, panel) for layer, n in enumerate(widths) for panel in (*range(-(-n // width)), -1)],
                    np.int64).reshape(-1, 2)


def make_work(sizes, need, rows, block, training, threads, dtype, sparse, quads=NO_QUADS, arranged=0):
    rows, width = buffer_rows(rows, dtype), python_panel_width(dtype)
    lists = room_for_lists(sizes[0], rows, block, width)
    return Work(rows, block, training, cache_aligned(need.activations, dtype), cache_aligned(need.gradients, dtype),
                np.zeros((threads, width * (max(3 * ROWS, width) + 4)), dtype),
                np.zeros((threads, lists if sparse else 0), np.int32),
                np.zeros((-(-sizes[0] // width), rows) if sparse else (0, 0), np.uint32),
                quads, np.zeros(threads * arranged, np.int64),
                aligned_rows(threads, width * rows if len(quads) else 0, dtype))


def make_narrow_work(sizes, activations, recipe, threads, dtype):
    batch = recipe.batch
    table, _ = plan(sizes, activations, batch, dtype)
    width = python_panel_width(dtype)
    chunk = round_up(max(NARROW_BLOCK, -(-batch // NARROW_CHUNKS)), NARROW_BLOCK)
    block = min(NARROW_BLOCK, round_up(batch, width))
    features = [padded_rows(size, dtype) for size in sizes]
    layout = np.zeros((len(table), 6), np.int64)
    x = dz = bias = 0
    for layer, (f_in, f_out) in enumerate(pairwise(features)):
        y = x + block * f_in
        layout[layer] = f_in, f_out, x, y, dz, bias
        x, dz, bias = y, dz + block * f_out, bias + width * sizes[layer + 1]
    scratch = max(width * (features[-1] + 5), ROWS * width)
    w, b = table[-1, W] + sizes[-2] * round_up(sizes[-1], width), table[-1, B] + round_up(sizes[-1], width)
    chunks = -(-batch // chunk)
    return NarrowWork(chunk, block, layout,
                      *(aligned_rows(threads, size, dtype) for size in (x + block * features[-1], dz, bias, scratch)),
                      aligned_rows(chunks, w, dtype), aligned_rows(chunks, b, dtype), np.zeros((chunks, 2)))


