"""The optimizer step on flat arrays. Training applies the same rules in the epilogue of each dW tile."""
import numpy as np

from ... import update_rules
from ..jit import operation
from ..tile.epilogues import apply_rule
from ..vector.functions import step_constants
from ..vector.pointers import at, constant
from .operands import apart, contiguous, integer, operand, output

SLOTS = update_rules.SLOTS


@operation(doubles=("hyper",))
def update(rule, hyper, learning_rate, step, w, g, s1, s2):
    """One step of an optimizer, in place. Rules and sources: `kernels.update_rules`.

    Parameters
    ----------
    rule : int, a code of `kernels.update_rules`.
    hyper : float64 (4,): momentum | rho | beta1, beta2, epsilon, weight_decay.
    learning_rate : float; step : int, 1 for the first.
    w, g, s1, s2 : (count,) weights, gradient and slots, float32 or float64, C-contiguous; slots that the
        rule does not use may be (0,). w and slots are changed.

    Raises
    ------
    ValueError : an unknown rule, or arrays of different lengths.

    Notes
    -----
    Cost: a few flops a number; reads w, g and the slots used and writes w and the slots: 3 + 2 slots numbers each.
    Sources: those of the rules, in `update_rules`.
    """
    integer(rule, "update: rule")
    integer(step, "update: step")
    operand(hyper, 1, "update: hyper")
    output(w, 1, "update: w")
    operand(g, 1, "update: g")
    output(s1, 1, "update: s1")
    output(s2, 1, "update: s2")
    if rule < 0 or rule >= len(SLOTS):
        raise ValueError("update: rule must be a code of kernels.update_rules")
    if hyper.shape[0] != 4 or step < 1:
        raise ValueError("update: hyper must have 4 numbers and step must be at least 1")
    count = w.shape[0]
    slots = SLOTS[rule]
    if g.shape[0] != count or (slots > 0 and s1.shape[0] != count) or (slots > 1 and s2.shape[0] != count):
        raise ValueError("update: w, g and the slots that the rule uses must have the same length")
    contiguous((hyper, w, g, s1, s2))
    if not apart((w, s1, s2), (g, hyper)):
        raise ValueError("update: w and the slots are written and must not share memory with each other, g or hyper")
    constants = step_constants(rule, hyper, learning_rate, step)
    apply_rule(rule, at(w, 0), at(g, 0), at(s1, 0), at(s2, 0), np.intp(1), count, count,
               constant(0.0, at(w, 0)), constants)
