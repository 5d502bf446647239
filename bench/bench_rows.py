"""One row at a time: a net called from compiled code and from Python, against ONNX Runtime and scikit-learn."""
from importlib.util import find_spec

import pytest

from .conftest import name_of
from .rows import NAMES, NEEDS, NETS, flops
from .timing import CEILING, interleave, worker_clock

pytestmark = pytest.mark.benchmark(timer=worker_clock)
TASK = "bench.rows:Row"
OURS = NAMES[0]


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("name", NAMES, ids=name_of)
def bench_row(benchmark, workers, net, name):
    absent = [package for package in NEEDS.get(name, ()) if find_spec(package) is None]
    if absent:
        pytest.skip(f"{name}: not installed ({', '.join(absent)})")
    benchmark.group = f"one row | {net}"
    subject = workers.open(f"row: {name}", 1, TASK, name, NETS[net])
    error = subject.check()
    assert error <= 1e-5, f"{name}: a probability differs from the reference's by {error:.1e}"
    yardstick = None
    if name != OURS:
        ours = workers.open(f"row: {OURS}", 1, TASK, OURS, NETS[net])
        ours.check()
        yardstick = ours.round
    ceiling = workers.open("ceiling", 1, CEILING, 1).round
    interleave(benchmark, subject.round, yardstick, ceiling, flops(NETS[net]), 1,
               {"bench": "rows", "case": f"one row | {net}", "name": name, "error": error})
