"""Overlap of every pair of operands of every operation, in every way: right, as on copies, or refused."""
from itertools import combinations

import numpy as np

from fastmlp.kernels import losses, reference, update_rules

from .operations import op_arguments
from .outcomes import Wrong

M, K, N = 6, 5, 3


def calls(dtype, rng):
    """(operation, {argument: value}) of all that write into arrays."""
    for op in ("dense_forward", "dense_backward", "softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error",
               "gather", "dropout", "update", "perceptron_batch", "forward"):
        yield op, op_arguments(op, M, K, N, dtype, rng)
    targets = rng.random((M, N)).astype(dtype)
    yield "softmax_cross_entropy", {"z": rng.standard_normal((M, N)).astype(dtype), "labels": np.empty(0, np.int64),
                                    "targets": targets, "weights": np.ones(M, dtype), "dz": np.zeros((M, N), dtype)}
    for code in (losses.HUBER, losses.QUANTILE):
        yield "pointwise_loss", {"loss": code, "parameter": 0.5, "z": rng.standard_normal((M, N)).astype(dtype),
                                "targets": targets, "weights": np.ones(M, dtype), "dz": np.zeros((M, N), dtype)}
    for rule in (update_rules.SGD, update_rules.MOMENTUM, update_rules.ADAMW):
        yield "update", op_arguments("update", M, K, N, dtype, rng) | {"rule": rule}
    signs = rng.choice([-1, 1], M).astype(dtype)
    x = np.round(rng.standard_normal((M, K))).astype(dtype)
    yield "perceptron_online", {"x": x, "y": signs, "theta": np.zeros(K, dtype), "bias": np.ones(1, dtype)}
    yield "perceptron_epoch", {
        "x": x, "rows": np.arange(M), "labels": rng.integers(0, N, M), "weights": np.ones(M, dtype),
        "positive": np.ones(N), "negative": np.ones(N), "l2": 1e-3, "l1": 1e-3, "intercept": 1.0, "steps": 0,
        "active": np.ones(N, bool), "theta": np.zeros((N, K), dtype), "bias": np.zeros(N, dtype),
        "shrunk": np.zeros((N, K), dtype), "totals": np.zeros((N, 3))}


def placed(one, other, shift):
    """Copies of two arrays in one piece of memory, the second `shift` bytes after the first; written in that order."""
    start = max(0, -shift)
    memory = np.zeros(max(start + one.nbytes, start + shift + other.nbytes) + 64, np.uint8)
    views = [memory[at:at + array.nbytes].view(array.dtype).reshape(array.shape)
             for array, at in ((one, start), (other, start + shift))]
    views[0][...], views[1][...] = one, other
    return views


def shifts(one, other):
    """Where the second array may begin so that they overlap, in bytes: at the same, a little on, at the end."""
    step = max(one.itemsize, other.itemsize)
    found = {0, step, one.nbytes - step, step - other.nbytes, one.nbytes // 2 // step * step}
    return sorted(shift for shift in found if -other.nbytes < shift < one.nbytes)


def overlapping(dtype, rng):
    """(operation, arguments, what overlaps) for every pair and shift."""
    for op, arguments in calls(dtype, rng):
        arrays = [name for name, value in arguments.items() if isinstance(value, np.ndarray) and value.size]
        for one, other in combinations(arrays, 2):
            for shift in shifts(arguments[one], arguments[other]):
                views = placed(arguments[one], arguments[other], shift)
                yield op, arguments | dict(zip((one, other), views, strict=True)), f"{one}, {other} {shift} bytes on"


def outcome(package, op, arguments, what):
    """"refused" or "right"; `Wrong` for anything else."""
    before, apart = ({name: value.copy() if isinstance(value, np.ndarray) else value
                      for name, value in arguments.items()} for _ in range(2))
    try:
        result = getattr(package, op)(*arguments.values())
    except IndexError:                                 # of NumPy's: the other array's bytes are no indices
        if package is reference:
            return "refused"
        raise
    except ValueError as error:
        if op not in str(error) and "written" not in str(error):
            raise Wrong(f"{op} ({what}): {error}") from error
        return "refused"
    expected = getattr(package, op)(*apart.values())
    same = np.array_equal(np.asarray(result, float), np.asarray(expected, float), equal_nan=True)
    for name, value in arguments.items():
        # An input that is the output as well holds the output now.
        written = isinstance(value, np.ndarray) and not np.array_equal(before[name], apart[name], equal_nan=True)
        same = same and (not written or np.array_equal(value, apart[name], equal_nan=True))
    if not same:
        raise Wrong(f"{op} ({what}): other numbers than with arrays apart")
    return "right"
