"""Losses of a row and their gradients with respect to the net's outputs: one record each. Formulas: `kernels`.

A kernel receives a code, `HUBER`; users write a name, "huber": `NAMES[code]`. `ELEMENTWISE` are the codes of all but
softmax cross-entropy, which is of a whole row. What a formula may name: `catalogue`.
"""
import warnings
from math import exp, log, log1p

from .catalogue import Loss, Table, like


def sigmoid_cross_entropy(parameter, z, t):
    """l = max(z, 0) - z t + log(1 + e^-|z|), l' = σ(z) - t."""
    small = exp(-abs(z))
    value = max(z, like(0.0, z)) - z * t + log1p(small)
    return value, (like(1.0, z) if z >= 0.0 else small) / (like(1.0, z) + small) - t


def squared_error(parameter, z, t):
    """l = e², l' = 2 e."""
    e = z - t
    return e * e, e + e


def huber(delta, z, t):
    """l = e²/2 where |e| ≤ δ, else δ (|e| - δ/2); l' = e cut to -δ .. δ. NaN stays NaN, here and below."""
    e, delta = z - t, like(delta, z)
    slope = delta if e > delta else -delta if e < -delta else e
    return slope * (e - like(0.5, z) * slope), slope


def absolute_error(parameter, z, t):
    """l = |e|, l' = sign e."""
    e = z - t
    slope = like(1.0, z) if e > 0.0 else like(-1.0, z) if e < 0.0 else e
    return slope * e, slope


def poisson(parameter, z, t):
    """l = e^z - t - t (z - log t), l' = e^z - t."""
    slope = exp(z) - t
    return (slope - t * (z - log(t)) if t > 0.0 else slope), slope


def quantile(q, z, t):
    """l = (1 - q) e where e > 0, else -q e; l' the factor of e."""
    e = z - t
    slope = like(1.0 - q, z) if e > 0.0 else like(-q, z) if e < 0.0 else e
    return slope * e, slope


TABLE = Table(
    "losses",
    Loss("softmax_cross_entropy", None, output="softmax", y="classes", correct="row"),
    Loss("sigmoid_cross_entropy", sigmoid_cross_entropy, output="sigmoid", y="yes or no", correct="outputs"),
    Loss("squared_error", squared_error),
    Loss("huber", huber, parameter="delta"),
    Loss("absolute_error", absolute_error),
    Loss("poisson", poisson, output="exp"),
    Loss("quantile", quantile, parameter="q"),
)
_OLD_NAMES = {"SOFTMAX_XENT": "SOFTMAX_CROSS_ENTROPY", "SIGMOID_XENT": "SIGMOID_CROSS_ENTROPY"}


def __getattr__(name):
    """Codes (HUBER, ...) and what else follows from the table, registered records included."""
    if name == "NAMES":
        return TABLE.names
    if name == "ELEMENTWISE":
        return TABLE.codes(lambda record: record.elementwise)
    if name in _OLD_NAMES:
        warnings.warn(f"losses.{name} is now losses.{_OLD_NAMES[name]}", DeprecationWarning, stacklevel=2)
        name = _OLD_NAMES[name]
    return TABLE.constant(name)
