"""An activation, a rule and a loss that are not in the catalogue, registered as somebody's own would be.

Formulas are plain functions: the tests compute with them as they stand what kernels compute.
"""
from math import exp, log, tanh

from fastmlp.kernels import activations, losses, update_rules
from fastmlp.kernels.catalogue import Activation, Loss, Rule, StepConstants, like, select


def mish(z):
    """z tanh(log(1 + e^z)), Misra 2019; not monotonic."""
    return z * tanh(log(1.0 + exp(z)))


def mish_slope(z):
    t, grown = tanh(log(1.0 + exp(z))), exp(z)
    return t + z * (1.0 - t * t) * grown / (1.0 + grown)


def lion(w, g, s1, s2, c):
    """w ← decay w - η sign(β₁ s1 + (1 - β₁) g), s1 ← β₂ s1 + (1 - β₂) g (Chen et al. 2023)."""
    mean = c.first * s1 + c.rest_of_first * g
    return w * c.decay - c.rate * select(mean < 0.0, -1.0, 0.0 * mean + 1.0), c.second * s1 + c.rest_of_second * g, s2


def lion_constants(hyper, rate, step):
    """A rate that falls with the steps, so that their number is seen to arrive."""
    return StepConstants(rate / step, hyper[0], hyper[1], 0.0, 1.0 - rate * hyper[3], 0.0, 0.0, 1.0 - hyper[0],
                         1.0 - hyper[1])


def log_cosh(scale, z, t):
    """l = s log cosh((z - t) / s), l' = tanh((z - t) / s)."""
    e = (z - t) / like(scale, z)
    grown = exp(-2.0 * abs(e))
    return like(scale, z) * (abs(e) + log(0.5 + 0.5 * grown)), tanh(e)


def register():
    """Before kernels.cpu or kernels.cuda is imported."""
    activations.TABLE.register(Activation("mish", mish, mish_slope, needs_z=True))
    update_rules.TABLE.register(Rule("lion", lion, 1, ("beta1", "beta2", "", "weight_decay"), lion_constants))
    losses.TABLE.register(Loss("log_cosh", log_cosh, parameter="scale", correct="outputs"))
