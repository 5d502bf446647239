"""Checks of an optimizer's slots: running means that overflowed stop the weights without a word."""
import numpy as np

from ..input.arrays import first_non_finite
from ..kernels import update_rules

# What the slots of a rule hold, in the words of its paper.
_SLOTS = {"momentum": ("the velocity",), "nesterov": ("the velocity",), "rmsprop": ("the mean of squared gradients",)}
_ADAM = ("the mean of gradients", "the mean of squared gradients")


def overflow(kept, optimizer):
    """What to say of an `OptimizerState` with numbers that are not finite; None if all are.

    A squared gradient beyond the dtype's range is infinite, the step divided by its root is 0, and training goes on
    with weights that no longer move.
    """
    for number, slot in enumerate((kept.s1, kept.s2)):
        where = first_non_finite(slot)
        if where is not None:
            name = update_rules.NAMES[kept.rule]
            what = _SLOTS.get(name, _ADAM)[number]
            count = int(np.count_nonzero(~np.isfinite(slot)))
            return (f"{name} cannot go on after {kept.step:,} steps: {what} is no longer finite for {count:,} of "
                    f"{slot.size:,} parameters, which stopped moving. The gradients are too large for dtype "
                    f"{slot.dtype}: scale the columns of X (and y, if numbers) to about -1 to 1, pass "
                    f"scaling='robust' or dtype='float64', or lower learning_rate (now {optimizer.learning_rate:g})")
    return None


def is_checked(epoch):
    """Whether the slots are checked after this epoch, counted from 1: 1, 2, 4, 8, ... To read them takes as long as to
    read the weights; the last epoch's are checked anyway, when they are kept."""
    return epoch & (epoch - 1) == 0
