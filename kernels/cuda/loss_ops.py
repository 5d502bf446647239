"""The losses as single operations. Contract: `kernels`; operands and streams: as in `ops`.

z, targets, dz (m, n), all float32 or all float64, in C order; weights (m,), or None or empty for ones; dz is written
and may be z. The loss is a float, summed over rows in float64: the call waits for it, and for its stream alone.
Scratch: two numbers a row, in Numba's memory. Numba gives such memory back a few calls later, and then the driver may
wait for the whole GPU; the operations of `ops` allocate nothing.
"""
import numpy as np

from .. import losses as codes
from . import losses, steps
from .control import one_batch
from .operands import check, inside, is_given, one_of
from .ops import blocks
from .streams import Queue, constant, type_of

_TARGETS = "z (m, n), targets (m, n), weights (m,)? -> dz (m, n)"


def softmax_cross_entropy(z, labels, targets, weights, dz, *, stream=None):
    """loss = Σᵢ wᵢ lᵢ / Σᵢ wᵢ, lᵢ = -Σⱼ tᵢⱼ log softmax(zᵢ)ⱼ;  dz = (softmax(z) Σⱼ tᵢⱼ - t) wᵢ / Σ w.

    labels (m,) int64 class indices, or None or empty when targets (m, n) are given, and the other way round. Operands,
    streams: `kernels.cuda.loss_ops`. Raises TypeError and ValueError for operands that do not fit and for labels that
    are none of 0 .. n - 1; labels on the GPU are looked at there, in one pass.
    Cost: two exponentials a number, 3 m n numbers. Source: standard, with the row's largest logit taken off.
    """
    labelled = is_given(labels)
    if labelled == is_given(targets) and 0 not in tuple(getattr(z, "shape", ())):
        raise ValueError("softmax_cross_entropy: needs labels (m,) and no targets, or targets (m, n) and no labels")
    sizes = check("softmax_cross_entropy", "z (m, n), labels int64 (m,)?, targets (m, n)?, weights (m,)? -> dz (m, n)",
                  z, labels, targets, weights, dz, may_be=(("dz", "z"),))
    if labelled:
        inside("softmax_cross_entropy", "labels", labels, sizes["n"], Queue(stream))
    return _loss("softmax_cross_entropy", codes.SOFTMAX_CROSS_ENTROPY, z, labels, targets, weights, dz, stream)


def sigmoid_cross_entropy(z, targets, weights, dz, *, stream=None):
    """The mean binary cross-entropy of sigmoid outputs: lᵢ = 1/n Σⱼ [max(z, 0) - z t + log(1 + e^-|z|)];
    dz = (σ(z) - t) wᵢ / (n Σ w).

    Operands, streams: `kernels.cuda.loss_ops`. Raises TypeError and ValueError for operands that do not fit.
    Cost: two exponentials and a logarithm a number, 3 m n numbers. Source: standard.
    """
    check("sigmoid_cross_entropy", _TARGETS, z, targets, weights, dz, may_be=(("dz", "z"),))
    return _loss("sigmoid_cross_entropy", codes.SIGMOID_CROSS_ENTROPY, z, None, targets, weights, dz, stream)


def squared_error(z, targets, weights, dz, *, stream=None):
    """The mean squared error: lᵢ = 1/n Σⱼ (z - t)²;  dz = 2 (z - t) wᵢ / (n Σ w).

    Operands, streams: `kernels.cuda.loss_ops`. Raises TypeError and ValueError for operands that do not fit.
    Cost: 5 flops a number, 3 m n numbers. Source: standard.
    """
    check("squared_error", _TARGETS, z, targets, weights, dz, may_be=(("dz", "z"),))
    return _loss("squared_error", codes.SQUARED_ERROR, z, None, targets, weights, dz, stream)


def pointwise_loss(loss, parameter, z, targets, weights, dz, *, stream=None):
    """The mean of an elementwise loss, as Huber, absolute, Poisson or quantile; dz = l'(z, t) wᵢ / (n Σ w). Formulas:
    `kernels`.

    loss: an elementwise code of `kernels.losses`; parameter: δ of HUBER, q of QUANTILE. Operands, streams:
    `kernels.cuda.loss_ops`. Raises TypeError and ValueError for operands that do not fit and for another loss.
    Cost: a few flops a number, POISSON an exponential and a logarithm; 3 m n numbers. Sources: Huber 1964,
    Koenker & Bassett 1978, McCullagh & Nelder 1989.
    """
    one_of("pointwise_loss", "loss", loss, codes.ELEMENTWISE, "a code of kernels.losses.ELEMENTWISE")
    check("pointwise_loss", _TARGETS, z, targets, weights, dz, may_be=(("dz", "z"),))
    return _loss("pointwise_loss", loss, z, None, targets, weights, dz, stream, parameter)


def _loss(operation, loss, z, labels, targets, weights, dz, stream, parameter=0.0):
    (m, n), queue, dtype = z.shape, Queue(stream), type_of(z)
    if m == 0:
        return 0.0
    if n == 0:
        raise ValueError(f"{operation}: z must have at least one column")
    labelled, weighted = is_given(labels), is_given(weights)
    none, order = constant(0.0, dtype=dtype), constant(0)
    weights = queue.read(weights) if weighted else none
    control = constant(*one_batch(m, labelled, weighted))
    sums, values, correct = queue.upload(np.zeros(4)), queue.empty(m, dtype), queue.empty(m, np.int64)
    queue.run(steps.sum_weights, 1, steps.THREADS, weights, order, control, sums)
    queue.run(losses.kernels(dtype).row_loss, blocks(m, losses.WARPS), 32 * losses.WARPS, loss, dtype(parameter),
              queue.read(z), 0, n, queue.read(labels) if labelled else order,
              queue.read(targets) if is_given(targets) else none, weights, order, control, sums, 0, queue.written(dz),
              0, values, correct)
    queue.run(steps.add_totals, 1, steps.THREADS, weights, order, values, correct, 0.0, control, sums)
    total, _, weight, _ = queue.download(sums)
    return float(total / weight) if weight > 0 else 0.0
