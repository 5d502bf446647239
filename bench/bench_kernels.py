"""Every op × shape × dtype × implementation, and whole training steps of the labs."""
from dataclasses import replace

import pytest

from .conftest import name_of, thread_counts
from .nets import LABS
from .operations import OPERATIONS, PERFORMERS, THREADED, performs
from .timing import CEILING, interleave, time_training, worker_clock

pytestmark = pytest.mark.benchmark(timer=worker_clock)
TASK = "bench.operations:Performance"
# One batch resident: what a step costs, with no rows to fetch from memory.
STEPPERS = ("fastmlp", "NumPy", "torch", "JAX")
STEPS = [replace(lab, name=f"step of {lab.name}", rows=lab.batch_size, round_steps=20) for lab in LABS]


def measured():
    """Ours on as many threads as it can use; everybody else on one and on all."""
    for operation in OPERATIONS:
        for name in PERFORMERS:
            for threads in thread_counts():
                if performs(name, operation) and (name != "fastmlp" or threads == 1 or operation.op in THREADED):
                    yield operation, name, threads


@pytest.mark.parametrize(("operation", "name", "threads"), list(measured()), ids=name_of)
def bench_operation(benchmark, workers, open_peer, operation, name, threads):
    benchmark.group = operation.group
    subject = open_peer(name, threads, TASK, name, operation)
    error, tolerance = subject.check(), subject.tolerance()
    assert error <= tolerance, f"{name}: differs from the reference by {error:.1e}, more than {tolerance:.1e}"
    ours = threads if operation.op in THREADED else 1
    yardstick = None
    if name != "fastmlp":
        task = workers.open("fastmlp", ours, TASK, "fastmlp", operation)
        task.check()
        yardstick = task.round
    traffic = 0 if operation.flops else int(operation.bytes)
    ceiling = workers.open("ceiling", threads, CEILING, threads, operation.dtype, traffic).round
    facts = {"bench": "kernels", "case": operation.group, "name": name, "error": error, "flops": operation.flops,
             "bytes": operation.bytes, "rate_unit": "FLOP/s" if operation.flops else "bytes/s"}
    interleave(benchmark, subject.round, yardstick, ceiling, operation.flops or operation.bytes, threads, facts)


@pytest.mark.parametrize(("net", "threads", "name"), [
    (net, threads, name) for net in STEPS for threads in thread_counts() for name in STEPPERS
], ids=name_of)
def bench_step(benchmark, workers, open_peer, net, threads, name):
    """A whole step: forward, loss, backward, update."""
    time_training(benchmark, workers, open_peer, net, name, threads, {"bench": "steps", "case": net.name})
