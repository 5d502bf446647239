"""Device functions for your own `@cuda.jit` kernels: scalars, and rows by one thread.

    f = functions.of(np.float32)
    dense_row, activate = f.dense_row, f.activate          # Numba takes names, not attributes

`of(dtype)`, float32 or float64, has
    activate(code, z) -> y            f(z);  code: of `kernels.activations`, any elementwise one
    slope(code, y) -> f'              from the output y; for GELU and SILU (`activations.NEEDS_Z`) from z
    with_slope(code, z) -> (y, f')    both at once, for every code
    kept(row, column, layer, step, seed, threshold) -> bool
                                      whether dropout keeps an element: the masks of all packages (`kernels.dropout`);
                                      threshold = keep_threshold(rate), made on the host
    apply_rule(rule, w, g, s1, s2, constants) -> (w, s1, s2)
                                      one optimizer step of one weight (`kernels.update_rules`); slots that the rule
                                      does not use come back as they were; constants = step_constants(...) below
    dense_row(x, w, b, activation, y) y (n,) = f(x W + b);  x (k,), w (k, n), b (n,).  2 k n flops
    softmax_row(z, p)                 p (n,) = softmax of z (n,);  p may be z.  2 n exponentials
    softmax_cross_entropy_row(z, label, scale, dz) -> loss
                                      -log softmax(z)[label];  dz (n,) = (softmax(z) - onehot) scale;  dz may be z.
                                      2 n exponentials.  Stable for any finite z
All are inlined. Rows are arrays of one dimension in any memory: `z[r]` of a matrix, `cuda.local.array`, shared. Nothing
is checked. What is written as 1.0 in your kernel is float64 and makes all it meets float64: write dtype(1).

On the host: step_constants(rule, hyper, learning_rate, step, dtype), a tuple to pass to your kernel, and
keep_threshold(rate).
"""
import functools
import math
import warnings
from types import SimpleNamespace

from .. import update_rules
from ..catalogue import StepConstants
from . import scalars
from .philox import keep_threshold, kept
from .shims import device

__all__ = ["keep_threshold", "of", "step_constants"]


def step_constants(rule, hyper, learning_rate, step, dtype):
    """What `apply_rule` needs of one step, computed in float64: nine numbers of `dtype`. step: 1 for the first."""
    return tuple(map(dtype, update_rules.step_constants(rule, hyper, learning_rate, step)))


class Functions(SimpleNamespace):
    """The device functions of one dtype."""

    def __getattr__(self, name):
        if name != "softmax_xent_row":
            raise AttributeError(f"there is no device function {name!r}")
        warnings.warn("softmax_xent_row is now softmax_cross_entropy_row", DeprecationWarning, stacklevel=2)
        return self.softmax_cross_entropy_row


@functools.cache
def of(dtype):
    """The device functions for one dtype, numpy.float32 or numpy.float64: see the module's own help."""
    scalar, zero = scalars.functions(dtype), dtype(0)
    activate, rule_step = scalar.activate, scalar.apply_rule

    @device
    def apply_rule(rule, w, g, s1, s2, constants):
        c = constants
        return rule_step(rule, w, g, s1, s2, StepConstants(c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7], c[8]))

    @device
    def dense_row(x, w, b, activation, y):
        for c in range(b.shape[0]):
            total = b[c]
            for j in range(x.shape[0]):
                total += x[j] * w[j, c]
            y[c] = activate(activation, total)

    @device
    def largest(z):
        top = z[0]
        for j in range(1, z.shape[0]):
            top = z[j] if z[j] > top else top
        return top

    @device
    def exponentials(z, top):
        total = zero
        for j in range(z.shape[0]):
            total += math.exp(z[j] - top)
        return total

    @device
    def softmax_row(z, p):
        top = largest(z)
        total = exponentials(z, top)
        for j in range(z.shape[0]):
            p[j] = math.exp(z[j] - top) / total

    @device
    def softmax_cross_entropy_row(z, label, scale, dz):
        top = largest(z)
        total = exponentials(z, top)
        loss = math.log(total) - (z[label] - top)             # before dz is written, which may be z
        share = scale / total
        for j in range(z.shape[0]):
            value = math.exp(z[j] - top) * share
            dz[j] = value - scale if j == label else value
        return loss

    return Functions(activate=activate, slope=scalar.slope, with_slope=scalar.with_slope, kept=kept,
                           apply_rule=apply_rule, dense_row=dense_row, softmax_row=softmax_row,
                           softmax_cross_entropy_row=softmax_cross_entropy_row)
