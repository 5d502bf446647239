"""The stages of `gpu_session.sh`, each a command: python -m bench.gpu STAGE [rows.jsonl].

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

from . import gpu_peers
from .machine import PACKAGES, commit, versions
from .nets import LAB_1, LAB_2, LABS, SEED, mnist
from .run import RESULTS, rounded, write

BATCHES = (256, 32, 4096)        # the lecture's first
PRECISIONS = ("float32", "tf32", "bf16")
ROUNDS = 5
NONE = np.empty((0, 0), np.float32), np.empty(0, np.float32)      # no soft targets, no sample weights
GPU_PACKAGES = (*PACKAGES, "numba-cuda", "cupy-cuda13x", "cupy-cuda12x", "cuda-toolkit", "nvidia-nvvm",
                "nvidia-nvjitlink", "cuda-bindings", "greenlet")


def record(**row):
    row = rounded(row)
    print("  ".join(f"{name} {value}" for name, value in row.items()))
    if len(sys.argv) > 2:
        with open(sys.argv[2], "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def gpu_name():
    import cupy

    return cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()


def attempt(what, function, *arguments):
    """One row that cannot be measured is named and leaves the others alone."""
    try:
        return function(*arguments)
    except Exception as error:
        print(f"{what}: {type(error).__name__}: {str(error).strip()[:300]}")
        return None


class Precise:
    """The CUDA kernels at one precision, as `Net.prepare` takes a package."""

    def __init__(self, precision):
        from fastmlp.kernels import cuda

        self.kernels, self.precision = cuda.on(0), precision

    def prepare(self, *arguments, **options):
        return self.kernels.prepare(*arguments, **options, precision=self.precision)


class Trained:
    """A net in training on the GPU, on MNIST."""

    def __init__(self, net, precision):
        package = Precise(precision)
        self.net, self.kernels = net, package.kernels
        self.state = net.prepare(package, scale=net.scale)
        self.x, self.labels = net.load()
        self.rng = np.random.default_rng(SEED)
        self.rates = np.full(net.steps, net.learning_rate)

    def epoch(self, order=None):
        order = self.rng.permutation(self.net.rows) if order is None else order
        return self.kernels.train_epoch(self.state, self.x, self.labels, *NONE, order, self.rates)

    def accuracy(self):
        x, y = mnist()[2:]
        parameters = self.net.start()
        self.kernels.read_parameters(self.state, parameters)
        out = np.empty((len(x), self.net.sizes[-1]), np.float32)
        self.kernels.forward(parameters, self.net.sizes, self.net.activation_codes, x, self.net.scale, None, out)
        return float((out.argmax(axis=1) == y).mean())


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


def seconds_of(function, rounds=ROUNDS):
    """Seconds of each call, after one to warm up; the calls wait for the GPU themselves."""
    function()
    times = []
    for _ in range(rounds):
        start = perf_counter()
        function()
        times.append(perf_counter() - start)
    return times


def epochs():
    """Seconds per epoch of the labs, the permutation made on the host included and left out."""
    for batch in BATCHES:
        for lab in LABS:
            net = replace(lab, batch_size=batch)
            for precision in PRECISIONS:
                attempt(f"{lab.name} batch {batch} {precision}", time_epochs, net, precision)


def time_epochs(net, precision):
    trained = Trained(net, precision)
    order = np.random.default_rng(1).permutation(net.rows)
    whole, alone = seconds_of(trained.epoch), seconds_of(lambda: trained.epoch(order))
    median = statistics.median(alone)
    record(bench="gpu epoch", case=f"{net.name}, batch {net.batch_size}", name=f"fastmlp {precision}", net=str(net),
           seconds=median, fastest=min(alone), with_permutation=statistics.median(whole),
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
    """What a launch costs the host, and a node of a graph."""
    from fastmlp.kernels.cuda.machine import Launch, gpu
    from fastmlp.kernels.cuda.shims import cuda

    @cuda.jit
    def empty():
        pass

    @cuda.jit
    def three(a, b, c):
        pass

    machine, repeats = gpu(0), 1000
    with machine.current():
        arrays = tuple(machine.argument(machine.zeros(1, np.float32)) for _ in range(3))
        for name, launch in (("no arguments", Launch(empty, (1, 1), 32, ())),
                             ("3 arrays", Launch(three, (1, 1), 32, arrays))):
            machine.run([launch])
            machine.stream.synchronize()
            start = perf_counter()
            machine.run([launch] * repeats)
            enqueued = perf_counter() - start
            machine.stream.synchronize()
            record(bench="gpu launch", case=name, name="host", microseconds=1e6 * enqueued / repeats)
            graph = machine.capture([launch], repeats)
            graph.launch(machine.stream)
            machine.stream.synchronize()
            start = perf_counter()
            graph.launch(machine.stream)
            machine.stream.synchronize()
            record(bench="gpu launch", case=name, name="graph node",
                   microseconds=1e6 * (perf_counter() - start) / repeats)


def kernels():
    """Each launch of a training step by itself; a large product beside cuBLAS."""
    for batch in (256, 4096):
        for lab in LABS:
            for precision in PRECISIONS:
                net = replace(lab, batch_size=batch)
                attempt(f"{net} {precision}", time_step, net, precision)
    for precision in PRECISIONS:
        attempt(f"dense forward {precision}", time_forward, precision)


def time_launch(machine, launch, repeats=200):
    """Seconds of one run, from a graph of many."""
    machine.run([launch])
    graph = machine.capture([launch], repeats)
    graph.launch(machine.stream)
    machine.stream.synchronize()
    start = perf_counter()
    graph.launch(machine.stream)
    machine.stream.synchronize()
    return (perf_counter() - start) / repeats


def time_step(net, precision):
    from fastmlp.kernels.cuda.training import training_step

    trained = Trained(net, precision)
    trained.epoch()
    state = trained.state
    with state.machine.current():
        first, step = training_step(state, state.data["trained"][1])
        state.machine.run([first])                       # a batch is set; what a launch repeats does not matter
        for number, launch in enumerate(step):
            name = launch.kernel.py_func.__name__
            if name == "finish_step":                    # it would move on, and end the epoch
                continue
            record(bench="gpu kernel", case=f"{net.name}, batch {net.batch_size}", name=f"{number} {name} {precision}",
                   microseconds=1e6 * time_launch(state.machine, launch), blocks=int(np.prod(launch.grid)))


def time_forward(precision, n=4096):
    import cupy

    from fastmlp.kernels.cuda import dense, tensor_core
    from fastmlp.kernels.cuda import tile as plain_tile
    from fastmlp.kernels.cuda.control import one_batch
    from fastmlp.kernels.cuda.machine import Launch, gpu

    machine = gpu(0)
    tile = plain_tile.define(np.float32, "large") if precision == "float32" else tensor_core.define(precision, "large")
    with machine.current():
        x, w, y = (cupy.random.standard_normal(n * n, dtype=np.float32) for _ in range(3))
        b, control = machine.zeros(n, np.float32), machine.upload(one_batch(n))
        launch, = machine.prepared([Launch(
            dense.kernels(np.float32, tile).forward, (n // tile.columns, n // tile.rows), tile.threads,
            (x, 0, w, 0, b, 0, control, n, n, 1, y, 0, b, 0, 0, np.float32(1), 0, 0, 0))])
        seconds = time_launch(machine, launch, 5)
        record(bench="gpu gemm", case="4096 x 4096 x 4096", name=f"fastmlp {precision}", seconds=seconds,
               tflops=2 * n ** 3 / seconds / 1e12)
        if precision == "float32":
            x, w, y = (array.reshape(n, n) for array in (x, w, y))
            cupy.matmul(x, w, out=y)
            machine.stream.synchronize()
            start = perf_counter()
            for _ in range(5):
                cupy.matmul(x, w, out=y)
            machine.stream.synchronize()
            seconds = (perf_counter() - start) / 5
            record(bench="gpu gemm", case="4096 x 4096 x 4096", name="cuBLAS float32", seconds=seconds,
                   tflops=2 * n ** 3 / seconds / 1e12)


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


def collect():
    """rows.jsonl -> bench/results/gpu/<gpu>.json."""
    rows = [json.loads(line) for line in Path(sys.argv[2]).read_text(encoding="utf-8").splitlines()]
    name = gpu_name()
    path = RESULTS / "gpu" / f"{'-'.join(re.findall(r'[a-z0-9]+', name.lower()))}.json"
    path.parent.mkdir(exist_ok=True)
    runs = json.loads(path.read_text())["runs"] if path.exists() else []
    runs.append({"date": datetime.date.today().isoformat(), "commit": commit(), "versions": versions(), "rows": rows})
    write(path, {"processor": name}, runs)
    print(f"{len(rows)} rows in {path}")


STAGES = {"versions": versions_stage, "smoke": smoke, "epochs": epochs, "peers": peers, "launches": launches,
          "kernels": kernels, "accuracy": accuracy, "sanitized": sanitized, "collect": collect}

if __name__ == "__main__":
    STAGES[sys.argv[1]]()
