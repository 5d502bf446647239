"""What a launch needs at least: bytes to and from memory, arithmetic, and the time that a GPU's peaks give them.

Bytes count each operand once, as if no cache held it from the launch before: where the L2 does, a kernel may be faster
than its floor. Arithmetic counts the multiply-adds of products; what is fused onto them is left out, and so is the
traffic of a launch that finds nothing to do.
"""
import inspect
from typing import NamedTuple

import numpy as np

FLOAT, INTEGER = 4, 8            # bytes


class Peaks(NamedTuple):
    """Bytes and floating-point operations a second; 0: not known."""

    memory: float
    float32: float = 0.0
    tf32: float = 0.0
    bf16: float = 0.0
    source: str = "copy bandwidth, measured"


H100 = "NVIDIA H100 datasheet, tensor cores without sparsity"
H200 = "NVIDIA H200 datasheet, tensor cores without sparsity"
A100 = "NVIDIA A100 datasheet, tensor cores without sparsity"
# By a part of the name that the driver gives; the first that is found.
PEAKS = {
    "H200": Peaks(4.8e12, 67e12, 494.5e12, 989.5e12, H200),
    "H100 80GB HBM3": Peaks(3.35e12, 67e12, 494.5e12, 989.5e12, H100),       # SXM
    "H100 PCIe": Peaks(2.0e12, 51e12, 378e12, 756.5e12, H100),
    "A100-SXM4-80GB": Peaks(2.039e12, 19.5e12, 156e12, 312e12, A100),
    "A100 80GB PCIe": Peaks(1.935e12, 19.5e12, 156e12, 312e12, A100),
    "A100": Peaks(1.555e12, 19.5e12, 156e12, 312e12, A100),                   # 40 GB
}


def peaks(name, measure):
    """The peaks of the GPU of that name; of one that is not listed `measure()`, its copy bandwidth, alone."""
    return next((found for part, found in PEAKS.items() if part in name), None) or Peaks(measure())


class Work(NamedTuple):
    """Of one launch."""

    bytes: float
    flops: float = 0.0

    def floor(self, peaks, precision):
        """(seconds at the peaks, what bounds them), (None, "") where the rate for the arithmetic is not known."""
        rate = getattr(peaks, precision)
        if self.flops and not rate:
            return None, ""
        moving, computing = self.bytes / peaks.memory, self.flops / rate if self.flops else 0.0
        return max(moving, computing), "memory" if moving >= computing else "arithmetic"


def named(launch):
    """The arguments of a launch by their names in the kernel."""
    return dict(zip(inspect.signature(function_of(launch)).parameters, launch.arguments, strict=True))


def function_of(launch):
    """The Python function of a launch's kernel."""
    return getattr(launch.kernel, "py_func", None) or launch.kernel.function


def name_of(launch):
    return function_of(launch).__name__ if hasattr(launch, "kernel") else "cublas"


def product(rows, depth, columns, more=0):
    """C = A B, and `more` numbers beside A, B and C."""
    return Work(FLOAT * (rows * depth + depth * columns + rows * columns + more), 2.0 * rows * depth * columns)


def work_of(launch, state):
    """The `Work` of a launch of a training step with float32; None of one that is not known here."""
    name, rows = name_of(launch), state.work.rows
    if name == "cublas":
        return product(launch.rows, launch.depth, launch.columns)
    given, count = named(launch), WORK.get(name)
    return count(given, rows, state) if count else None


def slots(state):
    return sum(array.size > 1 for array in (state.s1, state.s2))


def forward(given, rows, state):
    k, n = given["k"], given["n"]
    return product(rows, k, n, n + rows * n * (given["training"] != 0))


def input_gradient(given, rows, state):
    k, n = given["k"], given["n"]
    return product(rows, n, k, rows * k)                    # dx held slopes


def weight_update(given, rows, state):
    """Of the layers in the launch: h, dz, the weights and slots read and written."""
    sizes = [(k, n) for _, _, _, _, k, n in np.asarray(given["table"].copy_to_host()).tolist()]
    numbers = sum(rows * (k + n) + (2 + 2 * slots(state)) * (k + 1) * n for k, n in sizes)
    return Work(FLOAT * numbers, sum(2.0 * rows * (k + 1) * n for k, n in sizes))


def row_loss(given, rows, state):
    n = given["n"]
    return Work(FLOAT * rows * (n * (2 + (given["times_slope"] != 0)) + 1) + INTEGER * rows * 2)


def gather(given, rows, state):
    return Work(rows * (given["k"] * (given["x"].dtype.itemsize + FLOAT) + INTEGER))


def finish_forward(given, rows, state):
    return Work(FLOAT * rows * given["n"] * (2 + (given["training"] != 0)))


def times_slopes(given, rows, state):
    return Work(FLOAT * rows * given["n"] * 3)


def column_sums(given, rows, state):
    return Work(FLOAT * (rows + 1) * given["n"])


def split_gradient(given, rows, state):
    k, n = given["k"], given["n"]
    pieces = -(-rows // given["piece_rows"])
    return Work(FLOAT * (rows * (k + n) + pieces * (k + 1) * n), 2.0 * rows * (k + 1) * n)


def update(given, rows, state):
    return Work(FLOAT * (2 + given["pieces"] + 2 * slots(state)) * (given["k"] + 1) * given["n"])


WORK = {function.__name__: function for function in (
    forward, input_gradient, weight_update, row_loss, gather, finish_forward, times_slopes, column_sums, split_gradient,
    update)}
