"""The CUDA kernels choose by the catalogue's records, whatever is added to it. Toys are trained in `test_catalogue`."""
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("greenlet", reason="the simulator needs greenlet: pip install 'fastmlp[test]'")
from simulator import part

from fastmlp.kernels import activations as act
from fastmlp.kernels import losses, update_rules

COMPILES = """
import re
import additions

additions.register_toys()
import cuda_compiler

for entry in cuda_compiler.entries():
    if entry.name in ("forward_small", "row_loss", "update", "local_gradient") and entry.dtype.__name__ == "float32":
        ptx = cuda_compiler.compile_kernel(entry, (8, 0), "ptx")
        assert not re.findall(r"\\b(?:add|sub|mul|fma|div|sqrt|neg|setp|rcp)[.\\w]*\\.f64\\b", ptx), entry
        assert "call.uni" not in ptx, entry
        report = cuda_compiler.report(entry, (9, 0))
        assert report.spills == 0, (entry, report)
"""


def test_toys_compile_without_a_double():
    """In a process of their own, as records are registered before a kernel package is imported."""
    for module in ("numba_cuda", "nvidia", "cuda.bindings.nvjitlink"):
        pytest.importorskip(module, reason="needs pip install 'fastmlp[cuda-compile]'")
    result = subprocess.run([sys.executable, "-c", COMPILES], capture_output=True, text=True, cwd=Path(__file__).parent)
    assert result.returncode == 0, result.stderr


def test_an_unknown_code_gives_no_number():
    """Nothing that looks like the last record's answer."""
    scalars = part("scalars").functions(np.float32)
    one, code = np.float32(1), 99
    found = [scalars.activate(code, one), scalars.slope(code, one), *scalars.with_slope(code, one),
             *scalars.loss(code, one, one, one), *scalars.apply_rule(code, one, one, one, one, None)]
    assert np.isnan(found).all()
    w = np.ones(1, np.float32)
    part("optimizer").define(np.float32).step(code, None, one, w, 0, w, w, 0)
    assert w[0] == 1                                        # what no rule is known to move stays


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_record_is_dispatched_to_its_own_formula(dtype):
    """By the records themselves, in whatever order they stand."""
    scalars, z, tolerance = part("scalars").functions(dtype), 0.37, 16 * float(np.finfo(dtype).eps)
    for code, record in act.TABLE.cases():
        if record.elementwise:
            assert scalars.activate(code, dtype(z)) == pytest.approx(record.f(z), rel=tolerance), record.name
        if record.trainable:
            y, slope = scalars.with_slope(code, dtype(z))
            expected = record.slope(z if record.needs_z else record.f(z))
            assert slope == pytest.approx(expected, rel=tolerance), record.name
            assert type(y) is type(slope) is dtype
    for code, record in losses.TABLE.cases():
        if record.elementwise:
            assert scalars.loss(code, dtype(0.3), dtype(z), dtype(0.2)) == pytest.approx(
                record.element(0.3, z, 0.2), rel=tolerance), record.name
    for code, record in update_rules.TABLE.cases():
        c = record.constants((0.9, 0.99, 1e-3, 0.1), 0.05, 3)
        found = scalars.apply_rule(code, *map(dtype, (z, 0.2, 0.3, 0.4)), type(c)(*map(dtype, c)))
        assert found == pytest.approx(record.step(z, 0.2, 0.3, 0.4, c), rel=tolerance), record.name
