"""Activations, slopes and optimizer rules as device functions of float32 or of float64, chosen by code.

The mathematics is `kernels.activations` and `kernels.update_rules`; here their literal numbers take the operands' type:
1.0 beside a float32 would make the whole expression float64, which a GPU computes 32 to 64 times slower.
"""
import functools
import math
from types import FunctionType, SimpleNamespace

from .. import activations as codes
from .. import update_rules
from .shims import device


def literals_in(dtype):
    """A decorator as `device`, which gives every literal and every global float of the function that type."""
    def converted(value):
        return dtype(value) if type(value) is float else value

    def decorate(function):
        code = function.__code__
        code = code.replace(co_consts=tuple(map(converted, code.co_consts)))
        scope = {name: converted(value) for name, value in function.__globals__.items()}
        return device(FunctionType(code, scope, function.__name__, None, function.__closure__))

    return decorate


@functools.cache
def functions(dtype):
    """activate(code, z) -> y;  slope(code, y or z) -> f';  with_slope(code, z) -> (y, f');
    apply_rule(rule, w, g, s1, s2, constants) -> (w, s1, s2);  step_constants (always in float64)."""
    jit = literals_in(dtype)

    @jit
    def select(condition, yes, no):
        return yes if condition else no

    @jit
    def reciprocal_sqrt(x):
        return 1.0 / math.sqrt(x)

    f = codes.define(jit, math.exp, math.tanh, math.erf, select)
    relu, leaky_relu, sigmoid, gelu, silu, sign = f.relu, f.leaky_relu, f.sigmoid, f.gelu, f.silu, f.sign
    relu_slope, leaky_relu_slope, tanh_slope = f.relu_slope, f.leaky_relu_slope, f.tanh_slope
    sigmoid_slope, gelu_slope, silu_slope = f.sigmoid_slope, f.gelu_slope, f.silu_slope
    tanh, exp = math.tanh, math.exp

    @jit
    def activate(code, z):
        if code == codes.RELU:
            return relu(z)
        if code == codes.TANH:
            return tanh(z)
        if code == codes.SIGMOID:
            return sigmoid(z)
        if code == codes.LEAKY_RELU:
            return leaky_relu(z)
        if code == codes.GELU:
            return gelu(z)
        if code == codes.SILU:
            return silu(z)
        if code == codes.SIGN:
            return sign(z)
        if code == codes.EXP:
            return exp(z)
        return z

    @jit
    def slope(code, y):
        if code == codes.RELU:
            return relu_slope(y)
        if code == codes.TANH:
            return tanh_slope(y)
        if code == codes.SIGMOID:
            return sigmoid_slope(y)
        if code == codes.LEAKY_RELU:
            return leaky_relu_slope(y)
        if code == codes.GELU:
            return gelu_slope(y)
        if code == codes.SILU:
            return silu_slope(y)
        return 0.0 * y + 1.0

    @jit
    def with_slope(code, z):
        y = activate(code, z)
        if code == codes.GELU or code == codes.SILU:           # not monotonic: the output does not tell the slope
            return y, slope(code, z)
        return y, slope(code, y)

    rules = update_rules.define(jit, math.sqrt, reciprocal_sqrt)
    sgd, momentum, nesterov, rmsprop, adam = rules.sgd, rules.momentum, rules.nesterov, rules.rmsprop, rules.adam
    gradient = rules.gradient

    @jit
    def apply_rule(rule, w, g, s1, s2, c):
        if rule == update_rules.SGD:
            return sgd(w, g, s1, s2, c)
        if rule == update_rules.MOMENTUM:
            return momentum(w, g, s1, s2, c)
        if rule == update_rules.NESTEROV:
            return nesterov(w, g, s1, s2, c)
        if rule == update_rules.RMSPROP:
            return rmsprop(w, g, s1, s2, c)
        if rule == update_rules.GRADIENT:
            return gradient(w, g, s1, s2, c)
        return adam(w, g, s1, s2, c)                            # adamw too

    return SimpleNamespace(activate=activate, slope=slope, with_slope=with_slope, sigmoid=sigmoid,
                           apply_rule=apply_rule, step_constants=rules.step_constants)
