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
    ADAM_EPS  ADAM with ε / √(1 - β₂ᵗ) for ε                               (ibid., end of section 2; scikit-learn)
    GRADIENT  s1 ← s1 + η g;              w stays: sums the gradients of batches, each times its own η

Weight decay and l2 apply to weights, never to biases (training passes 0 for those).
"""
from types import SimpleNamespace

NAMES = ("sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw", "adam_eps", "gradient")
SGD, MOMENTUM, NESTEROV, RMSPROP, ADAM, ADAMW, ADAM_EPS, GRADIENT = range(len(NAMES))
SLOTS = (0, 1, 1, 1, 2, 2, 2, 1)


def define(jit, sqrt, reciprocal_sqrt):
    """The rules compiled by `jit`. Each returns the new (w, s1, s2); `c` is what `step_constants` gave."""

    def step_constants(rule, hyper, learning_rate, step):
        """(η, μ|ρ|β₁, β₂, ε, 1 - η λ, η / (1 - β₁ᵗ), 1 / √(1 - β₂ᵗ), 1 - μ|ρ|β₁, 1 - β₂): all that a step needs, in
        float64: 1 - β₂ of a β₂ rounded to float32 would be wrong in the fifth digit."""
        first, second, epsilon, decay = hyper[0], hyper[1], hyper[2], 1.0
        rate, root = learning_rate, 1.0
        if ADAM <= rule <= ADAM_EPS:
            rate = learning_rate / (1.0 - first ** step)
            root = 1.0 / (1.0 - second ** step) ** 0.5
        if rule == ADAM_EPS:
            epsilon *= root
        if rule == ADAMW:
            decay = 1.0 - learning_rate * hyper[3]
        return learning_rate, first, second, epsilon, decay, rate, root, 1.0 - first, 1.0 - second

    @jit
    def sgd(w, g, s1, s2, c):
        return w - c[0] * g, s1, s2

    @jit
    def momentum(w, g, s1, s2, c):
        s1 = c[1] * s1 - c[0] * g
        return w + s1, s1, s2

    @jit
    def nesterov(w, g, s1, s2, c):
        s1 = c[1] * s1 - c[0] * g
        return w + c[1] * s1 - c[0] * g, s1, s2

    @jit
    def rmsprop(w, g, s1, s2, c):
        s1 = c[1] * s1 + c[7] * (g * g)
        return w - c[0] * g * reciprocal_sqrt(s1 + c[3]), s1, s2

    @jit
    def adam(w, g, s1, s2, c):
        """ADAMW and ADAM_EPS too: c[4] is 1 without weight decay."""
        s1 = c[1] * s1 + c[7] * g
        s2 = c[2] * s2 + c[8] * (g * g)
        return w * c[4] - c[5] * s1 / (sqrt(s2) * c[6] + c[3]), s1, s2

    @jit
    def gradient(w, g, s1, s2, c):
        return w, s1 + c[0] * g, s2

    return SimpleNamespace(step_constants=jit(step_constants), sgd=sgd, momentum=momentum, nesterov=nesterov,
                           rmsprop=rmsprop, adam=adam, gradient=gradient)
