"""One optimizer step on flat arrays, in place. η is the learning rate, t counts steps from 1.

    SGD       w ← w - η g
    MOMENTUM  s1 ← μ s1 - η g;            w ← w + s1                       (Polyak 1964, as in Keras)
    NESTEROV  s1 ← μ s1 - η g;            w ← w + μ s1 - η g               (Sutskever et al. 2013)
    RMSPROP   s1 ← ρ s1 + (1 - ρ) g²;     w ← w - η g / √(s1 + ε)          (Tieleman & Hinton 2012, ε as in Keras)
    ADAM      s1 ← β₁ s1 + (1 - β₁) g;    s2 ← β₂ s2 + (1 - β₂) g²
              w ← w - η ŝ1 / (√ŝ2 + ε),   ŝ1 = s1 / (1 - β₁ᵗ), ŝ2 = s2 / (1 - β₂ᵗ)   (Kingma & Ba 2015, algorithm 1)
    ADAMW     w ← w - η λ w, then ADAM                                     (Loshchilov & Hutter 2019)
    ADAM_EPS  ADAM with ε / √(1 - β₂ᵗ) for ε                               (ibid., end of section 2; scikit-learn)
    GRADIENT  s1 ← s1 + η g;              w stays: sums the gradients of batches, each times its own η
"""
import numpy as np

from .codes import ADAM, ADAM_EPS, ADAMW, GRADIENT, MOMENTUM, NESTEROV, RMSPROP, SGD

SLOTS = (0, 1, 1, 1, 2, 2, 2, 1)  # state arrays that each rule keeps
BLOCK = 16384  # elements; the temporaries of one block (64 KiB in float32) stay in the cache


def update(rule, hyper, learning_rate, step, w, g, s1, s2):
    """hyper = (momentum | rho | beta1, beta2, epsilon, weight_decay); step is t; unused slots have size 0."""
    # Python floats, unlike float64 scalars, take the dtype of the arrays they meet.
    first, beta2, epsilon, decay = map(float, hyper)
    eta = float(learning_rate)
    for start in range(0, w.size, BLOCK):
        wb, gb, s1b, s2b = (array[start:start + BLOCK] for array in (w, g, s1, s2))
        if rule == SGD:
            wb -= eta * gb
        elif rule == MOMENTUM:
            momentum(eta, first, wb, gb, s1b)
        elif rule == NESTEROV:
            nesterov(eta, first, wb, gb, s1b)
        elif rule == RMSPROP:
            rmsprop(eta, first, epsilon, wb, gb, s1b)
        elif rule == ADAM:
            adam(eta, first, beta2, epsilon, step, wb, gb, s1b, s2b)
        elif rule == ADAMW:
            wb -= eta * decay * wb
            adam(eta, first, beta2, epsilon, step, wb, gb, s1b, s2b)
        elif rule == ADAM_EPS:
            adam(eta, first, beta2, epsilon / (1 - beta2 ** step) ** 0.5, step, wb, gb, s1b, s2b)
        elif rule == GRADIENT:
            s1b += eta * gb
        else:
            raise ValueError(f"rule code {rule} is unknown")


def momentum(eta, mu, w, g, s1):
    s1 *= mu
    s1 -= eta * g
    w += s1


def nesterov(eta, mu, w, g, s1):
    step = eta * g
    s1 *= mu
    s1 -= step
    w += mu * s1
    w -= step


def rmsprop(eta, rho, epsilon, w, g, s1):
    s1 *= rho
    s1 += (1 - rho) * g * g
    w -= eta * g / np.sqrt(s1 + epsilon)


def adam(eta, beta1, beta2, epsilon, t, w, g, s1, s2):
    s1 *= beta1
    s1 += (1 - beta1) * g
    s2 *= beta2
    s2 += (1 - beta2) * g * g
    s1_hat = s1 / (1 - beta1 ** t)
    s2_hat = s2 / (1 - beta2 ** t)
    w -= eta * s1_hat / (np.sqrt(s2_hat) + epsilon)
