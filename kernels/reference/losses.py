"""Losses of a batch, each with its gradient with respect to z.

A loss is the mean of the rows' losses lᵢ, weighted by wᵢ: Σᵢ wᵢ lᵢ / Σᵢ wᵢ. Hence ∂loss/∂zᵢ = ∂lᵢ/∂zᵢ wᵢ / Σ w.
The rows are summed in float64; all else has the operands' dtype.
"""
import numpy as np

from .activations import sigmoid
from .codes import name_of

NAMES = ["softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error", "huber", "absolute_error", "poisson",
         "quantile"]


def softmax_cross_entropy(z, labels, targets, weights, dz):
    """lᵢ = -Σⱼ tᵢⱼ log softmax(zᵢ)ⱼ,  ∂lᵢ/∂zᵢ = softmax(zᵢ) Σⱼ tᵢⱼ - tᵢ.

    A label stands for a one-hot target. With s = zᵢ - max zᵢ, which no exponential overflows,
    log softmax(zᵢ) = s - log Σ e^s.
    """
    weights, total = row_weights(weights, len(z))
    if total == 0:
        dz.fill(0)
        return 0.0
    labelled = labels is not None and labels.size > 0
    np.subtract(z, z.max(axis=1, keepdims=True), out=dz)
    if labelled:
        rows = np.arange(len(z))
        target_sums, target_logits = 1, dz[rows, labels]
    else:
        target_sums, target_logits = targets.sum(axis=1), np.einsum("ij,ij->i", targets, dz)
    np.exp(dz, out=dz)
    sums = dz.sum(axis=1)
    losses = target_sums * np.log(sums) - target_logits

    dz *= (target_sums / sums)[:, None]
    if labelled:
        dz[rows, labels] -= 1
    else:
        dz -= targets
    dz *= (weights / total).astype(dz.dtype)[:, None]
    return float(weights @ losses) / total


def sigmoid_cross_entropy(z, targets, weights, dz):
    """lᵢ = 1/n Σⱼ -t log σ(z) - (1 - t) log(1 - σ(z)),  ∂lᵢ/∂z = (σ(z) - t) / n.

    Written so that no exponential overflows: max(z, 0) - z t + log(1 + e^-|z|).
    """
    weights, total = row_weights(weights, len(z))
    if total == 0:
        dz.fill(0)
        return 0.0
    losses = np.mean(np.maximum(z, 0) - z * targets + np.log1p(np.exp(-np.abs(z))), axis=1)
    np.subtract(sigmoid(z), targets, out=dz)
    dz *= (weights / (z.shape[1] * total)).astype(dz.dtype)[:, None]
    return float(weights @ losses) / total


def squared_error(z, targets, weights, dz):
    """lᵢ = 1/n Σⱼ (z - t)²,  ∂lᵢ/∂z = 2 (z - t) / n."""
    weights, total = row_weights(weights, len(z))
    if total == 0:
        dz.fill(0)
        return 0.0
    np.subtract(z, targets, out=dz)
    losses = np.mean(dz * dz, axis=1)
    dz *= (2 * weights / (dz.shape[1] * total)).astype(dz.dtype)[:, None]
    return float(weights @ losses) / total


def pointwise_loss(loss, parameter, z, targets, weights, dz):
    """lᵢ = 1/n Σⱼ l(zᵢⱼ, tᵢⱼ). `parameter` is δ of HUBER, q of QUANTILE."""
    name = name_of(NAMES, loss, "loss")
    if name not in POINTWISE:
        raise ValueError(f"loss {name} is not pointwise")
    weights, total = row_weights(weights, len(z))
    if total == 0:
        dz.fill(0)
        return 0.0
    parts, slope = POINTWISE[name](float(parameter), z, targets)
    np.multiply(slope, (weights / (z.shape[1] * total)).astype(dz.dtype)[:, None], out=dz)
    return float(weights @ np.mean(parts, axis=1)) / total


# With e = z - t, each returns (l, l').

def huber(delta, z, t):
    """l = e²/2 where |e| ≤ δ, else δ (|e| - δ/2);  l' = e cut to -δ .. δ. Huber 1964."""
    e = z - t
    slope = np.clip(e, -delta, delta)
    return slope * (e - 0.5 * slope), slope


def absolute(parameter, z, t):
    """l = |e|;  l' = sign e."""
    return np.abs(z - t), np.sign(z - t)


def quantile(q, z, t):
    """l = (1 - q) e where e > 0, else -q e;  l' = 1 - q or -q. Koenker & Bassett 1978."""
    e = z - t
    slope = np.where(e > 0, 1 - q, -q * np.sign(np.abs(e))).astype(z.dtype)
    return slope * e, slope


def poisson(parameter, z, t):
    """l = e^z - t - t (z - log t), half the deviance with 0 log 0 = 0, z the log of the mean count;  l' = e^z - t."""
    slope = np.exp(z) - t
    log_targets = np.log(t, out=np.zeros_like(t), where=t > 0)
    return slope - t * (z - log_targets), slope


POINTWISE = {"huber": huber, "absolute_error": absolute, "quantile": quantile, "poisson": poisson}


def loss_and_gradient(loss, parameter, z, labels, targets, weights, dz):
    name = name_of(NAMES, loss, "loss")
    if name == "softmax_cross_entropy":
        return softmax_cross_entropy(z, labels, targets, weights, dz)
    if name == "sigmoid_cross_entropy":
        return sigmoid_cross_entropy(z, targets, weights, dz)
    if name == "squared_error":
        return squared_error(z, targets, weights, dz)
    return pointwise_loss(loss, parameter, z, targets, weights, dz)


def correct_rows(loss, z, labels, targets):
    """Rows whose largest output is the label; for sigmoids, each row's share of outputs on the correct side."""
    name = name_of(NAMES, loss, "loss")
    if name == "softmax_cross_entropy":
        return float(np.count_nonzero(z.argmax(axis=1) == (labels if labels.size else targets.argmax(axis=1))))
    if name == "sigmoid_cross_entropy":
        return np.count_nonzero((z > 0) == (targets > 0.5)) / z.shape[1]
    return 0.0


def row_weights(weights, m):
    """The rows' weights, all one if none are given, and their sum: both in float64."""
    weights = weights.astype(np.float64) if weights is not None and weights.size else np.ones(m)
    return weights, sum_of_weights(weights, m)


def sum_of_weights(weights, m):
    return float(weights.sum(dtype=np.float64)) if weights.size else float(m)
