"""The stages of `gpu_session.sh`, each a command: python -m bench.gpu STAGE [rows.jsonl [folder]].

A figure is a line of rows.jsonl as soon as it is measured, so a stage that is cut off keeps what it had.
"""
import datetime
import json
import re
import statistics
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

import numpy as np

from . import gpu_kernels, gpu_peers
from .gpu_rows import NONE, Trained, attempt, gpu_name, record, seconds_of
from .machine import PACKAGES, commit, versions
from .nets import LAB_1, LAB_2, LABS, TINY, Net
from .run import RESULTS, write

NARROW = (replace(TINY, batch_size=32), Net("narrow", (64, 32, 10), 10_000, optimizer="adam", batch_size=32))
BATCHES = (256, 32, 4096)        # the lecture's first
PRECISIONS = ("float32", "tf32", "bf16")
GPU_PACKAGES = (*PACKAGES, "numba-cuda", "cupy-cuda13x", "cupy-cuda12x", "cuda-toolkit", "nvidia-nvvm",
                "nvidia-nvjitlink", "cuda-bindings", "greenlet")


# ------------------------------------------------------------------------------- stages

def versions_stage():
    """What is installed, and what the GPU says of itself."""
    from importlib.metadata import PackageNotFoundError, version

    for package in GPU_PACKAGES:
        try:
            print(package, version(package))
        except PackageNotFoundError:
            print(package, "not installed")
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(0)
    for name in ("name", "major", "minor", "multiProcessorCount", "l2CacheSize", "clockRate", "totalGlobalMem"):
        print(name, properties.get(name))
    print("driver", cupy.cuda.runtime.driverGetVersion(), "runtime", cupy.cuda.runtime.runtimeGetVersion())
    print("peers missing:", *[name for name, peer in gpu_peers.PEERS.items() if find_spec(peer.needs) is None])


def smoke():
    """One operation, one training, against NumPy: what to read first if anything fails."""
    from fastmlp.kernels import cuda

    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((65, 33), np.float32), rng.standard_normal((33, 40), np.float32)
    b, y = rng.standard_normal(40, np.float32), np.full((65, 40), np.nan, np.float32)
    cuda.dense_forward(x, w, b, 0, y)
    print("dense_forward:", float(np.abs(y - (x @ w + b)).max()))
    for precision in PRECISIONS:
        trained = Trained(LAB_1, precision)
        loss, correct, weight = trained.epoch()
        print(f"lab 1, {precision}: loss {loss / weight:.4f}, accuracy {correct / weight:.4f} in training, "
              f"{trained.accuracy():.4f} on the test images")
    bits = []
    for _ in range(2):
        trained = Trained(LAB_2, "float32")
        trained.epoch(np.arange(LAB_2.rows))
        parameters = LAB_2.start()
        trained.kernels.read_parameters(trained.state, parameters)
        bits.append(parameters.tobytes())
    print("lab 2 twice: the same bits" if bits[0] == bits[1] else "lab 2 twice: DIFFERENT BITS")
    assert bits[0] == bits[1]


def epochs():
    """Seconds per epoch of the labs, the permutation made on the host included and left out."""
    for batch in BATCHES:
        for lab in LABS:
            net = replace(lab, batch_size=batch)
            for precision in PRECISIONS:
                attempt(f"{lab.name} batch {batch} {precision}", time_epochs, net, precision)
    for net in NARROW:
        attempt(str(net), time_epochs, net, "float32")
        attempt(f"{net}, graph", time_epochs, net, "float32", lambda *shape: None)


def time_epochs(net, precision, *choose_plan):
    trained = Trained(net, precision, *choose_plan)
    way = ", persistent kernel" if trained.state.plan else ""
    order = np.random.default_rng(1).permutation(net.rows)
    whole, alone = seconds_of(trained.epoch), seconds_of(lambda: trained.epoch(order))
    median = statistics.median(alone)
    record(bench="gpu epoch", case=f"{net.name}, batch {net.batch_size}", name=f"fastmlp {precision}{way}",
           net=str(net), seconds=median, fastest=min(alone), with_permutation=statistics.median(whole),
           microseconds_a_step=1e6 * median / net.steps, tflops=net.step_flops * net.steps / median / 1e12)


def peers():
    for batch in BATCHES:
        for lab in LABS:
            net = replace(lab, batch_size=batch)
            for name, peer in gpu_peers.PEERS.items():
                if find_spec(peer.needs) is None:
                    print(f"{name}: not installed ({peer.needs})")
                elif batch == 256 or peer.quick:
                    attempt(f"{name}, {lab.name} batch {batch}", time_peer, net, name, peer)


def time_peer(net, name, peer):
    trained = peer.kind(net)
    orders = [np.random.default_rng(1).permutation(net.rows)[:net.rows // net.batch_size * net.batch_size]]
    trained.train(orders)
    times = seconds_of(lambda: trained.train(orders), 3)
    record(bench="gpu epoch", case=f"{net.name}, batch {net.batch_size}", name=name, net=str(net), note=peer.note,
           seconds=statistics.median(times), fastest=min(times),
           microseconds_a_step=1e6 * statistics.median(times) / (net.rows // net.batch_size))


def launches():
    from fastmlp.kernels.cuda.machine import gpu

    machine = gpu(0)
    with machine.current():
        gpu_kernels.empty_kernels(machine)


def kernels():
    """Each launch of a training step by itself; large products beside cuBLAS."""
    from fastmlp.kernels.cuda.machine import gpu

    machine = gpu(0)
    with machine.current():
        limits = gpu_kernels.gpu_peaks(machine)
        for precision in PRECISIONS:
            attempt(f"products {precision}", gpu_kernels.time_products, precision, machine)
    for batch in (256, 4096):
        for lab in LABS:
            for precision in PRECISIONS:
                net = replace(lab, batch_size=batch)
                attempt(f"{net} {precision}", gpu_kernels.time_step, net, precision, limits)


def accuracy():
    """Lab 2 for 20 epochs at every precision; the test accuracy may differ by 0.2 points."""
    for precision in PRECISIONS:
        trained = Trained(LAB_2, precision)
        start = perf_counter()
        for _ in range(20):
            trained.epoch()
        record(bench="gpu accuracy", case=f"{LAB_2.name}, 20 epochs", name=f"fastmlp {precision}",
               seconds=perf_counter() - start, accuracy=trained.accuracy())


def sanitized():
    """A few steps of every kernel, for compute-sanitizer; no memory pool, which would hide writes beyond an array."""
    import cupy

    cupy.cuda.set_allocator(None)
    for precision in PRECISIONS:
        net = replace(LAB_2, sizes=(784, 37, 19, 10), dropout=(0.3, 0.3), rows=300, batch_size=64)
        trained = Trained(net, precision)
        trained.x, trained.labels = trained.x[:300], trained.labels[:300]
        loss, _, weight = trained.epoch()
        trained.kernels.evaluate(trained.state, trained.x, trained.labels, *NONE)
        assert np.isfinite(loss / weight)
        print(precision, loss / weight)
    trained = Trained(replace(NARROW[0], dropout=(0.3, 0.3), rows=340, batch_size=150), "float32")
    assert trained.state.plan.rows < 150                 # several blocks of rows a step
    loss, _, weight = trained.epoch()
    assert np.isfinite(loss / weight)
    print("persistent kernel", loss / weight)


def collect():
    """rows.jsonl FOLDER -> FOLDER/<gpu>.json: these figures, after those of bench/results/gpu/<gpu>.json."""
    rows = [json.loads(line) for line in Path(sys.argv[2]).read_text(encoding="utf-8").splitlines()]
    name = gpu_name()
    path = Path(sys.argv[3]) / f"{'-'.join(re.findall(r'[a-z0-9]+', name.lower()))}.json"
    before = RESULTS / "gpu" / path.name
    runs = json.loads(before.read_text())["runs"] if before.exists() else []
    runs.append({"date": datetime.date.today().isoformat(), "commit": commit(), "versions": versions(), "rows": rows})
    write(path, {"processor": name}, runs)
    print(f"{len(rows)} rows in {path}")


STAGES = {"versions": versions_stage, "smoke": smoke, "epochs": epochs, "peers": peers, "launches": launches,
          "kernels": kernels, "accuracy": accuracy, "sanitized": sanitized, "collect": collect}

if __name__ == "__main__":
    STAGES[sys.argv[1]]()
