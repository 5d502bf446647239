"""Optimizer rules: one step of each, as scalar mathematics, written once.

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

Weight decay and l2 apply to weights, never to biases (training passes 0 for those).
"""
from types import SimpleNamespace

NAMES = ("sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw")
SGD, MOMENTUM, NESTEROV, RMSPROP, ADAM, ADAMW = range(len(NAMES))
SLOTS = (0, 1, 1, 1, 2, 2)
