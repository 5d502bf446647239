"""What holds for every operation that others call: outputs are memory of their own, and NumPy's settings do not matter.

Inside the package operations call each other without this, as benchmarks compare with plain NumPy.
"""
import functools
import inspect
from itertools import combinations

import numpy as np


def operation(function, *written, may_be=()):
    """`function`, which refuses arrays in `written` that share memory with another operand, with ValueError.

    may_be : (written, other) names of operands that may be one and the same array

    What overflows or underflows is as IEEE 754 has it, whatever `np.seterr` says: so it is on every device.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*arguments, **named):
        given = signature.bind(*arguments, **named).arguments
        arrays = {name: value for name, value in given.items() if isinstance(value, np.ndarray)}
        for one, other in combinations(arrays, 2):
            name, against = (one, other) if one in written else (other, one)
            if name in written and np.may_share_memory(arrays[one], arrays[other]):
                same = {(one, other), (other, one)} & set(may_be) and _is_same(arrays[one], arrays[other])
                if not same:
                    raise ValueError(f"{function.__name__}: {name} is written and must not share memory with {against}")
        with np.errstate(all="ignore"):
            return function(*arguments, **named)

    return checked


def _is_same(one, other):
    return one.__array_interface__["data"] == other.__array_interface__["data"] and one.strides == other.strides
