"""Activations, slopes, optimizer rules and losses compiled for this machine from the records of the catalogue.

What chooses among them by code is a chain of comparisons, generated from the table: a link is compiled for each record,
and calls the next one where the code is not its own. A code is compared once a tile or once a row, outside the loops,
so a record costs what its arithmetic costs. Unknown codes are refused where people pass them; the end of a chain
computes nothing, or NaN.
"""
import functools
import math

import numpy as np

from .. import activations, catalogue, update_rules
from ..catalogue import binder
from .gemm import panel_width
from .jit import inlined, outlined
from .pointers import lanes, like, load, load_first, store, store_first
from .simd import absolute, select, sqrt
from .vector_math import erf, exp, log, reciprocal_sqrt, tanh

of_vectors = binder(inlined, {"exp": exp, "log": log, "tanh": tanh, "erf": erf, "sqrt": sqrt, "absolute": absolute,
                              "reciprocal_sqrt": reciprocal_sqrt, "select": select})
of_numbers = binder(inlined, {"exp": math.exp, "log": math.log, "log1p": math.log1p, "tanh": math.tanh,
                              "sqrt": math.sqrt, "like": like})
of_constants = binder(inlined, {})
without_decay = of_constants(catalogue.without_decay)


def chain(link, table, end):
    """The first link of a chain: link(code, record, next link), the last of which goes on to `end`."""
    return functools.reduce(lambda rest, case: link(*case, rest), reversed(table.cases()), end)


# ------------------------------------------------------------------------------- activations

def _activation_link(this, record, rest):
    function = of_vectors(record.f if record.elementwise else activations.identity)   # of whole rows: elsewhere
    trainable, needs_z = record.trainable, record.needs_z
    slope = of_vectors(record.slope or activations.one)

    @inlined
    def link(code, z, bias, bias_step, rows, columns, y, slopes):
        if code == this:
            width = panel_width(z)
            for v in range(0, columns, lanes(z)):
                for r in range(rows):
                    i = r * width + v
                    before = load(z, i) + load(bias, r * bias_step + v)
                    after = function(before)
                    store(y, i, after)
                    if trainable:
                        store(slopes, i, slope(before if needs_z else after))
        else:
            rest(code, z, bias, bias_step, rows, columns, y, slopes)

    return link


@inlined
def _no_activation(code, z, bias, bias_step, rows, columns, y, slopes):
    pass


_activate = chain(_activation_link, activations.TABLE, _no_activation)


@outlined
def activate(code, z, bias, bias_step, rows, columns, y, slopes):
    """y = f(z + bias) and slopes = f' for `rows` rows of a panel, whole vectors until `columns` are covered.

    z, y, slopes point to rows that lie a panel width apart, those of bias bias_step; y may be z. What is not
    elementwise is the identity here.
    """
    _activate(code, z, bias, bias_step, rows, min(columns, panel_width(z)), y, slopes)


def _slope_link(this, record, rest):
    if not record.trainable:
        return rest
    slope = of_vectors(record.slope)

    @inlined
    def link(code, y):
        if code == this:
            return slope(y)
        return rest(code, y)

    return link


@inlined
def _no_slope(code, y):
    return 0.0 * y + np.nan


# By code, of one vector.
VECTOR_FUNCTIONS = {code: of_vectors(record.f) for code, record in activations.TABLE.cases() if record.elementwise}
# f' of one vector of outputs (of pre-activations for those that need z): slope_vector(code, y).
slope_vector = chain(_slope_link, activations.TABLE, _no_slope)


# ------------------------------------------------------------------------------- optimizer rules

def _constants_link(this, record, rest):
    constants = of_constants(record.constants)

    @inlined
    def link(rule, hyper, rate, step):
        if rule == this:
            return constants(hyper, rate, step)
        return rest(rule, hyper, rate, step)

    return link


_plain_constants = of_constants(catalogue.plain_constants)


@inlined
def _no_constants(rule, hyper, rate, step):
    return _plain_constants(hyper, np.nan, step)


# `catalogue.StepConstants`: step_constants(rule, hyper, rate, step)
step_constants = chain(_constants_link, update_rules.TABLE, _no_constants)


def _rule_link(this, record, rest):
    """One step on `rows` rows of `count` numbers, `step` apart. Whole vectors, then one masked."""
    rule, slots, moves = of_vectors(record.step), record.slots, record.moves

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

    @inlined
    def link(code, w, g, s1, s2, rows, count, step, l2, constants):
        if code == this:
            whole = count - count % lanes(w)
            for r in range(rows):
                for i in range(r * step, r * step + whole, lanes(w)):
                    vector(w, g, s1, s2, i, lanes(w), l2, constants)
                if whole < count:
                    vector(w, g, s1, s2, r * step + whole, count - whole, l2, constants)
        else:
            rest(code, w, g, s1, s2, rows, count, step, l2, constants)

    return link


@inlined
def _no_rule(rule, w, g, s1, s2, rows, count, step, l2, constants):
    pass


_apply_rule = chain(_rule_link, update_rules.TABLE, _no_rule)


@outlined
def apply_rule(rule, w, g, s1, s2, rows, count, step, l2, constants):
    """One optimizer step in place on `rows` rows of `count` numbers, `step` apart; the gradient is g + l2 w.

    See `update_rules`.
    """
    _apply_rule(rule, w, g, s1, s2, rows, count, step, l2, constants)
