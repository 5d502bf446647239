"""Starting weights; biases start at 0.

    glorot_uniform   U(-a, a), a = √(6 / (fan_in + fan_out))      (Glorot & Bengio 2010, eq. 16)
    glorot_normal    N(0, 2 / (fan_in + fan_out))
    he_uniform       U(-a, a), a = √(6 / fan_in)
    he_normal        N(0, 2 / fan_in)                             (He et al. 2015, eq. 10)
"""
import numpy as np

NAMES = ("glorot_uniform", "glorot_normal", "he_uniform", "he_normal")


def initialize(weights, initializer, rng):
    """Fill each (fan_in, fan_out) array of `weights`. Drawn in float64, so float32 starts at the same values."""
    family, shape = initializer.split("_")
    for w in weights:
        fan_in, fan_out = w.shape
        variance = 2 / (fan_in + fan_out) if family == "glorot" else 2 / fan_in
        if shape == "uniform":
            bound = np.sqrt(3 * variance)
            w[:] = rng.uniform(-bound, bound, w.shape)
        else:
            w[:] = rng.normal(0, np.sqrt(variance), w.shape)
