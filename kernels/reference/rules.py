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

from .codes import name_of

NAMES = ["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw", "adam_eps", "gradient"]

BLOCK = 16384  # elements; the temporaries of one block (64 KiB in float32) stay in the cache


def update(rule, hyper, learning_rate, step, w, g, s1, s2):
    """hyper = (momentum | rho | beta1, beta2, epsilon, weight_decay); step is t; unused slots have size 0."""
    take_step = STEPS[name_of(NAMES, rule, "rule")][0]
    # Python floats, unlike float64 scalars, take the dtype of the arrays next to them.
    hyper, eta = tuple(map(float, hyper)), float(learning_rate)
    for start in range(0, w.size, BLOCK):
        take_step(eta, hyper, step, *(array[start:start + BLOCK] for array in (w, g, s1, s2)))


def slots_of(rule):
    """State arrays that a rule keeps."""
    return STEPS[name_of(NAMES, rule, "rule")][1]


def sgd(eta, hyper, t, w, g, s1, s2):
    w -= eta * g


def momentum(eta, hyper, t, w, g, s1, s2):
    s1 *= hyper[0]
    s1 -= eta * g
    w += s1


def nesterov(eta, hyper, t, w, g, s1, s2):
    step, mu = eta * g, hyper[0]
    s1 *= mu
    s1 -= step
    w += mu * s1
    w -= step


def rmsprop(eta, hyper, t, w, g, s1, s2):
    rho, epsilon = hyper[0], hyper[2]
    s1 *= rho
    s1 += (1 - rho) * g * g
    w -= eta * g / np.sqrt(s1 + epsilon)


def adam(eta, hyper, t, w, g, s1, s2):
    beta1, beta2, epsilon, _ = hyper
    s1 *= beta1
    s1 += (1 - beta1) * g
    s2 *= beta2
    s2 += (1 - beta2) * g * g
    s1_hat = s1 / (1 - beta1 ** t)
    s2_hat = s2 / (1 - beta2 ** t)
    w -= eta * s1_hat / (np.sqrt(s2_hat) + epsilon)


def adamw(eta, hyper, t, w, g, s1, s2):
    w -= eta * hyper[3] * w
    adam(eta, hyper, t, w, g, s1, s2)


def adam_eps(eta, hyper, t, w, g, s1, s2):
    beta1, beta2, epsilon, _ = hyper
    adam(eta, (beta1, beta2, epsilon / (1 - beta2 ** t) ** 0.5, 0.0), t, w, g, s1, s2)


def gradient(eta, hyper, t, w, g, s1, s2):
    s1 += eta * g


# name: (one step, slots)
STEPS = {"sgd": (sgd, 0), "momentum": (momentum, 1), "nesterov": (nesterov, 1), "rmsprop": (rmsprop, 1),
         "adam": (adam, 2), "adamw": (adamw, 2), "adam_eps": (adam_eps, 2), "gradient": (gradient, 1)}
