"""What may come of a call: right, or refused by an error that names an argument. Anything else is `Wrong`."""
import re

import numpy as np

import fastmlp

ERRORS = (TypeError, ValueError, FloatingPointError, RuntimeError, OverflowError)


class Wrong(AssertionError):
    pass


def snapshot(value):
    """What must not change: the bytes of arrays, the text of anything else."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return np.array(value, copy=True, subok=False).tobytes()
    return repr(value)


def refused(error, names):
    """"refused" if the error names an argument."""
    text = str(error)
    if isinstance(error, fastmlp.DivergedError):
        return "diverged, said so"
    if any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) for name in names):
        return "refused"
    raise Wrong(f"{type(error).__name__} names no argument: {text[:300]}") from error


def unchanged(before, values, what):
    for one, value in zip(before, values, strict=True):
        if one != snapshot(value):
            raise Wrong(f"{what}: an input was changed")
