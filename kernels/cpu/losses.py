"""The losses and their gradients, a row at a time.

A row's element j lies (j // P) `panel` + j % P after its start: `panel` = P for a row-major row, rows · P for a
row of a panel matrix, so the same code serves plug-in operations and training. Formulas: `kernels`.
Each `*_row` turns outputs into gradients in place of `dz` (which may be the outputs themselves), scaled by
wᵢ / Σ w, and returns the row's loss and how much of it was right.

Sums over outputs run in blocks of SUM_BLOCK, as those of `gemm` do: a million classes are as accurate as a thousand.
"""
import math

import numpy as np

from .. import losses as codes
from .functions import choice, of_numbers
from .gemm import SUM_BLOCK, panel_width
from .jit import inlined, operation, outlined
from .operands import apart, contiguous, indices, operand, output, same_start, whole
from .pointers import at, broadcast, constant, get, lanes, load, load_first, put, store, store_first
from .simd import first_lanes, max_lanes, select, sum_lanes
from .vector_math import exp, log

ELEMENTWISE = codes.ELEMENTWISE


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
    right = 1.0 if largest(z, panel, n) == label else 0.0
    score = get(z, _offset(label, panel, width))
    highest, total = _exponentials(z, dz, panel, n)
    _scale_row(dz, constant(scale, z) / total, panel, n)
    here = _offset(label, panel, width)
    put(dz, here, get(dz, here) - constant(scale, z))
    return math.log(total) - (score - highest), right


@outlined
def softmax_label_panel(z, n, labels, scales, losses, right):
    """`softmax_label_row` for P rows, a lane each: z[j] of them lies at z + j P.

    labels, scales, losses, right: P numbers each. Two vectors at a time hide half of what exp and log take to answer.
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
    store(right, 0, select(best0 != label0, 0.0, broadcast(1.0, z)))
    store(right, second, select(best1 != label1, 0.0, broadcast(1.0, z)))


@outlined
def softmax_target_row(z, panel, n, t, scale, dz):
    """Cross-entropy with probabilities t (contiguous): loss Σ tⱼ (log Σ e^z - zⱼ), dz = (p Σ t - t) · scale."""
    width = panel_width(z)
    right = 1.0 if largest(z, panel, n) == largest(t, width, n) else 0.0
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
    return mass * math.log(total) - dot, right


@inlined
def on_right_side(z, panel, n, t):
    """The share of outputs that are on the same side of 0 as their targets are of 1/2."""
    width, right = panel_width(z), 0.0
    for j in range(n):
        right += 1.0 if (get(z, _offset(j, panel, width)) > 0) == (get(t, j) > 0.5) else 0.0
    return right / n


@inlined
def _softmax(parameter, z, panel, n, label, t, scale, dz):
    if label >= 0:
        value, right = softmax_label_row(z, panel, n, label, scale, dz)
    else:
        value, right = softmax_target_row(z, panel, n, t, scale, dz)
    return float(value), right


def _row_of(record):
    """row(parameter, z, panel, n, label, t, scale, dz) -> (loss, right), float64."""
    if not record.elementwise:
        return _softmax
    mean, counts = _mean_over_outputs(of_numbers(record.element)), record.correct == "outputs"

    @inlined
    def row(parameter, z, panel, n, label, t, scale, dz):
        right = on_right_side(z, panel, n, t) if counts else 0.0           # first: dz may be z
        return float(mean(parameter, z, panel, n, t, scale, dz)), right

    return row


def _mean_over_outputs(element):
    """row(parameter, z, panel, n, t, scale, dz) -> the mean of l over the outputs; dz = l' · scale / n, where
    element(parameter, z, t) is (l, l') and parameter is float64.

    The first block of the sum stands before the loop: within, it cost a net of 24-8-2 units 10 %; what is right as a
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


# ------------------------------------------------------------------------------- operations on plain arrays

@inlined
def _batch_loss(loss, parameter, z, labels, targets, weights, dz):
    m, n = z.shape
    weight_sum = 0.0
    for i in range(m):
        weight_sum += weights[i] if weights.size > 0 else 1.0
    total = 0.0
    p = panel_width(at(z, 0))
    for i in range(m):
        weight = float(weights[i]) if weights.size > 0 else 1.0
        scale = weight / weight_sum if weight_sum > 0 else 0.0
        label = labels[i] if labels.size > 0 else -1
        y, t = at(z, i * n), at(targets, i * n)
        value, _ = loss_row(loss, parameter, y, p, n, label, t, constant(scale, y), at(dz, i * n))
        total += value * scale
    return total


@inlined
def _writes_apart(z, labels, targets, weights, dz):
    contiguous((z, labels, targets, weights, dz))
    return apart((dz,), (labels, targets, weights)) and (same_start(dz, z) or apart((dz,), (z,)))


@operation
def softmax_cross_entropy(z, labels, targets, weights, dz):
    """Mean softmax cross-entropy and its gradient in one pass: loss = Σ wᵢ lᵢ / Σ wᵢ, dz = (p - t) wᵢ / Σ w.

    Parameters
    ----------
    z, dz : (m, n) logits and ∂loss/∂z, float32 or float64, C-contiguous; dz is written and may be z.
    labels : int64 (m,) class indices in 0 .. n - 1, or None or (0,) when targets are given.
    targets : (m, n) probabilities or one-hot rows, or None or (0, 0) when labels are given.
    weights : (m,) at least 0, or None or (0,) for all ones.

    Returns
    -------
    float : the loss, summed over rows in float64. 0 when all weights are 0.

    Raises
    ------
    ValueError : shapes that do not fit together, a label out of range.

    Notes
    -----
    Stable for any finite logits: the row's largest is subtracted first.
    Cost: an exponential and a few flops a number; reads z, writes dz: 2 m n numbers. Source: standard.
    """
    m, n = z.shape
    if labels is None:
        labels = np.empty(0, np.int64)
    if targets is None:
        targets = np.empty((0, 0), z.dtype)
    if weights is None:
        weights = np.empty(0, z.dtype)
    operand(z, 2, "softmax_cross_entropy: z")
    indices(labels, "softmax_cross_entropy: labels")
    operand(targets, 2, "softmax_cross_entropy: targets")
    operand(weights, 1, "softmax_cross_entropy: weights")
    output(dz, 2, "softmax_cross_entropy: dz")
    if dz.shape != z.shape or (weights.size > 0 and weights.shape[0] != m):
        raise ValueError("softmax_cross_entropy: needs z, dz (m, n) and weights (m,) or (0,)")
    if not _writes_apart(z, labels, targets, weights, dz):
        raise ValueError("softmax_cross_entropy: dz is written: it may be z, but must not share memory with anything "
                         "else")
    if labels.size > 0:
        if labels.shape[0] != m or targets.size > 0:
            raise ValueError("softmax_cross_entropy: needs labels (m,) and targets (0, 0), or labels (0,) and targets "
                             "(m, n)")
        for i in range(m):
            if labels[i] < 0 or labels[i] >= n:
                raise ValueError("softmax_cross_entropy: labels must lie in 0 .. n - 1")
    elif targets.shape != z.shape and z.size > 0:
        raise ValueError("softmax_cross_entropy: needs labels (m,) and targets (0, 0), or labels (0,) and targets (m, "
                         "n)")
    if z.shape[0] > 0 and z.shape[1] == 0:
        raise ValueError("softmax_cross_entropy: z must have at least one column")
    return _batch_loss(codes.SOFTMAX_CROSS_ENTROPY, 0.0, z, labels, targets, weights, dz)


@operation
def sigmoid_cross_entropy(z, targets, weights, dz):
    """Mean binary cross-entropy of sigmoid outputs and its gradient: dz = (σ(z) - t) wᵢ / (n Σ w).

    z, targets, dz : (m, n); weights : (m,), or None or (0,) for all ones. float32 or float64, C-contiguous; dz is
    written and may be z.
    Returns the loss as float, averaged over outputs and (weighted) rows, summed in float64.
    Raises ValueError for shapes that do not fit together. Stable for any finite z.
    Cost: an exponential, a logarithm and a few flops a number; 3 m n numbers. Source: standard.
    """
    if weights is None:
        weights = np.empty(0, z.dtype)
    operand(z, 2, "sigmoid_cross_entropy: z")
    operand(targets, 2, "sigmoid_cross_entropy: targets")
    operand(weights, 1, "sigmoid_cross_entropy: weights")
    output(dz, 2, "sigmoid_cross_entropy: dz")
    if targets.shape != z.shape or dz.shape != z.shape or (weights.size > 0 and weights.shape[0] != z.shape[0]):
        raise ValueError("sigmoid_cross_entropy: needs z, targets, dz (m, n) and weights (m,) or (0,)")
    if not _writes_apart(z, None, targets, weights, dz):
        raise ValueError("sigmoid_cross_entropy: dz is written: it may be z, but must not share memory with anything "
                         "else")
    if z.shape[0] > 0 and z.shape[1] == 0:
        raise ValueError("sigmoid_cross_entropy: z must have at least one column")
    return _batch_loss(codes.SIGMOID_CROSS_ENTROPY, 0.0, z, np.empty(0, np.int64), targets, weights, dz)


@operation
def squared_error(z, targets, weights, dz):
    """Mean squared error and its gradient: dz = 2 (z - t) wᵢ / (n Σ w).

    z, targets, dz : (m, n); weights : (m,), or None or (0,) for all ones. float32 or float64, C-contiguous; dz is
    written and may be z.
    Returns the loss as float, averaged over outputs and (weighted) rows, summed in float64.
    Raises ValueError for shapes that do not fit together.
    Cost: 5 flops a number; 3 m n numbers. Source: standard.
    """
    if weights is None:
        weights = np.empty(0, z.dtype)
    operand(z, 2, "squared_error: z")
    operand(targets, 2, "squared_error: targets")
    operand(weights, 1, "squared_error: weights")
    output(dz, 2, "squared_error: dz")
    if targets.shape != z.shape or dz.shape != z.shape or (weights.size > 0 and weights.shape[0] != z.shape[0]):
        raise ValueError("squared_error: needs z, targets, dz (m, n) and weights (m,) or (0,)")
    if not _writes_apart(z, None, targets, weights, dz):
        raise ValueError("squared_error: dz is written: it may be z, but must not share memory with anything else")
    if z.shape[0] > 0 and z.shape[1] == 0:
        raise ValueError("squared_error: z must have at least one column")
    return _batch_loss(codes.SQUARED_ERROR, 0.0, z, np.empty(0, np.int64), targets, weights, dz)


@operation
def pointwise_loss(loss, parameter, z, targets, weights, dz):
    """Mean Huber, absolute, Poisson or quantile loss and its gradient: dz = l'(z, t) wᵢ / (n Σ w).

    loss : a code of `kernels.losses`; parameter : float, δ of HUBER, q of QUANTILE.
    z, targets, dz : (m, n); weights : (m,), or None or (0,) for all ones. float32 or float64, C-contiguous; dz is
    written and may be z.
    Returns the loss as float, averaged over outputs and (weighted) rows, summed in float64.
    Raises ValueError for another code and for shapes that do not fit together. Formulas: `fastmlp.kernels`.
    Cost: a few flops a number (POISSON: an exponential and a logarithm); 3 m n numbers. Sources: Huber 1964,
    Koenker & Bassett 1978, McCullagh & Nelder 1989.
    """
    whole(loss, "pointwise_loss: loss")
    if loss not in ELEMENTWISE:
        raise ValueError("pointwise_loss: loss must be a code of kernels.losses.ELEMENTWISE")
    if weights is None:
        weights = np.empty(0, z.dtype)
    operand(z, 2, "pointwise_loss: z")
    operand(targets, 2, "pointwise_loss: targets")
    operand(weights, 1, "pointwise_loss: weights")
    output(dz, 2, "pointwise_loss: dz")
    if targets.shape != z.shape or dz.shape != z.shape or (weights.size > 0 and weights.shape[0] != z.shape[0]):
        raise ValueError("pointwise_loss: needs z, targets, dz (m, n) and weights (m,) or (0,)")
    if not _writes_apart(z, None, targets, weights, dz):
        raise ValueError("pointwise_loss: dz is written: it may be z, but must not share memory with anything else")
    if z.shape[0] > 0 and z.shape[1] == 0:
        raise ValueError("pointwise_loss: z must have at least one column")
    return _batch_loss(loss, parameter, z, np.empty(0, np.int64), targets, weights, dz)
