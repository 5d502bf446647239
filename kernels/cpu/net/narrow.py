"""Training steps of narrow nets: rows of the batch in the lanes, so that no lane is padding.

A layer of 8 or 10 outputs fills a third of a panel of columns. Here activations are kept transposed, in panels of P
rows: feature f of panel p starts at p · F P + f P, with F features in all, padded to whole tiles. Then
    zᵀ = Wᵀ hᵀ      the tile that reads ROWS neighbouring columns of W,
    dhᵀ = W dzᵀ     the tile that reads ROWS rows of W: no transposed copy of W,
    dW = hᵀ dz      the tile of dot products (`dots`),
with W in the same panels as everywhere, and a loss takes a lane per row.

A step again has two phases with a barrier after each:
    rows      a chunk of rows, block by block: gather, forward, loss, backward, and the block's share of dW and db,
              added to the chunk's own sum while the block is in the cache.
    weights   the sums of all chunks, in their order, and the optimizer.
How a batch is divided into chunks depends on its size alone, hence the bits do not depend on threads.
"""
from typing import NamedTuple

import numpy as np

from ...losses import SOFTMAX_CROSS_ENTROPY
from ..jit import inlined, loop_entry, outlined
from ..threads import ROWS_TAKEN, WEIGHTS_TAKEN, barrier, take
from ..tile.dots import ACROSS, DOTS, dots_tile
from ..tile.epilogues import activate, apply_rule
from ..tile.gemm import short_columns_tile, short_rows_tile
from ..tile.loss_rows import loss_row, softmax_label_panel
from ..vector.functions import step_constants, without_decay
from ..vector.panels import panel_width
from ..vector.pointers import at, broadcast, constant, get, lanes, load, put, step, store, transpose
from ..vector.simd import ROWS, first_lanes, select, sum_lanes
from .epoch import batch_weight, count_step, step_l2
from .layout import ACTIVATION, N_IN, N_OUT, B, W
from .network import fetch_row, input_number, input_vector

F_IN, F_OUT, INPUT, OUTPUT, GRADIENT, BIAS = range(6)     # columns of `NarrowWork.layout`


class NarrowWork(NamedTuple):
    """Scratch memory: a block of rows for each thread, sums for each chunk."""

    chunk: int                   # rows whose gradients are summed together, a multiple of `block`
    block: int                   # rows that pass through the net at once, a multiple of P
    layout: np.ndarray           # (layers, 6): padded features in and out; offsets of x, y, dz, biases
    h: np.ndarray                # (threads, ...) transposed activations of a block
    dz: np.ndarray               # (threads, ...) slopes, then ∂loss/∂z
    bias: np.ndarray             # (threads, ...) each bias P times
    rows: np.ndarray             # (threads, ...) scratch: rows of outputs, and a lane each of labels, scales, losses
    w: np.ndarray                # (chunks, weights) Σ dW of a chunk, in panels
    b: np.ndarray                # (chunks, biases)
    sums: np.ndarray             # (chunks, 2) float64: Σ loss, Σ correct


# ------------------------------------------------------------------------------- a block of rows

@inlined
def _spread_biases(net, work, thread):
    width = panel_width(at(net.w, 0))
    for layer in range(net.table.shape[0]):
        for j in range(net.table[layer, N_OUT]):
            value = get(at(net.b, net.table[layer, B]), j)
            for v in range(0, width, lanes(at(net.w, 0))):
                store(at(work.bias, thread * work.bias.shape[1] + work.layout[layer, BIAS]), j * width + v, value)


@outlined
def _gather(data, order, first, present, n, scratch, x):
    """Rows order[first ...] into the lanes of x (n features, P apart); lanes from `present` on become zero."""
    width, count = panel_width(x), lanes(x)
    real = min(present, count)
    for r in range(count):
        fetch_row(data, order, first + count + r, n)
    for c in range(0, n, count):
        if c + count <= n or data.itemsize > 1:
            for r in range(real):
                store(scratch, r * count, input_vector(data, order[first + r] * n, c, n - c, x))
        else:
            for r in range(real):
                for j in range(c, n):
                    put(scratch, r * count + j - c, input_number(data, order[first + r] * n, j, x))
        for r in range(max(real, 0), count):
            store(scratch, r * count, 0.0)
        transpose(scratch, count, step(x, c * width), width)


@outlined
def _forward(net, work, layer, x, y, slopes, bias):
    """One panel of rows through a layer: y = f(W'x + b), f' into slopes."""
    n_in, n_out = net.table[layer, N_IN], net.table[layer, N_OUT]
    width = panel_width(x)
    for g in range(0, n_out, ROWS):
        w = at(net.w, net.table[layer, W] + (g // width) * n_in * width + g % width)
        short_columns_tile(w, x, n_in, step(y, g * width))
    activate(net.table[layer, ACTIVATION], y, bias, width, n_out, width, y, slopes)


@outlined
def _backward(net, layer, dz, slopes, tile):
    """One panel of rows back through a layer: dz of the layer below in place of its slopes."""
    n_in, n_out = net.table[layer, N_IN], net.table[layer, N_OUT]
    width = panel_width(dz)
    for g in range(0, n_in, ROWS):
        short_rows_tile(at(net.w, net.table[layer, W] + g * width), n_in * width, dz, n_out, tile)
        for i in range(0, ROWS * width, lanes(dz)):
            store(slopes, g * width + i, load(tile, i) * load(slopes, g * width + i))


@outlined
def _loss(recipe, data, order, first, present, n_out, features, weight_sum, y, dz, scratch, sums):
    """Losses of a panel's rows added to sums (loss, correct), and dz = gradient · slopes; y becomes the gradient."""
    width, count = panel_width(y), lanes(y)
    labels = step(scratch, count * features)
    weights, scales, losses, correct = (step(labels, width), step(labels, 2 * width), step(labels, 3 * width),
                                      step(labels, 4 * width))
    for v in range(0, width, count):
        store(weights, v, select(first_lanes(present - v, y), broadcast(1.0, y), 0.0))
    if data.weights.size > 0:
        for i in range(present):
            put(weights, i, data.weights[order[first + i]])
    for v in range(0, width, count):
        store(scales, v, load(weights, v) * (1.0 / weight_sum if weight_sum > 0.0 else 0.0))
    if data.weights.size > 0 and weight_sum > 0.0:
        for i in range(width):           # in float64: 1 / Σ w of weights of 1e-40 is infinite in float32
            put(scales, i, np.float64(get(weights, i)) / weight_sum)
    if data.labels.size > 0:
        for i in range(present):
            put(labels, i, data.labels[order[first + i]])
    if recipe.loss == SOFTMAX_CROSS_ENTROPY and data.labels.size > 0:
        softmax_label_panel(y, n_out, labels, scales, losses, correct)
    else:
        for v in range(0, width, count):
            _loss_by_rows(recipe, data, order, first + v, min(present - v, count), n_out, features, step(y, v), scratch,
                          step(scales, v), step(losses, v), step(correct, v))
    if data.weights.size > 0:
        for i in range(present):         # in float64 as well: a loss of 4 times a weight of 1e38 is infinite in float32
            sums[0] += np.float64(get(losses, i)) * get(weights, i)
    for v in range(0, width, count):
        if data.weights.size == 0:
            sums[0] += sum_lanes(load(losses, v) * load(weights, v))
        sums[1] += sum_lanes(select(first_lanes(present - v, y), load(correct, v), 0.0))
    for i in range(0, n_out * width, count):
        store(dz, i, load(y, i) * load(dz, i))


@outlined
def _loss_by_rows(recipe, data, order, first, present, n_out, features, y, scratch, scales, losses, correct):
    """The other losses: outputs back into rows, a row at a time, gradients into lanes again."""
    width, count = panel_width(y), lanes(y)
    for c in range(0, features, count):
        transpose(step(y, c * width), width, step(scratch, c), features)
    for i in range(count):
        z = step(scratch, i * features)
        if i < present:
            row = order[first + i]
            label = data.labels[row] if data.labels.size > 0 else -1
            value, good = loss_row(recipe.loss, recipe.loss_parameter, z, width, n_out, label,
                                   at(data.targets, row * data.targets.shape[1]), get(scales, i), z)
            put(losses, i, value)
            put(correct, i, good)
        else:
            put(losses, i, 0.0)
            for c in range(0, features, count):
                store(z, c, 0.0)
    for c in range(0, features, count):
        transpose(step(scratch, c), features, step(y, c * width), width)


@outlined
def _add_gradients(net, work, layer, h, dz, panels, w, b):
    """dW += hᵀ dz and db += Σ dz over the block's panels."""
    n_in, n_out = net.table[layer, N_IN], net.table[layer, N_OUT]
    width = panel_width(h)
    h_step, dz_step = work.layout[layer, F_IN] * width, work.layout[layer, F_OUT] * width
    for k in range(0, n_in, DOTS):
        for j in range(0, n_out, ACROSS):
            dots_tile(step(h, k * width), h_step, step(dz, j * width), dz_step, panels, n_in - k,
                      step(w, (j // width) * n_in * width + k * width + j % width), width)
    for j in range(n_out):
        total = broadcast(0.0, dz)
        for p in range(panels):
            for v in range(0, width, lanes(dz)):
                total = total + load(dz, p * dz_step + j * width + v)
        put(b, j, get(b, j) + sum_lanes(total))


@outlined
def _block(net, work, data, order, start, real, thread, recipe, weight_sum, chunk):
    """Rows order[start : start + real] all the way, and their gradients added to those of the chunk."""
    last, width = net.table.shape[0] - 1, panel_width(at(net.w, 0))
    count = lanes(at(net.w, 0))
    panels = (real + width - 1) // width
    scratch = at(work.rows, thread * work.rows.shape[1])
    h, dz = at(work.h, thread * work.h.shape[1]), at(work.dz, thread * work.dz.shape[1])
    bias = at(work.bias, thread * work.bias.shape[1])
    n_in, n_out, features = net.table[0, N_IN], net.table[last, N_OUT], work.layout[last, F_OUT]
    for p in range(panels):
        x = step(h, p * work.layout[0, F_IN] * width)
        for v in range(0, width, count):
            done = p * width + v
            _gather(data, order, start + done, real - done, n_in, scratch, step(x, v))
        for layer in range(last + 1):
            _forward(net, work, layer, step(h, work.layout[layer, INPUT] + p * work.layout[layer, F_IN] * width),
                     step(h, work.layout[layer, OUTPUT] + p * work.layout[layer, F_OUT] * width),
                     step(dz, work.layout[layer, GRADIENT] + p * work.layout[layer, F_OUT] * width),
                     step(bias, work.layout[layer, BIAS]))
        y = step(h, work.layout[last, OUTPUT] + p * features * width)
        top = step(dz, work.layout[last, GRADIENT] + p * features * width)
        _loss(recipe, data, order, start + p * width, min(real - p * width, width), n_out, features, weight_sum, y, top,
              scratch, work.sums[chunk])
        for layer in range(last, 0, -1):
            _backward(net, layer, step(dz, work.layout[layer, GRADIENT] + p * work.layout[layer, F_OUT] * width),
                      step(dz, work.layout[layer - 1, GRADIENT] + p * work.layout[layer, F_IN] * width), scratch)
    for layer in range(last + 1):
        _add_gradients(net, work, layer, step(h, work.layout[layer, INPUT]), step(dz, work.layout[layer, GRADIENT]),
                       panels, at(work.w, chunk * work.w.shape[1] + net.table[layer, W]),
                       at(work.b, chunk * work.b.shape[1] + net.table[layer, B]))


# ------------------------------------------------------------------------------- weights

@inlined
def _clear(p, size):
    for i in range(0, size, lanes(p)):
        store(p, i, 0.0)


@inlined
def _sum_chunks(sums, used, start, size):
    """Σ over the chunks in their order, in place of the first."""
    first = at(sums, start)
    for c in range(1, used):
        other = at(sums, c * sums.shape[1] + start)
        for i in range(0, size, lanes(first)):
            store(first, i, load(first, i) + load(other, i))
    return first


@outlined
def _update(net, slots, work, layer, panel, used, rule, l2, constants):
    """The optimizer on a panel of out-features; on the biases if panel is -1."""
    n_in, n_out = net.table[layer, N_IN], net.table[layer, N_OUT]
    width = panel_width(at(net.w, 0))
    if panel < 0:
        here, size = net.table[layer, B], (n_out + width - 1) // width * width
        g = _sum_chunks(work.b, used, here, size)
        apply_rule(rule, at(net.b, here), g, at(slots.b1, here), at(slots.b2, here), np.intp(1), size, size,
                   constant(0.0, g), constants)
    else:
        here, columns = net.table[layer, W] + panel * n_in * width, n_out - panel * width
        g = _sum_chunks(work.w, used, here, n_in * width)
        apply_rule(rule, at(net.w, here), g, at(slots.w1, here), at(slots.w2, here), n_in,
                   width if columns > lanes(g) else lanes(g), width, constant(l2, g), constants)


# ------------------------------------------------------------------------------- steps

@loop_entry
def train_narrow_steps(thread, threads, control, net, slots, work, data, order, rates, recipe, totals,
                       first, last, steps_before):
    """`epoch.train_steps` for narrow nets; recipe.tasks lists panels of out-features."""
    for s in range(first, last):
        start = s * recipe.batch
        m = min(recipe.batch, order.size - start)
        step_number = steps_before + s - first
        weight_sum = batch_weight(data, order, start, m)
        chunks = (m + work.chunk - 1) // work.chunk

        _spread_biases(net, work, thread)
        while True:
            chunk = take(control, ROWS_TAKEN)
            if chunk >= chunks:
                break
            _clear(at(work.w, chunk * work.w.shape[1]), work.w.shape[1])
            _clear(at(work.b, chunk * work.b.shape[1]), work.b.shape[1])
            work.sums[chunk, 0] = work.sums[chunk, 1] = 0.0
            for row in range(chunk * work.chunk, min(m, (chunk + 1) * work.chunk), work.block):
                real = min(work.block, min(m, (chunk + 1) * work.chunk) - row)
                _block(net, work, data, order, start + row, real, thread, recipe, weight_sum, chunk)
        if not barrier(control, threads):
            return

        constants = step_constants(recipe.rule, recipe.hyper, rates[s], step_number + 1)
        bias_constants = without_decay(constants)
        l2 = step_l2(recipe, weight_sum)
        while True:
            task = take(control, WEIGHTS_TAKEN)
            if task >= recipe.tasks.shape[0]:
                break
            layer, panel = recipe.tasks[task, 0], recipe.tasks[task, 1]
            _update(net, slots, work, layer, panel, chunks, recipe.rule, l2,
                    constants if panel >= 0 else bias_constants)
        if thread == 0:
            for c in range(chunks):
                totals.sums[0] += work.sums[c, 0]
                totals.sums[1] += work.sums[c, 1]
            count_step(totals, weight_sum)
        if not barrier(control, threads):
            return
