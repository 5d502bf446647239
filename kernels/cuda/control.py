"""What changes from step to step lies in the GPU's memory, so that a captured graph of steps can be replayed unchanged.

control int64 (LENGTH,)    where training stands; kernels read it, `steps.finish_step` moves it on
sums    float64 (4,)       loss, correct predictions and weights since the epoch's start; the weight of the step's rows
constants (CONSTANTS,)     `catalogue.StepConstants` of this step, then what l2 and alpha make together (`L2`), in the
                           operands' dtype
"""
import numpy as np

from ..catalogue import StepConstants
from .shims import device

# Steps done in this epoch; first row of this step in `order`; its rows; optimizer steps done in all;
# rows of the epoch; rows of a step; and whether there are an order, labels (else targets), weights.
POSITION, START, ROWS, STEP, TOTAL_ROWS, BATCH, LISTED, LABELLED, WEIGHTED = range(9)
LENGTH = 9
LOSS, CORRECT, WEIGHTS, BATCH_WEIGHT = range(4)
L2 = len(StepConstants._fields)
CONSTANTS = L2 + 1


# An index that is not negative: Numba does not compile the question whether it counts from the end, for which it would
# keep the array's length as well.
index = np.uint64


@device
def row_number(control, order, r):
    """Which row of the data is row r of this step."""
    at = control[START] + r
    return order[index(at)] if control[LISTED] != 0 else at


def one_batch(rows, labelled=False, weighted=False):
    """The control of a single operation on `rows` rows, taken in order."""
    control = np.zeros(LENGTH, np.int64)
    control[ROWS] = control[TOTAL_ROWS] = control[BATCH] = rows
    control[LABELLED], control[WEIGHTED] = labelled, weighted
    return control
