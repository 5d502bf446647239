"""Activation functions f(z) and their derivatives: one record each. What a formula may name: `catalogue`.

A kernel receives a code, `RELU`; users write a name, "relu": `NAMES[code]`. `TRAINABLE` are the names of those with a
derivative, `HIDDEN` of all but softmax, what a hidden layer may have; `ELEMENTWISE` are the codes of the latter,
`NEEDS_Z` of those whose derivative takes z.

f' is a function of the output y = f(z), so the forward pass need not keep z:
    relu 1 if y > 0 else 0 · leaky_relu 1 or 0.01 · tanh 1 - y² · sigmoid y (1 - y) · identity 1
GELU and SiLU are not monotonic, hence not determined by y: their derivative takes z.
    gelu  z Φ(z),  Φ(z) + z φ(z)     (Hendrycks & Gimpel 2016, exact form with erf)
    silu  z σ(z),  σ(z) (1 + z (1 - σ(z)))
sign (1 if z >= 0 else -1), softmax (of a whole row) and exp (counts, after the Poisson loss) serve inference only.
"""
from math import erf, exp, tanh

from .catalogue import Activation, Table, select

LEAKY_SLOPE = 0.01


def identity(z):
    return z


def one(y):
    return 0.0 * y + 1.0


def relu(z):
    return select(z < 0.0, 0.0, z)


def relu_slope(y):
    return select(y > 0.0, 1.0, 0.0 * y)


def leaky_relu(z):
    return select(z < 0.0, LEAKY_SLOPE * z, z)


def leaky_relu_slope(y):
    return select(y > 0.0, 1.0, 0.0 * y + LEAKY_SLOPE)


def hyperbolic_tangent(z):
    return tanh(z)


def tanh_slope(y):
    return 1.0 - y * y


def sigmoid(z):
    return 1.0 / (1.0 + exp(-z))


def sigmoid_slope(y):
    return y * (1.0 - y)


def normal_cdf(z):
    return 0.5 * (1.0 + erf(z * 0.7071067811865476))


def gelu(z):
    return z * normal_cdf(z)


def gelu_slope(z):
    return normal_cdf(z) + z * 0.3989422804014327 * exp(-0.5 * z * z)


def silu(z):
    return z * sigmoid(z)


def silu_slope(z):
    s = sigmoid(z)
    return s * (1.0 + z * (1.0 - s))


def sign(z):
    return select(z < 0.0, -1.0, 0.0 * z + 1.0)


def exponential(z):
    return exp(z)


TABLE = Table(
    "activations",
    Activation("identity", identity, one),
    Activation("relu", relu, relu_slope),
    Activation("leaky_relu", leaky_relu, leaky_relu_slope),
    Activation("tanh", hyperbolic_tangent, tanh_slope),
    Activation("sigmoid", sigmoid, sigmoid_slope),
    Activation("gelu", gelu, gelu_slope, needs_z=True),
    Activation("silu", silu, silu_slope, needs_z=True),
    Activation("sign", sign),
    Activation("softmax", None),
    Activation("exp", exponential),
)


def __getattr__(name):
    """Codes (RELU, ...) and what else follows from the table, registered records included."""
    if name == "NAMES":
        return TABLE.names
    if name == "TRAINABLE":
        return tuple(record.name for record in TABLE if record.trainable)
    if name == "HIDDEN":
        return tuple(record.name for record in TABLE if record.elementwise)
    if name == "NEEDS_Z":
        return TABLE.codes(lambda record: record.needs_z)
    if name == "ELEMENTWISE":
        return TABLE.codes(lambda record: record.elementwise)
    return TABLE.constant(name)
