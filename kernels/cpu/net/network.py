"""A whole net over a block of rows, forward, loss, backward: the rows' half of a training step. The other is `weights`.

A step has two phases, each shared among the threads by counters, with a barrier after each:
    rows      a block of rows goes all the way: gather, every layer forward, loss, every dz backward.
              Rows do not need each other, so nobody waits between layers.
    weights   the in-features of one panel: dW = hᵀ dz over the whole batch, one tile at a time, and the
              optimizer at once on the tile: the gradient never goes to memory.
Each number is computed by one thread alone, in an order set by the shapes: the bits do not depend on threads.

During forward the slope f'(z) goes to the dz buffer (times the dropout factor, where there is dropout); backward
multiplies it by dz Wᵀ in place. So one rule serves every activation, also those whose output does not tell
their slope.
"""
from typing import NamedTuple

import numpy as np

from ...losses import SOFTMAX_CROSS_ENTROPY
from ..jit import inlined, outlined
from ..tile.epilogues import activate
from ..tile.gemm import UNROLL, rows_tile, sparse_tile
from ..tile.loss_rows import loss_row, softmax_label_panel
from ..tile.masks import drop_panel
from ..vector.panels import panel_width, panels
from ..vector.pointers import (
    at,
    constant,
    fetch,
    get,
    lanes,
    load,
    load_bytes,
    load_first,
    put,
    reinterpret,
    step,
    store,
    transpose,
)
from ..vector.simd import ROWS, VECTOR_BYTES, mask_bits
from .layout import ACTIVATION, DZ, N_IN, N_OUT, WT, B, W, X, Y
from .sparse import LIST_SLACK, inputs_length, list_inputs, list_of


class Net(NamedTuple):
    """What a net is made of, as the kernels hold it."""

    table: np.ndarray            # (layers, 10) int64: `layout`
    dropout: np.ndarray          # (layers,) float64 rates
    w: np.ndarray                # weight panels
    wt: np.ndarray               # transposed weight panels of layers 1 ...
    b: np.ndarray                # biases, each layer padded to whole panels


class Work(NamedTuple):
    """Scratch memory for `rows` rows, and a piece for each thread."""

    rows: int                    # a multiple of ROWS
    block: int                   # rows that a thread takes at a time, a multiple of ROWS
    training: bool               # slopes are kept, dropout applies
    h: np.ndarray                # activation panels, the input first
    dz: np.ndarray               # slopes, then ∂loss/∂z
    tiles: np.ndarray            # (threads, ...): a tile and its slopes, or the outputs of some rows
    index: np.ndarray            # (threads, ...) int32: lists of the steps that are not all zero
    nonzero: np.ndarray          # (input panels, rows) uint32: a bit for each x that is not 0; or (0, 0)
    quads: np.ndarray            # int32 (tiles of in-features, 2): `zeros.pair_quads`; or (0, 2)
    arranged: np.ndarray         # int64, for each thread: a batch's rows by class, and scratch (`arrange`)
    packed: np.ndarray           # (threads, ...): what the tiles of a panel's in-features read of h


class Data(NamedTuple):
    """Rows to train on or to evaluate on."""

    x: np.ndarray                # the bytes of X, row-major
    itemsize: int                # 1: uint8; else X has the net's dtype
    scale: float                 # multiplies X on its way in
    labels: np.ndarray           # int64 (n,) or (0,)
    targets: np.ndarray          # (n, outputs) or (0, 0)
    weights: np.ndarray          # (n,) or (0,)


LINE_BYTES = 64                  # of cache
FETCH_AHEAD = 4                  # rows: 3, 6 and 12 are alike: a step of lab 1 97 -> 63 to 66 µs


# ------------------------------------------------------------------------------- input

@inlined
def input_vector(data, start, j, left, like):
    """Vector j, j + 1, ... of the input row whose first element is number `start`; numbers past the `left` are 0.

    Bytes come by whole vectors only: `left` is at least that many.
    """
    if data.itemsize == 1:
        return load_bytes(at(data.x, start), j, like) * data.scale
    return load_first(reinterpret(at(data.x, start * data.itemsize), like), j, left) * data.scale


@inlined
def input_number(data, start, j, like):
    if data.itemsize == 1:
        return constant(get(at(data.x, start), j), like) * constant(data.scale, like)
    return get(reinterpret(at(data.x, start * data.itemsize), like), j) * constant(data.scale, like)


@inlined
def fetch_row(data, order, i, n):
    """Asks for the row that is number i of the order, if there is one: rows lie anywhere, each is a wait for memory."""
    if i < order.size:
        size = n * data.itemsize
        for line in range(0, size, LINE_BYTES):
            fetch(at(data.x, order[i] * size + line))


@outlined
def gather_row(data, row, n, out, rows, nonzero, sparse):
    """One row of X, scaled, into panels of `rows` rows; if sparse, also a bit for each element that is not zero."""
    width = panel_width(out)
    for q in range(n // width):
        first = input_vector(data, row * n, q * width, width, out)
        second = input_vector(data, row * n, q * width + lanes(out), width, out)
        store(out, q * rows * width, first)
        store(out, q * rows * width + lanes(out), second)
        if sparse:
            put(nonzero, q * rows, mask_bits(first != 0.0) | mask_bits(second != 0.0) << lanes(out))
    if n % width > 0:
        q, marks = n // width, 0
        for j in range(n % width):
            value = input_number(data, row * n, q * width + j, out)
            put(out, q * rows * width + j, value)
            marks |= (1 if value != 0 else 0) << j
        if sparse:
            put(nonzero, q * rows, marks)


# ------------------------------------------------------------------------------- rows

@outlined
def forward_layer(net, work, layer, first, rows, thread, sparse, seed, step_number):
    """h_out = dropout(f(h W + b)) for rows first .. first + rows - 1 (a multiple of ROWS); slopes into dz."""
    n_in, n_out = net.table[layer, N_IN], net.table[layer, N_OUT]
    width = panel_width(at(net.w, 0))
    capacity = work.rows
    x, tile = at(work.h, net.table[layer, X] + first * width), at(work.tiles, thread * work.tiles.shape[1])
    last = panels(n_out, x) - 1
    for p in range(last + 1):
        columns = n_out - p * width
        w = at(net.w, net.table[layer, W] + p * n_in * width)
        bias = at(net.b, net.table[layer, B] + p * width)
        y = at(work.h, net.table[layer, Y] + p * capacity * width + first * width)
        slopes = at(work.dz, net.table[layer, DZ] + p * capacity * width + first * width)
        for r in range(0, rows, ROWS):
            prefetch = _share(w, p < last, n_in, width, r // ROWS)
            if sparse:
                listed = list_of(work, thread, r // ROWS, inputs_length(n_in))
                sparse_tile(step(x, r * width), step(listed, 1), w, step(listed, 1 + n_in + LIST_SLACK), columns,
                            get(listed, 0), prefetch, tile)
            else:
                rows_tile(step(x, r * width), capacity * width, w, columns, n_in, prefetch, tile)
            slope = step(slopes, r * width) if work.training else step(tile, ROWS * width)
            activate(net.table[layer, ACTIVATION], tile, bias, 0, ROWS, columns, step(y, r * width), slope)
        if work.training and net.dropout[layer] > 0.0:
            drop_panel(y, slopes, first, rows, p * width, columns, net.dropout[layer], seed, step_number, layer)


@inlined
def _share(panel, more, depth, width, turn):
    """What tile number `turn` of a block asks for while it runs: its share of the next panel."""
    lines = depth // UNROLL * turn
    return step(panel, (depth * width if more else 0) + lines * (LINE_BYTES * lanes(panel) // VECTOR_BYTES))


@outlined
def backward_layer(net, work, layer, first, rows, thread):
    """dz of the layer below: (dz Wᵀ) ⊙ slopes, in place of the slopes."""
    n_in, n_out = net.table[layer, N_IN], net.table[layer, N_OUT]
    width = panel_width(at(net.w, 0))
    capacity = work.rows
    dz, tile = at(work.dz, net.table[layer, DZ] + first * width), at(work.tiles, thread * work.tiles.shape[1])
    last = panels(n_in, dz) - 1
    for p in range(last + 1):
        wt = at(net.wt, net.table[layer, WT] + p * n_out * width)
        below = at(work.dz, net.table[layer - 1, DZ] + p * capacity * width + first * width)
        for r in range(0, rows, ROWS):
            rows_tile(step(dz, r * width), capacity * width, wt, n_in - p * width, n_out,
                      _share(wt, p < last, n_out, width, r // ROWS), tile)
            target = step(below, r * width)
            for i in range(0, ROWS * width, lanes(tile)):
                store(target, i, load(tile, i) * load(target, i))


@outlined
def forward_block(net, work, data, order, first, start, m, thread, seed, step_number):
    """Gathers rows order[start + first ...] (start + first ... where order is empty) and runs them through the net.

    m: rows of the batch. Returns how many rows the block has: work.block, or fewer at the batch's end.
    """
    n_in = net.table[0, N_IN]
    width = panel_width(at(net.w, 0))
    capacity, sparse = work.rows, work.nonzero.size > 0
    real = min(work.block, m - first)
    rows = (real + ROWS - 1) // ROWS * ROWS
    for r in range(first, first + real):
        row = order[start + r] if order.size > 0 else start + r
        fetch_row(data, order, start + r + FETCH_AHEAD, n_in)
        gather_row(data, row, n_in, at(work.h, r * width), capacity, at(work.nonzero, r), sparse)
    if sparse:
        for r in range(0, rows, ROWS):
            list_inputs(at(work.nonzero, first + r), capacity, n_in, width,
                        list_of(work, thread, r // ROWS, inputs_length(n_in)))
    for layer in range(net.table.shape[0]):
        forward_layer(net, work, layer, first, rows, thread, sparse and layer == 0, seed, step_number)
    return real


@inlined
def row_weight(data, row):
    return float(data.weights[row]) if data.weights.size > 0 else 1.0


@outlined
def loss_block(net, work, data, order, first, start, real, thread, loss, parameter, weight_sum, row_loss, row_correct):
    """Losses of the block's rows, and their gradient in place of the outputs."""
    last = net.table.shape[0] - 1
    n_out, width = net.table[last, N_OUT], panel_width(at(net.w, 0))
    if loss == SOFTMAX_CROSS_ENTROPY and data.labels.size > 0 and n_out <= width:
        _loss_lanes(net, work, data, order, first, start, real, thread, weight_sum, row_loss, row_correct)
        return
    capacity = work.rows
    for r in range(first, first + real):
        row = order[start + r] if order.size > 0 else start + r
        label = data.labels[row] if data.labels.size > 0 else -1
        weight = row_weight(data, row)
        y = at(work.h, net.table[last, Y] + r * width)
        scale = weight / weight_sum if weight_sum > 0.0 else 0.0
        value, correct = loss_row(loss, parameter, y, capacity * width, n_out, label,
                                at(data.targets, row * data.targets.shape[1]), constant(scale, y), y)
        row_loss[r] = value * weight
        row_correct[r] = correct


@inlined
def _loss_lanes(net, work, data, order, first, start, real, thread, weight_sum, row_loss, row_correct):
    """Softmax cross-entropy with labels where the outputs fit in a panel: a lane for each row, 10 times faster than a
    row at a time. Lanes without a row have scale 0, hence gradient 0."""
    last = net.table.shape[0] - 1
    n_out, width = net.table[last, N_OUT], panel_width(at(net.w, 0))
    z = at(work.tiles, thread * work.tiles.shape[1])
    count = lanes(z)
    labels = step(z, width * width)
    scales, losses, correct = step(labels, width), step(labels, 2 * width), step(labels, 3 * width)
    for r in range(first, first + real, width):
        present = min(width, first + real - r)
        for v in range(0, width, count):
            store(scales, v, 0.0)
        for i in range(present):
            row = order[start + r + i] if order.size > 0 else start + r + i
            put(labels, i, data.labels[row])
            put(scales, i, row_weight(data, row) / weight_sum if weight_sum > 0.0 else 0.0)
        y = at(work.h, net.table[last, Y] + r * width)
        for c in range(0, n_out, count):
            for v in range(0, width, count):
                transpose(step(y, v * width + c), width, step(z, c * width + v), width)
        softmax_label_panel(z, n_out, labels, scales, losses, correct)
        for c in range(0, n_out, count):
            for v in range(0, width, count):
                transpose(step(z, c * width + v), width, step(y, v * width + c), width)
        for i in range(present):
            row = order[start + r + i] if order.size > 0 else start + r + i
            row_loss[r + i] = get(losses, i) * row_weight(data, row)
            row_correct[r + i] = get(correct, i)


@outlined
def backward_block(net, work, first, real, thread):
    """From ∂loss/∂y in place of the outputs to dz of every layer."""
    last = net.table.shape[0] - 1
    n_out, width = net.table[last, N_OUT], panel_width(at(net.w, 0))
    capacity = work.rows
    rows = (real + ROWS - 1) // ROWS * ROWS
    for p in range(panels(n_out, at(net.w, 0))):
        offset = p * capacity * width + first * width
        dy, dz = at(work.h, net.table[last, Y] + offset), at(work.dz, net.table[last, DZ] + offset)
        for i in range(0, rows * width, lanes(dz)):
            store(dz, i, load(dy, i) * load(dz, i))
    for layer in range(last, 0, -1):
        backward_layer(net, work, layer, first, rows, thread)
