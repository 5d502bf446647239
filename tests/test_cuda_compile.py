"""Every CUDA kernel compiles for every architecture, without a GPU: registers, spills, no double precision by accident.

`python tests/cuda_compiler.py` prints the table.
"""
import contextlib
import os
import re
import subprocess
import sys

import numpy as np
import pytest

REQUIRED = os.environ.get("FASTMLP_REQUIRE_CUDA") == "1"
if not REQUIRED:
    for module in ("numba_cuda", "nvidia", "cuda.bindings.nvjitlink"):
        pytest.importorskip(module, reason="needs pip install 'fastmlp[cuda-compile]'")

import cuda_compiler  # noqa: E402

from fastmlp.kernels.cuda import shims  # noqa: E402

REGISTERS = 65_536               # of a multiprocessor: two blocks fit
# Which of the three architectures float64 kernels are compiled for: they differ from the others' in width alone.
DOUBLE_ARCHITECTURES = ((8, 0),)
ENTRIES = tuple(cuda_compiler.entries())


@pytest.mark.parametrize(("entry", "cc"), [
    (entry, cc) for entry in ENTRIES for cc in entry.architectures()
    if entry.dtype is np.float32 or cc in DOUBLE_ARCHITECTURES
], ids=lambda value: f"sm_{value[0]}{value[1]}" if isinstance(value, tuple) else str(value))
def test_registers_and_spills(entry, cc):
    report = cuda_compiler.report(entry, cc)
    assert 0 < report.registers * entry.threads <= (REGISTERS if entry.alone else REGISTERS // 2)
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


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.alone and e.dtype is np.float32], ids=str)
def test_only_bookkeeping_is_in_double_precision(entry):
    """What comes back from it: what l2 and alpha make together, and the weight of the step's rows."""
    ptx = cuda_compiler.compile_kernel(entry, (8, 0), "ptx")
    assert len(re.findall(r"\bcvt\.rn\.f32\.f64\b", ptx)) == 2


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.tensor_core], ids=str)
def test_tensor_cores_and_asynchronous_copies_are_used(entry, tmp_path):
    text = cuda_compiler.instructions(entry, (9, 0), tmp_path)
    kind = {"tf32": r"HMMA\.1688\.F32\.TF32", "bf16": r"HMMA\.16816\.F32\.BF16"}[entry.tensor_core]
    assert re.search(kind, text)
    assert "LDGSTS" in text


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.name in ("forward_large", "weight_update_large")], ids=str)
def test_shared_memory_is_read_four_numbers_at_a_time(entry, tmp_path):
    """An index that Numba cannot prove positive costs a comparison and a selection at every access."""
    text = cuda_compiler.instructions(entry, (9, 0), tmp_path)
    assert len(re.findall(r"\bLDS\.128\b", text)) >= 2


@pytest.mark.parametrize(("entry", "least"), [
    (e, least) for e in ENTRIES for name, least in (("small", 0.77 if e.dtype is np.float32 else 0.67), ("large", 0.84))
    if e.name in (f"forward_{name}", f"input_gradient_{name}", f"weight_update_{name}")], ids=str)
def test_products_are_mostly_multiply_adds(entry, least, tmp_path):
    """The share of FFMA (DFMA) among the instructions of the loop that multiplies: one that is not unrolled has 0.34 in
    small tiles and 0.51 in large ones. The rest is what reads shared memory."""
    multiply_adds, all_of_them = cuda_compiler.busiest_loop(cuda_compiler.instructions(entry, (9, 0), tmp_path))
    assert multiply_adds >= 112
    assert multiply_adds / all_of_them >= least


def test_every_kernel_is_in_the_table():
    """A kernel added to the package has to be added to the entries."""
    from pathlib import Path

    sources = sorted((Path(__file__).parent.parent / "kernels" / "cuda").glob("*.py"))
    written = sum(len(re.findall(r"^ *@cuda\.jit", path.read_text(encoding="utf-8"), re.M)) for path in sources)
    names = {entry.kernel.py_func.__qualname__ + entry.kernel.py_func.__module__ for entry in ENTRIES}
    assert len(names) == written


@pytest.mark.parametrize(("versions", "message"), [
    ({"nvidia-nvvm": "13.5.37", "nvidia-nvjitlink": "13.5.2"}, ""),
    ({"nvidia-nvvm": "13.0.88", "nvidia-nvjitlink": "13.5.37"}, ""),
    ({"nvidia-nvvm": "13.5.37"}, ""),
    ({"nvidia-nvvm": "13.5.37", "nvidia-nvjitlink": "13.0.88"},
     r"nvidia-nvvm 13.5.37 is newer than nvidia-nvjitlink 13.0.88.*pip install 'nvidia-nvvm==13.0.\*'"),
    ({"nvidia-cuda-nvcc-cu12": "12.10.1", "nvidia-nvjitlink-cu12": "12.9.86"}, "12.10.1 is newer than"),
])
def test_an_nvvm_newer_than_its_linker_is_refused(versions, message):
    from importlib.metadata import PackageNotFoundError

    def version(package):
        if package not in versions:
            raise PackageNotFoundError(package)
        return versions[package]

    with pytest.raises(ImportError, match=message) if message else contextlib.nullcontext():
        shims.check_linker(version)


def test_numpy_without_row_stack():
    """NumPy 2.5 dropped what numba-cuda asks for on import."""
    code = """
import numpy as np
if hasattr(np, "row_stack"):
    del np.row_stack
from fastmlp.kernels.cuda import shims
assert np.row_stack is np.vstack
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
