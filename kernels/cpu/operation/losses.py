"""The losses and their gradients on plain arrays. Formulas: `kernels`; the rows: `tile.loss_rows`."""
import numpy as np

from ... import losses as codes
from ..jit import inlined, operation
from ..tile.loss_rows import loss_row
from ..vector.panels import panel_width
from ..vector.pointers import at, constant
from .operands import apart, contiguous, indices, integer, operand, output, same_start

ELEMENTWISE = codes.ELEMENTWISE


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
    """Mean of an elementwise loss (Huber, Poisson, quantile ...) and its gradient: dz = l'(z, t) wᵢ / (n Σ w).

    loss : a code of `kernels.losses.ELEMENTWISE`; parameter : float, δ of HUBER, q of QUANTILE.
    z, targets, dz : (m, n); weights : (m,), or None or (0,) for all ones. float32 or float64, C-contiguous; dz is
    written and may be z.
    Returns the loss as float, averaged over outputs and (weighted) rows, summed in float64.
    Raises ValueError for another code and for shapes that do not fit together. Formulas: `fastmlp.kernels`.
    Cost: a few flops a number (POISSON: an exponential and a logarithm); 3 m n numbers. Sources: Huber 1964,
    Koenker & Bassett 1978, McCullagh & Nelder 1989.
    """
    integer(loss, "pointwise_loss: loss")
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
