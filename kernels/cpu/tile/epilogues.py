"""What is done to a tile while it is hot: bias and activation, the optimizer, the way into a row-major matrix.

Generated from the records of the catalogue, a loop for each; the loop is chosen once a tile.
"""
import functools

from ... import activations, update_rules
from ..jit import inlined, outlined
from ..vector.functions import choice, of_vectors
from ..vector.panels import panel_width
from ..vector.pointers import lanes, load, load_first, store, store_first

# ------------------------------------------------------------------------------- activations

@functools.cache
def _activation_loop(f, slope, needs_z):
    function, derivative, trainable = of_vectors(f), of_vectors(slope or activations.one), slope is not None

    @inlined                     # so that numbers known where `activate` is called are known here: else 10 % slower
    def loop(z, bias, bias_step, rows, columns, y, slopes):
        width = panel_width(z)
        for v in range(0, columns, lanes(z)):
            for r in range(rows):
                i = r * width + v
                before = load(z, i) + load(bias, r * bias_step + v)
                after = function(before)
                store(y, i, after)
                if trainable:
                    store(slopes, i, derivative(before if needs_z else after))

    return loop


# What is not elementwise is the identity here, and done elsewhere.
_activate = choice({code: _activation_loop(record.f or activations.identity, record.slope, record.needs_z)
                    for code, record in activations.TABLE.cases()})


@outlined
def activate(code, z, bias, bias_step, rows, columns, y, slopes):
    """y = f(z + bias) and slopes = f' for `rows` rows of a panel, whole vectors until `columns` are covered.

    z, y, slopes point to rows that lie a panel width apart, those of bias bias_step; y may be z.
    """
    _activate(code, (z, bias, bias_step, rows, min(columns, panel_width(z)), y, slopes))


# ------------------------------------------------------------------------------- optimizer rules

@functools.cache
def _rule_loop(formula, slots, moves):
    """One step on `rows` rows of `count` numbers, `step` apart. Whole vectors, then one masked."""
    rule = of_vectors(formula)

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
    def loop(w, g, s1, s2, rows, count, step, l2, constants):
        complete = count - count % lanes(w)
        for r in range(rows):
            for i in range(r * step, r * step + complete, lanes(w)):
                vector(w, g, s1, s2, i, lanes(w), l2, constants)
            if complete < count:
                vector(w, g, s1, s2, r * step + complete, count - complete, l2, constants)

    return loop


_apply_rule = choice({code: _rule_loop(record.step, record.slots, record.moves)
                      for code, record in update_rules.TABLE.cases()})


@outlined
def apply_rule(rule, w, g, s1, s2, rows, count, step, l2, constants):
    """One optimizer step in place on `rows` rows of `count` numbers, `step` apart; the gradient is g + l2 w.

    See `update_rules`. One row is `np.intp(1)`: Numba compiles a function again for a literal 1, and what LLVM then
    inlined depended on which nets the process had trained before.
    """
    _apply_rule(rule, (w, g, s1, s2, rows, count, step, l2, constants))


# ------------------------------------------------------------------------------- row-major matrices

@inlined
def store_tile(tile, rows, columns, out, out_step):
    """The first rows and columns of a (ROWS, P) tile into a row-major matrix."""
    width = panel_width(tile)
    for r in range(rows):
        for v in range(0, min(columns, width), lanes(tile)):
            store_first(out, r * out_step + v, load(tile, r * width + v), columns - v)
