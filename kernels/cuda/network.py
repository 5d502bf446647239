"""A net in a GPU's memory, and the launches that are its forward pass and its training step.

All parameters lie in one flat array (the layout of `kernels`), all activations in one, all slopes and gradients in one;
a layer is a set of offsets. Launches hold nothing that changes from step to step (`control`), so that they can be
captured in a graph once and replayed for ever.
"""
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .. import activations as codes
from .. import losses as loss_codes
from . import dense, large, losses, steps
from .large import Product, handed_over
from .machine import Launch
from .philox import keep_threshold


@dataclass(frozen=True)
class Layer:
    """Offsets of one layer; x, y and dz lie in the arrays of a `Work`."""

    number: int
    n_in: int
    n_out: int
    activation: int
    rate: float                      # of dropout
    w_at: int
    x_at: int
    y_at: int
    dz_at: int

    @property
    def b_at(self):
        return self.w_at + self.n_in * self.n_out


def layers_of(sizes, activations, dropout, rows):
    """The layers of a net whose buffers hold `rows` rows."""
    layers, w_at, x_at = [], 0, 0
    for number, (n_in, n_out) in enumerate(pairwise(sizes)):
        y_at = x_at + rows * n_in
        layers.append(Layer(number, n_in, n_out, activations[number], dropout[number], w_at, x_at, y_at,
                            y_at - rows * sizes[0]))
        w_at, x_at = w_at + (n_in + 1) * n_out, y_at
    return layers


@dataclass(frozen=True, eq=False)
class Work:
    """Buffers for `rows` rows of a net."""

    rows: int
    layers: list
    h: object                        # the input and every layer's output
    dz: object                       # every layer's slopes, then its ∂loss/∂z
    losses: object                   # (rows,) of each row
    correct: object                  # (rows,) int64
    product: object                  # what becomes of a layer first in the backward pass: dz Wᵀ, or dW and db
    precision: str                   # of cuBLAS's products


def make_work(machine, sizes, activations, dropout, rows, dtype, precision="float32", training=False):
    layers = layers_of(sizes, activations, dropout, rows)
    product = [max(rows * layer.n_in, (layer.n_in + 1) * layer.n_out)
               for layer in layers if training and handed_over(rows, layer.n_in, layer.n_out)]
    return Work(rows, layers, machine.empty(rows * sum(sizes), dtype), machine.empty(rows * sum(sizes[1:]), dtype),
                machine.zeros(rows, dtype), machine.zeros(rows, np.int64),
                machine.empty(max(product, default=1), dtype), precision)


def blocks(count, size):
    return -(-count // size)


def gather(work, data, order, control, scale, dtype):
    """The step's rows of x, scaled, as the first layer's input."""
    count = work.rows * data.features
    return Launch(steps.kernels(dtype).gather, blocks(count, steps.THREADS), steps.THREADS,
                  (data.x, order, control, data.features, dtype(scale), work.h, 0))


def elementwise(kernel, count, *arguments):
    """A launch of one of the kernels of `large`, a thread a number."""
    return Launch(kernel, blocks(count, large.THREADS), large.THREADS, arguments)


def forward(work, parameters, control, dtype, tiles, seed=0, training=False):
    """Every layer's y = dropout(f(h W + b)), and its slope where training needs it."""
    launches = []
    for layer in work.layers:
        last = layer is work.layers[-1]
        slopes = training and not (last and layer.activation == codes.IDENTITY)
        finish = (layer.activation, work.h, layer.y_at, work.dz, layer.dz_at, int(slopes),
                  dtype(1 / (1 - layer.rate)), keep_threshold(layer.rate) if training else 0, seed, layer.number)
        if handed_over(work.rows, layer.n_in, layer.n_out):
            launches += [
                Product(work.h, layer.x_at, False, parameters, layer.w_at, False, work.h, layer.y_at, work.rows,
                        layer.n_in, layer.n_out, work.precision),
                elementwise(large.kernels(dtype).finish_forward, work.rows * layer.n_out, parameters, layer.b_at,
                            control, layer.n_out, *finish)]
        else:
            tile = tiles(dtype, work.rows, layer.n_out)
            launches.append(Launch(
                dense.kernels(dtype, tile).forward, tile.count(work.rows, layer.n_out), tile.threads,
                (work.h, layer.x_at, parameters, layer.w_at, parameters, layer.b_at, control, layer.n_in, layer.n_out,
                 *finish)))
    return launches


def loss(work, data, order, control, sums, code, parameter, dtype, training):
    """Every row's loss, and ∂loss/∂z of the last layer."""
    last = work.layers[-1]
    return Launch(losses.kernels(dtype).row_loss, blocks(work.rows, losses.WARPS), 32 * losses.WARPS, (
        code, dtype(parameter), work.h, last.y_at, last.n_out, data.labels, data.targets, data.weights, order, control,
        sums, int(training and last.activation != codes.IDENTITY), work.dz, last.dz_at, work.losses, work.correct))


def backward(work, parameters, control, dtype, tiles):
    """dz of every layer but the last, from the last to the first: dz Wᵀ times the slopes that lie there."""
    launches = []
    for layer in reversed(work.layers[1:]):
        dx_at = work.layers[layer.number - 1].dz_at
        if handed_over(work.rows, layer.n_in, layer.n_out):
            launches += [
                Product(work.dz, layer.dz_at, False, parameters, layer.w_at, True, work.product, 0, work.rows,
                        layer.n_out, layer.n_in, work.precision),
                elementwise(large.kernels(dtype).times_slopes, work.rows * layer.n_in, work.product, control,
                            layer.n_in, work.dz, dx_at)]
        else:
            tile = tiles(dtype, work.rows, layer.n_in)
            launches.append(Launch(
                dense.kernels(dtype, tile).input_gradient, tile.count(work.rows, layer.n_in), tile.threads,
                (work.dz, layer.dz_at, parameters, layer.w_at, control, layer.n_in, layer.n_out, 1, work.dz, dx_at)))
    return launches


def weight_update(machine, work, parameters, s1, s2, control, constants, rule, dtype, tiles):
    """dW and db of every layer and the optimizer on them: in one launch, but for layers whose dW is cuBLAS's, or is
    split along the rows."""
    launches, fused = [], []
    for layer in work.layers:
        optimizer = control, constants, rule, parameters, layer.w_at, s1, s2
        tile = tiles(dtype, layer.n_in + 1, layer.n_out)
        pieces = large.pieces_of(work.rows, tile.count(layer.n_in + 1, layer.n_out))
        if handed_over(work.rows, layer.n_in, layer.n_out):
            launches += large_update(work, layer, dtype, *optimizer)
        elif pieces > 1:
            launches += split_update(machine, work, layer, dtype, tile, pieces, *optimizer)
        else:
            fused.append(layer)
    if fused:
        launches.append(fused_update(machine, work, fused, parameters, s1, s2, control, constants, rule, dtype, tiles))
    return launches


def fused_update(machine, work, layers, parameters, s1, s2, control, constants, rule, dtype, tiles):
    """The update of these layers in one launch."""
    widest = max(layers, key=lambda layer: layer.n_in * layer.n_out)
    tile = tiles(dtype, widest.n_in + 1, widest.n_out)
    table, first = [], 0
    for layer in layers:
        table.append((first, layer.w_at, layer.x_at, layer.dz_at, layer.n_in, layer.n_out))
        first += tile.count(layer.n_in + 1, layer.n_out)
    table = machine.upload(np.array(table, np.int64))
    return Launch(dense.kernels(dtype, tile).weight_update, first, tile.threads, (
        work.h, work.dz, table, len(layers), control, constants, rule, parameters, s1, s2))


def large_update(work, layer, dtype, control, *optimizer):
    """The update of a layer by cuBLAS's product."""
    own, n_in, n_out = large.kernels(dtype), layer.n_in, layer.n_out

    def cleared(array, at, n):
        return Launch(own.clear_rows, large.CLEARING, large.THREADS, (array, at, n, work.rows * n, control))

    return [
        cleared(work.h, layer.x_at, n_in), cleared(work.dz, layer.dz_at, n_out),
        Product(work.h, layer.x_at, True, work.dz, layer.dz_at, False, work.product, 0, n_in, work.rows, n_out,
                work.precision),
        Launch(own.column_sums, blocks(n_out, large.COLUMNS), large.SUMMING,
               (work.dz, layer.dz_at, control, n_out, work.product, n_in * n_out)),
        elementwise(own.update, (n_in + 1) * n_out, work.product, 1, n_in, n_out, control, *optimizer)]


def split_update(machine, work, layer, dtype, tile, pieces, control, *optimizer):
    """The update of a layer of few tiles: a gradient for each piece of the rows, then their sum."""
    tiles, count = tile.count(layer.n_in + 1, layer.n_out), (layer.n_in + 1) * layer.n_out
    gradients = machine.empty(pieces * count, dtype)
    return [
        Launch(dense.kernels(dtype, tile).split_gradient, tiles * pieces, tile.threads, (
            work.h, layer.x_at, work.dz, layer.dz_at, control, layer.n_in, layer.n_out, tiles,
            blocks(work.rows, pieces), gradients)),
        elementwise(large.kernels(dtype).update, count, gradients, pieces, layer.n_in, layer.n_out, control,
                    *optimizer)]


def step_flops(sizes, rows):
    return sum(6.0 * rows * n_in * n_out for n_in, n_out in pairwise(sizes))


def correct_unit(code, outputs):
    """What a correct prediction counts: a row for softmax, an output's share of its row for sigmoids, else nothing."""
    return {"row": 1.0, "outputs": 1.0 / outputs}.get(loss_codes.TABLE.record(code, "loss").correct, 0.0)
