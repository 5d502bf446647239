"""What single launches take on the GPU: an empty one, each of a training step beside its floor, large products.

A launch is timed in a graph of many of itself, so that the host's part is left out.
"""
import statistics
from time import perf_counter

import numpy as np

from .gpu_floors import name_of, peaks, work_of
from .gpu_rows import Trained, gpu_name, record

PRODUCTS = (256, 512, 1024, 2048, 4096)
COPIED = 1 << 28                 # bytes


def wait_for(machine, graph):
    """Seconds of one replay, waited for."""
    start = perf_counter()
    graph.launch(machine.stream)
    machine.stream.synchronize()
    return perf_counter() - start


def time_launches(machine, launches, repeats=200):
    """Seconds of one run of these launches, one after the other: the median of three graphs of many."""
    machine.run(launches)
    graph = machine.capture(launches, repeats)
    wait_for(machine, graph)
    return statistics.median(wait_for(machine, graph) for _ in range(3)) / repeats


def copy_bandwidth(machine):
    """Bytes a second, read and written, of a copy that no cache holds."""
    source, target = (machine.zeros(COPIED, np.uint8) for _ in range(2))
    times = []
    for _ in range(4):                                      # the first wakes the memory up
        machine.stream.synchronize()
        start = perf_counter()
        target[...] = source
        machine.stream.synchronize()
        times.append(perf_counter() - start)
    return 2 * COPIED / min(times)


def empty_kernels(machine, repeats=1000):
    """What a launch costs the host, and a node of a graph, without arguments and with three arrays."""
    from fastmlp.kernels.cuda.machine import Launch
    from fastmlp.kernels.cuda.shims import cuda

    @cuda.jit
    def empty():
        pass

    @cuda.jit
    def three(a, b, c):
        pass

    arrays = tuple(machine.argument(machine.zeros(1, np.float32)) for _ in range(3))
    for name, kernel, arguments in (("no arguments", empty, ()), ("3 arrays", three, arrays)):
        launch = Launch(kernel, 1, 32, arguments)
        machine.run([launch])
        machine.stream.synchronize()
        start = perf_counter()
        machine.run([launch] * repeats)
        enqueued = perf_counter() - start
        machine.stream.synchronize()
        record(bench="gpu launch", case=name, name="host", microseconds=1e6 * enqueued / repeats)
        record(bench="gpu launch", case=name, name="graph node",
               microseconds=1e6 * time_launches(machine, [launch], repeats))


def gpu_peaks(machine):
    """The peaks of this GPU, and the copy bandwidth it reaches beside them."""
    bandwidth = copy_bandwidth(machine)
    found = peaks(gpu_name(), lambda: bandwidth)
    record(bench="gpu peaks", case="memory", name="copy", bytes_a_second=bandwidth, of_peak=bandwidth / found.memory,
           **found._asdict())
    return found


def time_step(net, precision, limits):
    """Each launch of a training step, and the share of its floor that it reaches."""
    from fastmlp.kernels.cuda.training import training_step

    trained = Trained(net, precision)
    trained.epoch()
    state = trained.state
    with state.machine.current():
        first, step = training_step(state, state.data["trained"][1])
        state.machine.run([first])                       # a batch is set; what a launch repeats does not matter
        for number, launch in enumerate(step):
            if name_of(launch) != "finish_step":         # it would move on, and end the epoch
                seconds = time_launches(state.machine, [launch])
                record(bench="gpu kernel", case=f"{net.name}, batch {net.batch_size}",
                       name=f"{number} {name_of(launch)} {precision}", microseconds=1e6 * seconds,
                       blocks=getattr(launch, "blocks", 0),
                       **against_floor(work_of(launch, state), seconds, limits, precision))


def against_floor(work, seconds, limits, precision):
    """The columns of a row that say what a launch needs at least, as far as that is known."""
    if work is None:
        return {}
    floor, bound = work.floor(limits, precision)
    columns = {"bytes": work.bytes, "flops": work.flops}
    return columns if floor is None else columns | {
        "floor_microseconds": 1e6 * floor, "share": floor / seconds, "bound": bound}


def time_products(precision, machine, sizes=PRODUCTS):
    """Square dense forwards: our tiles, cuBLAS with our epilogue, cuBLAS alone. Where the first two cross is where
    `large.FLOPS` should stand."""
    from fastmlp.kernels.cuda import dense, large, tensor_core
    from fastmlp.kernels.cuda.control import one_batch
    from fastmlp.kernels.cuda.machine import Launch

    rng = np.random.default_rng(0)
    for n in sizes:
        tile = (dense.choose_tile(np.float32, n, n) if precision == "float32"
                else tensor_core.choose_tile(precision, n, n))
        x, w, y = (machine.upload(rng.standard_normal(n * n, np.float32)) for _ in range(3))
        b, control = machine.zeros(n, np.float32), machine.upload(one_batch(n))
        finish = (b, 0, control, n, 1, y, 0, b, 0, 0, np.float32(1), 0, 0, 0)
        product = large.Product(x, 0, False, w, 0, False, y, 0, n, n, n, precision)
        epilogue = Launch(large.kernels(np.float32).finish_forward, -(-n * n // large.THREADS), large.THREADS,
                          finish)
        tiled = Launch(dense.kernels(np.float32, tile).forward, tile.count(n, n),
                       tile.threads, (x, 0, w, 0, b, 0, control, n, *finish[3:]))
        for name, launches in (("tiles", [tiled]), ("cuBLAS and epilogue", [product, epilogue]),
                               ("cuBLAS alone", [product])):
            seconds = time_launches(machine, machine.prepared(launches), 5 if n >= 2048 else 50)
            record(bench="gpu gemm", case=f"{n} x {n} x {n}", name=f"{name} {precision}", seconds=seconds,
                   tflops=2 * n ** 3 / seconds / 1e12, handed_over=large.handed_over(n, n, n))
