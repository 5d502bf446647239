"""The optimizer on single parameters, for kernels that have just summed up their gradients. Rules: `update_rules`."""
import functools
from types import SimpleNamespace

from .. import update_rules
from ..catalogue import StepConstants
from .control import L2
from .scalars import functions, is_in
from .shims import device


@functools.cache
def define(dtype):
    """in_registers(constants) -> the step's constants and l2, in registers;
    move(rule, constants_and_l2, gradient, is_weight, w, w_at, s1, s2, slot_at) moves w[w_at] and its slots;
    step(rule, constants, gradient, w, w_at, s1, s2, slot_at) likewise, and knows neither l2 nor biases."""
    zero, apply_rule, without_decay = dtype(0), functions(dtype).apply_rule, functions(dtype).without_decay
    codes = update_rules.TABLE.codes
    uses_first, uses_second = is_in(codes(lambda rule: rule.slots > 0)), is_in(codes(lambda rule: rule.slots > 1))
    moves = is_in(codes(lambda rule: rule.moves))

    @device
    def in_registers(constants):
        return StepConstants(constants[0], constants[1], constants[2], constants[3], constants[4], constants[5],
                             constants[6], constants[7], constants[8]), constants[L2]

    @device
    def step(rule, constants, gradient, w, w_at, s1, s2, slot_at):
        first = s1[slot_at] if uses_first(rule) else zero
        second = s2[slot_at] if uses_second(rule) else zero
        weight, first, second = apply_rule(rule, w[w_at], gradient, first, second, constants)
        if moves(rule):
            w[w_at] = weight
        if uses_first(rule):
            s1[slot_at] = first
        if uses_second(rule):
            s2[slot_at] = second

    @device
    def move(rule, constants_and_l2, gradient, is_weight, w, w_at, s1, s2, slot_at):
        constants, l2 = constants_and_l2
        if is_weight:                                       # weight decay and l2 are not for biases
            gradient += l2 * w[w_at]
        else:
            constants = without_decay(constants)
        step(rule, constants, gradient, w, w_at, s1, s2, slot_at)

    return SimpleNamespace(in_registers=in_registers, move=move, step=step)
