"""Activation functions f(z) and their derivatives: the scalar mathematics, written once.

Codes are what kernels receive; `NAMES[code]` is what people write. `define` compiles the scalar
functions for one target, given its `jit`, its exp and erf, and `like(c, z)`, the constant c in z's type.

f' is a function of the output y = f(z), so the forward pass need not keep z:
    relu 1 if y > 0 else 0 · leaky_relu 1 or 0.01 · tanh 1 - y² · sigmoid y (1 - y) · identity 1
GELU and SiLU are not monotonic, hence not determined by y: their derivative takes z.
    gelu  z Φ(z),  Φ(z) + z φ(z)     (Hendrycks & Gimpel 2016, exact form with erf)
    silu  z σ(z),  σ(z) (1 + z (1 - σ(z)))
sign (1 if z >= 0 else -1) and softmax (of a whole row) serve inference only.
"""
from types import SimpleNamespace

NAMES = ("identity", "relu", "leaky_relu", "tanh", "sigmoid", "gelu", "silu", "sign", "softmax")
IDENTITY, RELU, LEAKY_RELU, TANH, SIGMOID, GELU, SILU, SIGN, SOFTMAX = range(len(NAMES))
TRAINABLE = NAMES[:7]
NEEDS_Z = (GELU, SILU)
LEAKY_SLOPE = 0.01
