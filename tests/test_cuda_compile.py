"""Every CUDA kernel compiles for every architecture, without a GPU: registers, spills, no double precision by accident.

`python tests/cuda_compiler.py` prints the table.
"""
import os
import re

import numpy as np
import pytest

REQUIRED = os.environ.get("FASTMLP_REQUIRE_CUDA") == "1"
if not REQUIRED:
    for module in ("numba_cuda", "cuda.bindings.nvjitlink"):
        pytest.importorskip(module, reason="needs pip install 'fastmlp[cuda-compile]'")

import cuda_compiler  # noqa: E402

REGISTERS = 128                  # with blocks of 256 threads, two fit on a multiprocessor of 65,536
# Which of the three architectures float64 kernels are compiled for: they differ from the others' in width alone.
DOUBLE_ARCHITECTURES = ((8, 0),)
ENTRIES = tuple(cuda_compiler.entries())


@pytest.mark.parametrize(("entry", "cc"), [
    (entry, cc) for entry in ENTRIES for cc in cuda_compiler.ARCHITECTURES
    if entry.dtype is np.float32 or cc in DOUBLE_ARCHITECTURES
], ids=lambda value: f"sm_{value[0]}{value[1]}" if isinstance(value, tuple) else str(value))
def test_registers_and_spills(entry, cc):
    report = cuda_compiler.report(entry, cc)
    assert 0 < report.registers <= REGISTERS
    assert report.spills == 0
    assert report.shared <= 48 * 1024


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.dtype is np.float32], ids=str)
def test_no_double_precision_by_accident(entry):
    """Double arithmetic runs at a thirty-second or less of the speed; a literal 1.0 in the wrong place brings it in."""
    ptx = cuda_compiler.compile_kernel(entry, (8, 0), "ptx")
    arithmetic = re.findall(r"\b(?:add|sub|mul|fma|div|sqrt|neg|setp|rcp)[.\w]*\.f64\b", ptx)
    assert bool(arithmetic) == entry.double, arithmetic[:3]
    # No call of a device function is left: every one is inlined, but for libdevice's powers in double precision.
    assert entry.double or "call.uni" not in ptx


def test_every_kernel_is_in_the_table():
    """A kernel added to the package has to be added to the entries."""
    from pathlib import Path

    sources = sorted((Path(__file__).parent.parent / "kernels" / "cuda").glob("*.py"))
    written = sum(len(re.findall(r"^ *@cuda\.jit", path.read_text(encoding="utf-8"), re.M)) for path in sources)
    names = {entry.kernel.py_func.__qualname__ + entry.kernel.py_func.__module__ for entry in ENTRIES}
    assert len(names) == written
