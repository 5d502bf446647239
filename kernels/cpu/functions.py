"""Activations, slopes and optimizer rules compiled for vectors, as loops over tiles chosen by code.

The code is compared once a tile, outside the loops, so an activation costs what its arithmetic costs.
"""
from .. import activations as codes
from .. import update_rules
from .gemm import panel_width
from .jit import inlined, outlined
from .pointers import lanes, load, load_first, store, store_first
from .simd import select, sqrt
from .vector_math import erf, exp, reciprocal_sqrt, tanh

f = codes.define(inlined, exp, tanh, erf, select)
relu_slope, leaky_relu_slope, tanh_slope = f.relu_slope, f.leaky_relu_slope, f.tanh_slope
sigmoid_slope, gelu_slope, silu_slope = f.sigmoid_slope, f.gelu_slope, f.silu_slope
rules = update_rules.define(inlined, sqrt, reciprocal_sqrt)
step_constants = rules.step_constants


# ------------------------------------------------------------------------------- activations

def _define_loop(function, slope, slope_takes_z):
    @outlined
    def loop(z, bias, bias_step, rows, columns, y, slopes):
        width = panel_width(z)
        for v in range(0, columns, lanes(z)):
            for r in range(rows):
                i = r * width + v
                before = load(z, i) + load(bias, r * bias_step + v)
                after = function(before)
                store(y, i, after)
                store(slopes, i, slope(before if slope_takes_z else after))

    return loop


@inlined
def _same(z):
    return z


@inlined
def _one(y):
    return 0.0 * y + 1.0


@inlined
def _tanh(z):
    return tanh(z)


@inlined
def _exponential(z):
    return exp(z)


# By code, of one vector; the others are the identity, or of whole rows.
VECTOR_FUNCTIONS = {codes.RELU: f.relu, codes.LEAKY_RELU: f.leaky_relu, codes.TANH: _tanh, codes.SIGMOID: f.sigmoid,
                    codes.GELU: f.gelu, codes.SILU: f.silu, codes.SIGN: f.sign, codes.EXP: _exponential}

_identity = _define_loop(_same, _one, False)
_relu = _define_loop(f.relu, relu_slope, False)
_leaky_relu = _define_loop(f.leaky_relu, leaky_relu_slope, False)
_tanh_loop = _define_loop(_tanh, tanh_slope, False)
_sigmoid = _define_loop(f.sigmoid, sigmoid_slope, False)
_gelu = _define_loop(f.gelu, gelu_slope, True)
_silu = _define_loop(f.silu, silu_slope, True)
_sign = _define_loop(f.sign, _one, False)
_exp = _define_loop(_exponential, _one, False)


@outlined
def activate(code, z, bias, bias_step, rows, columns, y, slopes):
    """y = f(z + bias) and slopes = f' for `rows` rows of a panel, whole vectors until `columns` are covered.

    z, y, slopes point to rows that lie a panel width apart, those of bias bias_step; y may be z.
    """
    columns = min(columns, panel_width(z))
    if code == codes.RELU:
        _relu(z, bias, bias_step, rows, columns, y, slopes)
    elif code == codes.TANH:
        _tanh_loop(z, bias, bias_step, rows, columns, y, slopes)
    elif code == codes.SIGMOID:
        _sigmoid(z, bias, bias_step, rows, columns, y, slopes)
    elif code == codes.LEAKY_RELU:
        _leaky_relu(z, bias, bias_step, rows, columns, y, slopes)
    elif code == codes.GELU:
        _gelu(z, bias, bias_step, rows, columns, y, slopes)
    elif code == codes.SILU:
        _silu(z, bias, bias_step, rows, columns, y, slopes)
    elif code == codes.SIGN:
        _sign(z, bias, bias_step, rows, columns, y, slopes)
    elif code == codes.EXP:
        _exp(z, bias, bias_step, rows, columns, y, slopes)
    else:                                                      # identity; softmax is of whole rows, elsewhere
        _identity(z, bias, bias_step, rows, columns, y, slopes)


@inlined
def slope_vector(code, y):
    """f' of one vector of outputs (of pre-activations for GELU and SiLU)."""
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
    return _one(y)


# ------------------------------------------------------------------------------- optimizer rules

def _define_update(rule, slots, moves=True):
    """One step on `rows` rows of `count` numbers, `step` apart. Whole vectors, then one masked."""

    @inlined
    def vector(w, g, s1, s2, i, left, l2, constants):
        weight = load_first(w, i, left)
        first = load_first(s1, i, left) if slots > 0 else weight
        second = load_first(s2, i, left) if slots > 1 else weight
        weight, first, second = rule(weight, load_first(g, i, left) + l2 * weight, first, second, constants)
        if moves:
            store_first(w, i, weight, left)
        if slots > 0:
            store_first(s1, i, first, left)
        if slots > 1:
            store_first(s2, i, second, left)

    @outlined
    def loop(w, g, s1, s2, rows, count, step, l2, constants):
        whole = count - count % lanes(w)
        for r in range(rows):
            for i in range(r * step, r * step + whole, lanes(w)):
                vector(w, g, s1, s2, i, lanes(w), l2, constants)
            if whole < count:
                vector(w, g, s1, s2, r * step + whole, count - whole, l2, constants)

    return loop


_sgd = _define_update(rules.sgd, 0)
_momentum = _define_update(rules.momentum, 1)
_nesterov = _define_update(rules.nesterov, 1)
_rmsprop = _define_update(rules.rmsprop, 1)
_adam = _define_update(rules.adam, 2)
_gradient = _define_update(rules.gradient, 1, moves=False)


@outlined
def apply_rule(rule, w, g, s1, s2, rows, count, step, l2, constants):
    """One optimizer step in place on `rows` rows of `count` numbers, `step` apart; the gradient is g + l2 w.

    See `update_rules`.
    """
    if rule == update_rules.SGD:
        _sgd(w, g, s1, s2, rows, count, step, l2, constants)
    elif rule == update_rules.MOMENTUM:
        _momentum(w, g, s1, s2, rows, count, step, l2, constants)
    elif rule == update_rules.NESTEROV:
        _nesterov(w, g, s1, s2, rows, count, step, l2, constants)
    elif rule == update_rules.RMSPROP:
        _rmsprop(w, g, s1, s2, rows, count, step, l2, constants)
    elif rule == update_rules.GRADIENT:
        _gradient(w, g, s1, s2, rows, count, step, l2, constants)
    else:
        _adam(w, g, s1, s2, rows, count, step, l2, constants)
