"""The losses and their gradients, a row at a time.

A row's element j lies (j // P) `panel` + j % P after its start: `panel` = P for a row-major row, rows · P for a
row of a panel matrix, so the same code serves plug-in operations and training. Formulas: `kernels`.
`softmax_label_row`, `softmax_target_row` and `loss_row` write gradients to `dz` (which may be the outputs themselves),
scaled by wᵢ / Σ w, and return the row's loss and how much of it was correct; `softmax_row` writes probabilities.

Sums over outputs run in blocks of SUM_BLOCK, as those of `gemm` do: a million classes are as accurate as a thousand.
"""
import math

import numpy as np

from ... import losses as codes
from ..jit import inlined, outlined
from ..vector.functions import choice, of_numbers
from ..vector.panels import panel_width
from ..vector.pointers import broadcast, constant, get, lanes, load, load_first, put, store, store_first
from ..vector.simd import first_lanes, max_lanes, select, sum_lanes
from ..vector.vector_math import exp, log
from .gemm import SUM_BLOCK


@inlined
def _offset(j, panel, width):
    return (j // width) * panel + j % width


@inlined
def _load(p, j, panel, n):
    """The vector from element j of a row, zero past the row's end."""
    return load_first(p, _offset(j, panel, panel_width(p)), n - j)


@outlined
def largest(z, panel, n):
    """Index of the first largest element of a row."""
    width, best = panel_width(z), 0
    top = get(z, 0)
    for j in range(1, n):
        value = get(z, _offset(j, panel, width))
        if value > top:
            top, best = value, j
    return best


@inlined
def _exponentials(z, dz, panel, n):
    """dz = e^(z - max z); returns max z and the sum."""
    top = broadcast(-np.inf, z)
    for j in range(0, n, lanes(z)):
        value = _load(z, j, panel, n)
        top = select(first_lanes(n - j, z), select(value > top, value, top), top)
    highest = max_lanes(top)
    total = broadcast(0.0, z)
    for first in range(0, n, SUM_BLOCK):
        part = broadcast(0.0, z)
        for j in range(first, min(n, first + SUM_BLOCK), lanes(z)):
            value = select(first_lanes(n - j, z), exp(_load(z, j, panel, n) - highest), 0.0)
            store_first(dz, _offset(j, panel, panel_width(z)), value, n - j)
            part = part + value
        total = total + part
    return highest, sum_lanes(total)


@inlined
def _scale_row(dz, factor, panel, n):
    for j in range(0, n, lanes(dz)):
        store_first(dz, _offset(j, panel, panel_width(dz)), _load(dz, j, panel, n) * factor, n - j)


@outlined
def softmax_row(z, panel, n, y):
    """y = softmax(z) for one row; y may be z."""
    _, total = _exponentials(z, y, panel, n)
    _scale_row(y, constant(1.0, y) / total, panel, n)


@outlined
def softmax_label_row(z, panel, n, label, scale, dz):
    """Cross-entropy with a class index: loss log Σ e^z - z_label, dz = (p - onehot) · scale."""
    width = panel_width(z)
    correct = 1.0 if largest(z, panel, n) == label else 0.0
    score = get(z, _offset(label, panel, width))
    highest, total = _exponentials(z, dz, panel, n)
    _scale_row(dz, constant(scale, z) / total, panel, n)
    here = _offset(label, panel, width)
    put(dz, here, get(dz, here) - constant(scale, z))
    return math.log(total) - (score - highest), correct


@outlined
def softmax_label_panel(z, n, labels, scales, losses, correct):
    """`softmax_label_row` for P rows, a lane each: z[j] of them lies at z + j P.

    labels, scales, losses, correct: P numbers each. Two vectors at a time hide half of what exp and log take.
    """
    width, second = panel_width(z), lanes(z)
    label0, label1 = load(labels, 0), load(labels, second)
    top0, top1 = load(z, 0), load(z, second)
    best0, best1, score0, score1 = 0.0 * top0, 0.0 * top1, top0, top1
    for j in range(1, n):
        value0, value1 = load(z, j * width), load(z, j * width + second)
        best0, best1 = select(value0 > top0, j, best0), select(value1 > top1, j, best1)
        top0, top1 = select(value0 > top0, value0, top0), select(value1 > top1, value1, top1)
        score0, score1 = select(label0 != j, score0, value0), select(label1 != j, score1, value1)
    total0, total1 = 0.0 * top0, 0.0 * top1
    for j in range(n):
        value0, value1 = exp(load(z, j * width) - top0), exp(load(z, j * width + second) - top1)
        store(z, j * width, value0)
        store(z, j * width + second, value1)
        total0, total1 = total0 + value0, total1 + value1
    scale0, scale1 = load(scales, 0), load(scales, second)
    factor0, factor1 = scale0 / total0, scale1 / total1
    for j in range(n):
        store(z, j * width, load(z, j * width) * factor0 - select(label0 != j, 0.0, scale0))
        store(z, j * width + second, load(z, j * width + second) * factor1 - select(label1 != j, 0.0, scale1))
    store(losses, 0, log(total0) - (score0 - top0))
    store(losses, second, log(total1) - (score1 - top1))
    store(correct, 0, select(best0 != label0, 0.0, broadcast(1.0, z)))
    store(correct, second, select(best1 != label1, 0.0, broadcast(1.0, z)))


@outlined
def softmax_target_row(z, panel, n, t, scale, dz):
    """Cross-entropy with probabilities t (contiguous): loss Σ tⱼ (log Σ e^z - zⱼ), dz = (p Σ t - t) · scale."""
    width = panel_width(z)
    correct = 1.0 if largest(z, panel, n) == largest(t, width, n) else 0.0
    mass, dot = constant(0.0, z), constant(0.0, z)
    top = get(z, _offset(largest(z, panel, n), panel, width))
    for first in range(0, n, SUM_BLOCK):
        some_mass, some_dot = constant(0.0, z), constant(0.0, z)
        for j in range(first, min(n, first + SUM_BLOCK)):
            # t = 0 gives 0 even for a logit of -inf.
            if get(t, j) != 0.0:
                some_mass += get(t, j)
                some_dot += get(t, j) * (get(z, _offset(j, panel, width)) - top)
        mass += some_mass
        dot += some_dot
    _, total = _exponentials(z, dz, panel, n)
    factor = mass / total
    for j in range(0, n, lanes(z)):
        gradient = (_load(dz, j, panel, n) * factor - load_first(t, j, n - j)) * scale
        store_first(dz, _offset(j, panel, width), gradient, n - j)
    return mass * math.log(total) - dot, correct


@inlined
def on_correct_side(z, panel, n, t):
    """The share of outputs that are on the same side of 0 as their targets are of 1/2."""
    width, correct = panel_width(z), 0.0
    for j in range(n):
        correct += 1.0 if (get(z, _offset(j, panel, width)) > 0) == (get(t, j) > 0.5) else 0.0
    return correct / n


@inlined
def _softmax(parameter, z, panel, n, label, t, scale, dz):
    if label >= 0:
        value, correct = softmax_label_row(z, panel, n, label, scale, dz)
    else:
        value, correct = softmax_target_row(z, panel, n, t, scale, dz)
    return float(value), correct


def _row_of(record):
    """row(parameter, z, panel, n, label, t, scale, dz) -> (loss, correct), float64."""
    if not record.elementwise:
        return _softmax
    mean, counts = _mean_over_outputs(of_numbers(record.element)), record.correct == "outputs"

    @inlined
    def row(parameter, z, panel, n, label, t, scale, dz):
        correct = on_correct_side(z, panel, n, t) if counts else 0.0           # first: dz may be z
        return float(mean(parameter, z, panel, n, t, scale, dz)), correct

    return row


def _mean_over_outputs(element):
    """row(parameter, z, panel, n, t, scale, dz) -> the mean of l over the outputs; dz = l' · scale / n, where
    element(parameter, z, t) is (l, l') and parameter is float64.

    The first block of the sum stands before the loop: within, it cost a net of 24-8-2 units 10 %; what is correct as a
    second result cost it 20 %.
    """

    @inlined
    def block(parameter, z, panel, first, limit, n, t, scale, dz):
        width, total = panel_width(z), constant(0.0, z)
        for j in range(first, limit):
            here = _offset(j, panel, width)
            value, slope = element(parameter, get(z, here), get(t, j))
            total += value
            put(dz, here, slope * scale / n)
        return total

    @outlined
    def row(parameter, z, panel, n, t, scale, dz):
        limit = min(n, SUM_BLOCK)
        total = block(parameter, z, panel, 0, limit, n, t, scale, dz)
        while limit < n:
            first, limit = limit, min(n, limit + SUM_BLOCK)
            total += block(parameter, z, panel, first, limit, n, t, scale, dz)
        return total / n

    return row


_loss_row = choice({code: _row_of(record) for code, record in codes.TABLE.cases()})


@outlined
def loss_row(loss, parameter, z, panel, n, label, t, scale, dz):
    """The row's loss and rightness, its gradient into dz. label < 0: the targets t count."""
    return _loss_row(loss, (parameter, z, panel, n, label, t, scale, dz))
