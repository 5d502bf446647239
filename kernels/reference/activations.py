"""Activation functions f(z) and their derivatives, on whole arrays.

    identity    f = z                         f' = 1
    relu        f = max(z, 0)                 f' = 1 if y > 0 else 0
    leaky_relu  f = z if z > 0 else 0.01 z    f' = 1 if y > 0 else 0.01
    tanh        f = tanh z                    f' = 1 - y²
    sigmoid     f = σ(z) = 1 / (1 + e^-z)     f' = y (1 - y)
    gelu        f = z Φ(z)                    f' = Φ(z) + z φ(z)
    silu        f = z σ(z)                    f' = σ(z) (1 + z (1 - σ(z)))
    sign        f = 1 if z >= 0 else -1       (inference only)
    softmax     f = e^zⱼ / Σ e^z              (of each row, inference only)
    exp         f = e^z                       (inference only)

Φ and φ are the standard normal distribution and its density: Φ(z) = (1 + erf(z / √2)) / 2.
"""
import math

import numpy as np

from .codes import name_of

NAMES = ["identity", "relu", "leaky_relu", "tanh", "sigmoid", "gelu", "silu", "sign", "softmax", "exp"]

LEAKY_SLOPE = 0.01


def activate(code, z, y):
    """y = f(z); y may be z itself."""
    FUNCTIONS[name_of(NAMES, code, "activation")][0](z, y)


def slope(code, y):
    """f' from the output y, or from z for the activations that need z."""
    name = name_of(NAMES, code, "activation")
    if FUNCTIONS[name][1] is None:
        raise ValueError(f"activation {name} has no derivative")
    return FUNCTIONS[name][1](y)


def needs_z(code):
    return name_of(NAMES, code, "activation") in NEEDS_Z


def gelu_slope(z):
    density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    return normal_cdf(z) + z * density


def silu_slope(z):
    s = sigmoid(z)
    return s * (1 + z * (1 - s))


def sigmoid(z):
    with np.errstate(over="ignore"):  # e^-z = inf gives 0, as it should
        return 1 / (1 + np.exp(-z))


def softmax(z, y):
    """y = softmax of each row of z; less its maximum, no exponent overflows. y may be z itself."""
    np.subtract(z, z.max(axis=1, keepdims=True), out=y)
    np.exp(y, out=y)
    y /= y.sum(axis=1, keepdims=True)


def normal_cdf(z):
    return 0.5 * (1 + erf(z * math.sqrt(0.5)))


# W. J. Cody, "Rational Chebyshev approximations for the error function", Mathematics of Computation 23
# (1969), 631-637, as published in his CALERF (netlib specfun). Highest power first.
ERF_P = (1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2, 3.77485237685302021e2,
         3.20937758913846947e3)
ERF_Q = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
ERFC_P = (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594, 6.61191906371416295e1,
          2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
          1.23033935479799725e3)
ERFC_Q = (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
          3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3)


def erf(x):
    """(2 / √π) ∫₀ˣ e^-t² dt within 2.3e-16 in float64, 1.7e-7 in float32.

    x P(x²) / Q(x²) near zero, 1 - e^-x² P(x) / Q(x) from 0.46875 on. Beyond 6 the value is ±1 in float64.
    """
    x = np.clip(x, -6, 6)
    square = x * x
    near_zero = x * polynomial(square, ERF_P) / polynomial(square, ERF_Q)
    size = np.abs(x)
    tail = np.exp(-square) * polynomial(size, ERFC_P) / polynomial(size, ERFC_Q)
    return np.where(size < 0.46875, near_zero, np.copysign(1 - tail, x))


def polynomial(x, coefficients):
    """Horner's rule, highest power first."""
    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total *= x
        total += coefficient
    return total


# name: (f(z, y) that writes y, f' of the output y or of z, None where there is none)
FUNCTIONS = {
    "identity": (lambda z, y: y is z or np.copyto(y, z), lambda y: y.dtype.type(1)),
    "relu": (lambda z, y: np.maximum(z, 0, out=y), lambda y: y > 0),
    "leaky_relu": (lambda z, y: np.maximum(z, LEAKY_SLOPE * z, out=y),
                   lambda y: np.where(y > 0, y.dtype.type(1), y.dtype.type(LEAKY_SLOPE))),
    "tanh": (lambda z, y: np.tanh(z, out=y), lambda y: 1 - y * y),
    "sigmoid": (lambda z, y: np.copyto(y, sigmoid(z)), lambda y: y * (1 - y)),
    "gelu": (lambda z, y: np.multiply(z, normal_cdf(z), out=y), gelu_slope),
    "silu": (lambda z, y: np.multiply(z, sigmoid(z), out=y), silu_slope),
    "sign": (lambda z, y: np.copyto(y, np.where(z >= 0, 1, -1)), None),
    "softmax": (softmax, None),
    "exp": (lambda z, y: np.exp(z, out=y), None),
}
NEEDS_Z = {"gelu", "silu"}       # not monotonic: the output does not tell the slope
