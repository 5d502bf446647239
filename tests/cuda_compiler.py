"""Compile every CUDA kernel without a GPU and ask the linker for its registers and spills.

`python tests/cuda_compiler.py` prints the table of kernels and architectures, bench/CUDA_KERNELS.md.
"""
import functools
import inspect
import re
import subprocess
import types as standard_types
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastmlp.kernels.catalogue import StepConstants
from fastmlp.kernels.cuda import (
    dense,
    gradient,
    large,
    losses,
    narrow,
    operands,
    ops,
    perceptron,
    steps,
    tensor_core,
)
from fastmlp.kernels.cuda import tile as plain_tile
from fastmlp.kernels.cuda.philox import drop, four_words

from fastmlp.kernels.cuda.shims import cuda  # isort: skip
from numba.cuda import dispatcher  # isort: skip
import nvidia  # isort: skip
from cuda.bindings import nvjitlink  # isort: skip

ARCHITECTURES = ((7, 5), (8, 0), (9, 0))
DTYPES = (np.float32, np.float64)
# What an argument is, told by its name; what is named in none of these is an array of the net's dtype.
INTEGERS = {
    "m", "n", "k", "count", "activation", "training", "threshold", "seed", "layer", "step", "rule", "loss", "first",
    "layers", "steps", "block_rows", "gradients_at", "times_slope", "c0", "c1", "c2", "c3", "k0", "k1", "x_at",
    "w_at", "b_at", "y_at", "z_at", "dz_at", "dx_at", "out_at", "slopes_at", "tiles", "piece_rows", "pieces", "limit",
    "at",
}
INTEGER_ARRAYS = {"control", "order", "labels", "correct", "updates", "mistakes", "indices", "found"}
NUMBERS = {"factor", "parameter", "scale"}
DOUBLES = {"correct_unit", "l2", "alpha"}
DOUBLE_ARRAYS = {"sums"}


@dataclass(frozen=True)
class Entry:
    """A kernel with its types."""

    name: str
    dtype: type
    kernel: object
    special: tuple = ()              # (argument, NumPy dtype) where the name does not tell
    double: bool = False             # does float64 arithmetic in a float32 net, on purpose
    tensor_core: str = ""            # its precision; such kernels exist for sm_80 and later
    alone: bool = False              # the only block of its launch: all of a multiprocessor's registers are its own

    def __str__(self):
        return f"{self.name}-{np.dtype(self.dtype)}"

    @property
    def threads(self):
        return self.kernel.targetoptions.get("launch_bounds") or dense.ELEMENTWISE

    def architectures(self):
        return [cc for cc in ARCHITECTURES if cc >= (8, 0) or not self.tensor_core]

    def signature(self):
        from numba import types

        real = getattr(types, np.dtype(self.dtype).name)
        special = dict(self.special)

        def type_of(name):
            if name in special:
                kind = getattr(types, np.dtype(special[name]).name)
                return kind if name not in ("x", "out") else kind[::1]
            if name == "table":
                return types.int64[:, ::1]
            if name in INTEGERS:
                return types.int64
            if name in INTEGER_ARRAYS:
                return types.int64[::1]
            if name in NUMBERS:
                return real
            if name in DOUBLES:
                return types.float64
            return types.float64[::1] if name in DOUBLE_ARRAYS else real[::1]

        names = inspect.signature(self.kernel.py_func).parameters
        return types.void(*map(type_of, names))


def entries():
    for dtype in DTYPES:
        for size in plain_tile.SIZES if dtype is np.float32 else ("small",):
            for name, kernel in vars(dense.kernels(dtype, plain_tile.define(dtype, size))).items():
                yield Entry(f"{name}_{size}", dtype, kernel)
        if dtype is np.float32:
            for precision in tensor_core.PRECISIONS:
                for size in tensor_core.SIZES:
                    tile = tensor_core.define(precision, size)
                    for name, kernel in vars(dense.kernels(dtype, tile)).items():
                        yield Entry(f"{name}_{tile.name}", dtype, kernel, tensor_core=precision)
        yield Entry("local_gradient", dtype, dense.local_gradient(dtype))
        for name, kernel in vars(large.kernels(dtype)).items():
            yield Entry(f"large_{name}", dtype, kernel)
        yield Entry("row_loss", dtype, losses.kernels(dtype).row_loss)
        yield Entry("softmax", dtype, losses.kernels(dtype).softmax)
        yield Entry("finish_step", dtype, steps.kernels(dtype).finish_step, double=True)
        yield Entry("gather", dtype, steps.kernels(dtype).gather)
        yield Entry("gather_uint8", dtype, steps.kernels(dtype).gather, (("x", np.uint8),))
        yield Entry("train_narrow", dtype, narrow.kernel(dtype), double=True, alone=True)
        yield Entry("train_narrow_uint8", dtype, narrow.kernel(dtype), (("x", np.uint8),), double=True, alone=True)
        constants = tuple((name, dtype) for name in StepConstants._fields)
        yield Entry("apply_gradient", dtype, gradient.kernel(dtype), (("weights", np.int64),))
        yield Entry("update", dtype, ops.update_kernel(dtype), constants)
        yield Entry("dropout", dtype, drop)
        yield Entry("sum_weights", dtype, steps.sum_weights, double=True)
        yield Entry("add_totals", dtype, steps.add_totals, double=True)
        for name, kernel in vars(perceptron.kernels(dtype)).items():
            yield Entry(f"perceptron_{name}", dtype, kernel)
    yield Entry("outside", np.float32, operands.outside)
    yield Entry("philox", np.float32, four_words, (("out", np.uint64),))


@dataclass(frozen=True)
class Report:
    registers: int
    spills: int                      # bytes stored and loaded
    stack: int
    shared: int


def compile_kernel(entry, cc, output):
    # Numba asks the driver what to compile device functions for; nobody else asks it anything here.
    dispatcher.get_current_device = lambda: standard_types.SimpleNamespace(compute_capability=cc)
    bounds = entry.kernel.targetoptions.get("launch_bounds")
    code, _ = cuda.compile(entry.kernel.py_func, entry.signature(), cc=cc, device=False, abi="numba", output=output,
                           launch_bounds=bounds)
    return code


@functools.cache
def linked(entry, cc):
    """nvJitLink's handle after it made machine code from the kernel's LTO-IR."""
    code = compile_kernel(entry, cc, "ltoir")
    options = [f"-arch=sm_{cc[0]}{cc[1]}", "-lto", "-verbose"]
    handle = nvjitlink.create(len(options), options)
    nvjitlink.add_data(handle, nvjitlink.InputType.LTOIR, code, len(code), "kernel")
    nvjitlink.complete(handle)
    return handle


def instructions(entry, cc, folder):
    """The machine instructions of the kernel, as nvdisasm shows them."""
    handle, file = linked(entry, cc), folder / "kernel.cubin"
    code = bytearray(nvjitlink.get_linked_cubin_size(handle))
    nvjitlink.get_linked_cubin(handle, code)
    file.write_bytes(code)
    tool = next(Path(path) / "bin" / "nvdisasm" for root in nvidia.__path__ for path in sorted(Path(root).iterdir())
                if (Path(path) / "bin" / "nvdisasm").exists())
    return subprocess.run([tool, "-c", file], capture_output=True, text=True, check=True).stdout


def busiest_loop(text):
    """(multiply-adds, all instructions) of the stretch without branches that has the most of the former."""
    stretches = [[]]
    for line in text.splitlines():
        if found := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z]\w*)", line):
            stretches[-1].append(found[1])
        if line.startswith(".L_") or (found and found[1] in ("BRA", "EXIT", "RET")):
            stretches.append([])
    return max((sum(name in ("FFMA", "DFMA") for name in stretch), len(stretch)) for stretch in stretches)


def report(entry, cc):
    """Registers, spills and shared memory by the linker's own words."""
    handle = linked(entry, cc)
    log = bytearray(nvjitlink.get_info_log_size(handle))
    nvjitlink.get_info_log(handle, log)
    log = log.decode()
    number = lambda pattern: sum(map(int, re.findall(pattern, log)))  # noqa: E731
    return Report(number(r"Used (\d+) registers"), number(r"(\d+) bytes spill"), number(r"(\d+) bytes stack frame"),
                  number(r"(\d+) bytes smem"))


def table():
    """The lines of bench/CUDA_KERNELS.md."""
    from importlib.metadata import version

    packages = ", ".join(f"{name} {version(name)}" for name in ("numba-cuda", "nvidia-nvvm", "nvidia-nvjitlink"))
    yield "<!-- Generated: python tests/cuda_compiler.py > bench/CUDA_KERNELS.md -->"
    yield "# Every CUDA kernel on every architecture"
    yield ""
    yield f"Registers of a thread / bytes spilled / bytes of shared memory of a block; {packages}; compiled, not run."
    yield ""
    yield "| kernel | threads | " + " | ".join(f"sm_{a}{b}" for a, b in ARCHITECTURES) + " |"
    yield "|---|---|" + "---|" * len(ARCHITECTURES)
    for entry in entries():
        cells = {cc: report(entry, cc) for cc in entry.architectures()}
        words = (f"{r.registers} / {r.spills} / {r.shared}" if (r := cells.get(cc)) else "-" for cc in ARCHITECTURES)
        yield f"| {entry} | {entry.threads} | " + " | ".join(words) + " |"


if __name__ == "__main__":
    for line in table():
        print(line, flush=True)
