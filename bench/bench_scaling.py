"""Cost against batch, width, depth, rows and threads; ours on one thread and on all, whether or not that pays.

From the two, `python -m bench.report` derives the arithmetic of a step from which threads pay; the library's own
choice is SERIAL_FLOPS in kernels/cpu/threads.py.
"""
from dataclasses import replace

import pytest

from .conftest import thread_counts
from .machine import cores
from .nets import LAB_2, Net
from .timing import time_training, worker_clock

pytestmark = pytest.mark.benchmark(timer=worker_clock)
BASE = Net("scaling", (64, 128, 10), 20_000, optimizer="adam")
ROUND_FLOPS = 5e8
AXES = {
    "batch": [(b, replace(BASE, batch_size=b)) for b in (1, 8, 32, 128, 512, 2048)],
    "width": [(w, replace(BASE, sizes=(64, w, 10))) for w in (8, 32, 128, 512, 2048)],
    "depth": [(d, replace(BASE, sizes=(64, *(64,) * d, 10))) for d in (1, 2, 4, 8)],
    "rows": [(n, replace(BASE, rows=n)) for n in (1_000, 20_000, 400_000)],
}


def with_short_rounds(axis, value, net):
    steps = min(300, max(4, int(ROUND_FLOPS / net.step_flops)))
    # Peers that compile meet one shape: a round is part of one epoch, or a few whole ones.
    per_epoch = net.rows // net.batch_size
    return replace(net, name=f"{axis} {value}", round_steps=min(steps, per_epoch))


POINTS = [(axis, value, with_short_rounds(axis, value, net)) for axis, points in AXES.items() for value, net in points]
ROWS = [pytest.param(axis, value, net, name, threads, id=f"{axis}-{value}-{name}-{threads}")
        for axis, value, net in POINTS
        for name, threads in [*(("fastmlp", count) for count in thread_counts()), ("JAX", cores())]]
THREADS = [n for n in sorted({1, 2, 4, 8, 16, 32, 64, cores()}) if n <= cores()]


@pytest.mark.parametrize(("axis", "value", "net", "name", "threads"), ROWS)
def bench_scaling(benchmark, workers, open_peer, axis, value, net, name, threads):
    """Ours on all threads is compared with ours on one; peers with ours as it chooses."""
    facts = {"bench": "scaling", "axis": axis, "value": value, "case": net.name}
    forced = threads if name == "fastmlp" else None
    against = (1, 1) if name == "fastmlp" and threads > 1 else None
    time_training(benchmark, workers, open_peer, net, name, threads, facts, n_threads=forced, against=against)


@pytest.mark.parametrize("threads", THREADS)
def bench_threads(benchmark, workers, open_peer, threads):
    facts = {"bench": "scaling", "axis": "threads", "value": threads, "case": f"threads of {LAB_2.name}"}
    time_training(benchmark, workers, open_peer, LAB_2, "fastmlp", threads, facts, n_threads=threads,
                  against=(1, 1) if threads > 1 else None)
