"""Optimizer rules: one step of each, one record each. What a formula may name: `catalogue`.

`hyper` is float64 (4,): (momentum | rho | beta1, beta2, epsilon, weight_decay). `SLOTS[rule]` is how
many state arrays of the weights' size a rule keeps (s1, then s2). With learning rate η, gradient g,
step t counted from 1:

    SGD       w ← w - η g
    MOMENTUM  s1 ← μ s1 - η g;            w ← w + s1                       (Polyak 1964, as in Keras)
    NESTEROV  s1 ← μ s1 - η g;            w ← w + μ s1 - η g               (Sutskever et al. 2013)
    RMSPROP   s1 ← ρ s1 + (1 - ρ) g²;     w ← w - η g / √(s1 + ε)          (Tieleman & Hinton 2012, ε as in Keras)
    ADAM      s1 ← β₁ s1 + (1 - β₁) g;    s2 ← β₂ s2 + (1 - β₂) g²
              w ← w - η ŝ1 / (√ŝ2 + ε),   ŝ1 = s1 / (1 - β₁ᵗ), ŝ2 = s2 / (1 - β₂ᵗ)   (Kingma & Ba 2015, algorithm 1)
    ADAMW     w ← w - η λ w, then ADAM                                     (Loshchilov & Hutter 2019)
    ADAM_EPS  ADAM with ε / √(1 - β₂ᵗ) for ε                               (ibid., end of section 2; scikit-learn)
    GRADIENT  s1 ← s1 + η g;              w stays: sums the gradients of batches, each times its own η

Weight decay and l2 apply to weights, never to biases (`catalogue.without_decay`).
"""
from math import sqrt

from .catalogue import Rule, StepConstants, Table, reciprocal_sqrt


def sgd(w, g, s1, s2, c):
    return w - c.rate * g, s1, s2


def momentum(w, g, s1, s2, c):
    s1 = c.first * s1 - c.rate * g
    return w + s1, s1, s2


def nesterov(w, g, s1, s2, c):
    s1 = c.first * s1 - c.rate * g
    return w + c.first * s1 - c.rate * g, s1, s2


def rmsprop(w, g, s1, s2, c):
    s1 = c.first * s1 + c.rest_of_first * (g * g)
    return w - c.rate * g * reciprocal_sqrt(s1 + c.epsilon), s1, s2


def adam(w, g, s1, s2, c):
    """ADAMW and ADAM_EPS too: without weight decay the decay is 1."""
    s1 = c.first * s1 + c.rest_of_first * g
    s2 = c.second * s2 + c.rest_of_second * (g * g)
    return w * c.decay - c.corrected_rate * s1 / (sqrt(s2) * c.root + c.epsilon), s1, s2


def gradient(w, g, s1, s2, c):
    return w, s1 + c.rate * g, s2


def adam_constants(hyper, rate, step):
    return _corrected(hyper, rate, step, hyper[2], 1.0)


def adamw_constants(hyper, rate, step):
    return _corrected(hyper, rate, step, hyper[2], 1.0 - rate * hyper[3])


def adam_eps_constants(hyper, rate, step):
    return _corrected(hyper, rate, step, hyper[2] * _root(hyper, step), 1.0)


def _root(hyper, step):
    return 1.0 / (1.0 - hyper[1] ** step) ** 0.5


def _corrected(hyper, rate, step, epsilon, decay):
    """With the means corrected for their start at zero."""
    return StepConstants(rate, hyper[0], hyper[1], epsilon, decay, rate / (1.0 - hyper[0] ** step), _root(hyper, step),
                         1.0 - hyper[0], 1.0 - hyper[1])


_ADAM = ("beta1", "beta2", "epsilon", "")
TABLE = Table(
    "update_rules",
    Rule("sgd", sgd),
    Rule("momentum", momentum, 1, ("momentum", "", "", "")),
    Rule("nesterov", nesterov, 1, ("momentum", "", "", "")),
    Rule("rmsprop", rmsprop, 1, ("rho", "", "epsilon", "")),
    Rule("adam", adam, 2, _ADAM, adam_constants),
    Rule("adamw", adam, 2, ("beta1", "beta2", "epsilon", "weight_decay"), adamw_constants),
    Rule("adam_eps", adam, 2, _ADAM, adam_eps_constants),
    Rule("gradient", gradient, 1, moves=False),
)


def step_constants(rule, hyper, rate, step):
    """`StepConstants` of one step, from 1 on. ValueError for an unknown rule."""
    return TABLE.record(rule, "rule").constants([float(h) for h in hyper], float(rate), int(step))


def __getattr__(name):
    """Codes (ADAM, ...) and what else follows from the table, registered records included."""
    if name == "NAMES":
        return TABLE.names
    if name == "SLOTS":
        return tuple(record.slots for record in TABLE)
    return TABLE.constant(name)
