"""The optimizer on single parameters, for kernels that have just summed up their gradients. Rules: `update_rules`."""
import functools
from types import SimpleNamespace

from .. import update_rules
from .control import L2
from .scalars import functions
from .shims import device


@functools.cache
def define(dtype):
    """held(constants) -> the step's constants in registers;
    move(rule, held, gradient, is_weight, w, w_at, s1, s2, slot_at) moves w[w_at] and its slots."""
    zero, one, apply_rule = dtype(0), dtype(1), functions(dtype).apply_rule
    sgd, adam, adam_eps = update_rules.SGD, update_rules.ADAM, update_rules.ADAM_EPS

    @device
    def held(constants):
        return (constants[0], constants[1], constants[2], constants[3], constants[4], constants[5], constants[6],
                constants[7], constants[8], constants[L2])

    @device
    def move(rule, held, gradient, is_weight, w, w_at, s1, s2, slot_at):
        c0, c1, c2, c3, decay, c5, c6, c7, c8, l2 = held
        weight, first, second = w[w_at], zero, zero
        if rule != sgd:
            first = s1[slot_at]
        if adam <= rule <= adam_eps:
            second = s2[slot_at]
        if is_weight:                                       # weight decay and l2 are not for biases
            gradient += l2 * weight
        else:
            decay = one
        weight, first, second = apply_rule(rule, weight, gradient, first, second,
                                           (c0, c1, c2, c3, decay, c5, c6, c7, c8))
        w[w_at] = weight
        if rule != sgd:
            s1[slot_at] = first
        if adam <= rule <= adam_eps:
            s2[slot_at] = second

    return SimpleNamespace(held=held, move=move)
