"""CPU kernels read and write inside their operands only.

Every operand stands in pages of its own, flush against an inaccessible page: first its end, then its start. One
element too far kills the process, so the work is done in a child. On the other side of an operand lie NaNs
(0xff bytes): a write there is found afterwards, a read that mattered shows in the result.
"""
import ctypes
import mmap
import os
import subprocess
import sys
from pathlib import Path

import cases
import numpy as np
import pytest
from levels import LOWER_LEVELS
from test_kernel_training import outcome

from fastmlp.kernels import cpu
from fastmlp.kernels.cpu.net import strategy, training
from fastmlp.kernels.cpu.vector import simd

PAGE = mmap.PAGESIZE


class Guarded:
    """Copies of arrays against guard pages, and a look at the bytes around them."""

    def __init__(self, at_end):
        self.at_end, self.regions = at_end, []

    def place(self, array):
        length = max(1, -(-array.nbytes // PAGE)) * PAGE
        region = mmap.mmap(-1, PAGE + length + PAGE)
        region[PAGE:PAGE + length] = b"\xff" * length
        start = PAGE + (length - array.nbytes if self.at_end else 0)
        copy = np.ndarray(array.shape, array.dtype, buffer=region, offset=start)
        copy[...] = array
        address = ctypes.addressof(ctypes.c_char.from_buffer(region))
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        for guard in (address, address + PAGE + length):
            if protect(ctypes.c_void_p(guard), ctypes.c_size_t(PAGE), 0):
                raise OSError(ctypes.get_errno(), "mprotect failed")
        before, after = slice(PAGE, start), slice(start + array.nbytes, PAGE + length)
        self.regions.append((region, before, after))
        return copy

    def place_all(self, arguments):
        """Arguments that are one array stay one array."""
        copies = {id(a): self.place(a) for a in arguments if isinstance(a, np.ndarray)}
        return [copies.get(id(a), a) for a in arguments]

    def assert_surroundings_untouched(self):
        for region, *sides in self.regions:
            for side in sides:
                assert region[side].count(b"\xff") == side.stop - side.start, "wrote outside an operand"


def run_case(package, case, at_end):
    plain = list(case.arguments().values())
    guarded = Guarded(at_end)
    placed = guarded.place_all(plain)
    results = [getattr(package, case.op)(*arguments) for arguments in (plain, placed)]
    guarded.assert_surroundings_untouched()
    np.testing.assert_array_equal(*results)
    for ours, theirs in zip(placed, plain, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def train(package, run, dtype, place):
    """One epoch with every array that the kernels are given, and are to fill, put through `place`."""
    x, _, *answers = run.data(dtype)
    rows, steps = np.random.default_rng(0).permutation(run.rows), -(-run.rows // run.batch_size)
    x, *answers, rows, rates = map(place, (x, *answers, rows, np.full(steps, run.learning_rate)))
    parameters = place(run.parameters(dtype))
    state = run.prepare(package, dtype, parameters=parameters)
    totals = package.train_epoch(state, x, *answers, rows, rates), package.evaluate(state, x, *answers)
    package.read_parameters(state, parameters)
    return parameters, totals


def run_training(package, run, dtype, at_end):
    guarded = Guarded(at_end)
    parameters, totals = train(package, run, dtype, guarded.place)
    guarded.assert_surroundings_untouched()
    expected_parameters, expected_totals = train(package, run, dtype, lambda array: array)
    np.testing.assert_array_equal(parameters, expected_parameters)
    assert totals == expected_totals


def main():
    for at_end in (True, False):
        for case in cases.CASES:
            print(case, f"at_end={at_end}", flush=True)
            run_case(cpu, case, at_end)
        for run in cases.RUNS.values():
            for dtype in cases.DTYPES:
                print(run, np.dtype(dtype), f"at_end={at_end}", flush=True)
                run_training(cpu, run, dtype, at_end)
    print("done")


@pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")
@pytest.mark.parametrize("level", ["own", *LOWER_LEVELS])
def test_kernels_stay_inside_their_operands(level, long):
    environment = dict(os.environ)
    if level != "own":
        if simd.LEVEL not in ("avx512", "avx2") or level == simd.LEVEL:
            pytest.skip(f"this machine's level is {simd.LEVEL}, not above {level}")
        if not long:
            pytest.skip("levels below the machine's own are attacked with --long")
        environment["NUMBA_CPU_NAME"], environment["NUMBA_CPU_FEATURES"] = LOWER_LEVELS[level]
    child = subprocess.run([sys.executable, __file__], cwd=Path(__file__).parent, capture_output=True, text=True,
                           env=environment)
    last = child.stdout.splitlines()[-1:]
    assert (child.returncode, last) == (0, ["done"]), f"last case {last}:\n{child.stderr[-3000:]}"
    print(f"{level}: {len(child.stdout.splitlines()) - 1} cases")


def filled(make, byte):
    """`make` whose scratch is full of `byte` instead of zeros. `layout` and `quads` are no scratch."""
    def make_filled(*arguments):
        work = make(*arguments)
        for name, array in work._asdict().items():
            if isinstance(array, np.ndarray) and name not in ("layout", "quads"):
                array.view(np.uint8).fill(byte)
                filled.count += array.size
        return work
    return make_filled


@pytest.mark.parametrize("dtype", cases.DTYPES)
@pytest.mark.parametrize("run", cases.RUNS.values(), ids=str)
def test_what_lay_in_scratch_does_not_matter(run, dtype, monkeypatch):
    results, filled.count = [], 0
    makers = [(module, name, getattr(module, name)) for module, name in (
        (training, "make_work"), (strategy, "make_work"), (strategy, "NarrowWork"))]
    for byte in (0x00, 0xff):
        for module, name, make in makers:
            monkeypatch.setattr(module, name, filled(make, byte))
        results.append(outcome(cpu, run, dtype))
    assert filled.count > 0
    assert results[0] == results[1]


if __name__ == "__main__":
    main()
