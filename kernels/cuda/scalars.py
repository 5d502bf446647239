"""The catalogue's formulas as device functions of float32 or of float64, and what chooses among them by code.

The mathematics is `kernels.activations`, `kernels.update_rules` and `kernels.losses`; here their literal numbers take
the operands' type: 1.0 next to a float32 would make the whole expression float64, which a GPU computes 32 to 64 times
slower. Only what is written as a float does, 0.0 and not 0.

What chooses is a chain of comparisons made from a table, a link for each record; a warp's threads all take one way
through it. Codes are validated once on entry; the end of a chain is NaN.
"""
import functools
import math
from types import FunctionType, SimpleNamespace

import numpy as np

from .. import activations, losses, update_rules
from ..catalogue import binder, without_decay
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
def formulas(dtype):
    """bound(formula) -> the device function of it (`catalogue.binder`)."""
    jit = literals_in(dtype)

    @jit
    def select(condition, yes, no):
        return yes if condition else no

    @jit
    def reciprocal_sqrt(x):
        return 1.0 / math.sqrt(x)

    @device
    def like(constant, number):
        return dtype(constant)

    return binder(jit, {"exp": math.exp, "log": math.log, "log1p": math.log1p, "tanh": math.tanh, "erf": math.erf,
                        "sqrt": math.sqrt, "absolute": abs, "select": select, "reciprocal_sqrt": reciprocal_sqrt,
                        "like": like})


def chain(link, cases, end):
    """The first link of a chain: link(key, value, next link) for each (key, value), the last going on to `end`."""
    return functools.reduce(lambda rest, case: link(*case, rest), reversed(tuple(cases)), end)


def is_in(codes):
    """A device function of a code: whether it is among these."""
    @device
    def none(code):
        return False

    def link(this, _, rest):
        @device
        def found(code):
            return code == this or rest(code)

        return found

    return chain(link, ((code, None) for code in codes), none)


@functools.cache
def functions(dtype):
    """activate(code, z) -> y;  slope(code, y or z) -> f';  with_slope(code, z) -> (y, f');
    apply_rule(rule, w, g, s1, s2, constants) -> (w, s1, s2), constants: `catalogue.StepConstants`;
    loss(code, parameter, z, t) -> (l, ∂l/∂z) of one output."""
    bound, nan = formulas(dtype), dtype(np.nan)

    @device
    def no_number(code, z):
        return nan

    def activate_link(this, record, rest):
        f = bound(record.f or activations.identity)            # softmax is a kernel of its own, in `losses`

        @device
        def activate(code, z):
            return f(z) if code == this else rest(code, z)

        return activate

    def slope_link(this, record, rest):
        if not record.trainable:
            return rest
        f = bound(record.slope)

        @device
        def slope(code, y):
            return f(y) if code == this else rest(code, y)

        return slope

    activate = chain(activate_link, activations.TABLE.cases(), no_number)
    slope = chain(slope_link, activations.TABLE.cases(), no_number)
    needs_z = is_in(activations.NEEDS_Z)

    @device
    def with_slope(code, z):
        y = activate(code, z)
        return y, slope(code, z if needs_z(code) else y)

    @device
    def no_loss(code, parameter, z, t):
        return nan, nan

    def loss_link(this, record, rest):
        if not record.elementwise:                             # of a whole row, in `losses`
            return rest
        element = bound(record.element)

        @device
        def loss(code, parameter, z, t):
            if code == this:
                return element(parameter, z, t)
            return rest(code, parameter, z, t)

        return loss

    @device
    def no_rule(rule, w, g, s1, s2, constants):
        return nan, nan, nan

    def rule_link(codes, step, rest):
        is_this, step = is_in(codes), bound(step)

        @device
        def apply_rule(rule, w, g, s1, s2, constants):
            if is_this(rule):
                return step(w, g, s1, s2, constants)
            return rest(rule, w, g, s1, s2, constants)

        return apply_rule

    rules = {}                                                 # what rules share is compiled into a kernel once
    for code, record in update_rules.TABLE.cases():
        rules.setdefault(record.step, []).append(code)
    apply_rule = chain(rule_link, ((codes, step) for step, codes in rules.items()), no_rule)
    return SimpleNamespace(activate=activate, slope=slope, with_slope=with_slope, apply_rule=apply_rule,
                           without_decay=bound(without_decay), loss=chain(loss_link, losses.TABLE.cases(), no_loss))
