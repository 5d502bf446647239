"""Seconds per epoch, and to a stated accuracy, of equal work; with a core kept busy, too."""
import multiprocessing
import os
import time

import pytest

from .conftest import name_of, thread_counts
from .machine import cores
from .nets import LAB_1, LABS, NETS
from .timing import TASK, advance, time_training, worker_clock
from .training import PEERS

pytestmark = pytest.mark.benchmark(timer=worker_clock)
MAX_EPOCHS = 12
BUSY_SECONDS = 60            # a forgotten busy process ends by itself
TO_ACCURACY = ("fastmlp", "NumPy", "scikit-learn", "torch", "JAX", "Keras")


def takes_part(name, net, threads):
    """Everybody everywhere, but for what would make the suite longer than 15 minutes."""
    if net.only_gradients:
        return name in ("fastmlp", "NumPy", "torch", "JAX")
    if name == "fastmlp float32":
        return net.data == "mnist"
    if name == "torch.compile":                      # 10 to 30 s of compilation a net
        return net in LABS and threads == cores()
    if name in ("scikit-learn", "Keras"):
        return net in LABS or threads == cores()
    return True


@pytest.mark.parametrize(("net", "threads", "name"), [
    (net, threads, name) for net in NETS for threads in thread_counts() for name in PEERS
    if takes_part(name, net, threads)
], ids=name_of)
def bench_epoch(benchmark, workers, open_peer, net, threads, name):
    """A round is a share of an epoch, on rows drawn afresh from all; shown per epoch."""
    time_training(benchmark, workers, open_peer, net, name, threads, {"bench": "training", "case": net.name})


@pytest.fixture
def busy_core():
    """A process that keeps our last core busy."""
    process = multiprocessing.get_context("spawn").Process(target=keep_busy, args=(BUSY_SECONDS,), daemon=True)
    process.start()
    yield
    process.kill()
    process.join()


def keep_busy(seconds):
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@pytest.mark.skipif(cores() < 2, reason="needs a second core to keep busy")
@pytest.mark.parametrize("name", ["fastmlp", "NumPy", "torch", "JAX"], ids=name_of)
def bench_busy_neighbour(benchmark, workers, open_peer, busy_core, name):
    """All threads while another process computes on one of the cores."""
    facts = {"bench": "busy", "case": f"{LAB_1.name}, busy neighbour"}
    time_training(benchmark, workers, open_peer, LAB_1, name, cores(), facts)


@pytest.mark.parametrize(("net", "name"), [(net, name) for net in LABS for name in PEERS
                                           if name in TO_ACCURACY], ids=name_of)
def bench_accuracy(benchmark, workers, open_peer, net, name):
    """Seconds of training, all threads, until the test accuracy is reached: whole epochs, ours and the peer's in turn.

    What a peer compiles anew in every process is part of it; what ours compiles once and keeps on disk is not.
    """
    benchmark.group = f"{net.name} to test accuracy {net.accuracy} | {net}"
    trained = {name: open_peer(name, cores(), TASK, name, net)}
    if name != "fastmlp":
        trained["fastmlp"] = workers.open("fastmlp", cores(), TASK, "fastmlp", net)
    for task in trained.values():
        task.restart()
    seconds, epochs = dict.fromkeys(trained, 0.0), dict.fromkeys(trained, 0)

    def train():
        accuracy = dict.fromkeys(trained, 0.0)
        for _ in range(MAX_EPOCHS):
            for peer, task in trained.items():
                if accuracy[peer] < net.accuracy:
                    taken, accuracy[peer] = task.epoch()
                    seconds[peer], epochs[peer] = seconds[peer] + taken, epochs[peer] + 1
        advance(seconds[name])
        return accuracy[name]

    accuracy = benchmark.pedantic(train, rounds=1)
    assert accuracy >= net.accuracy, f"{name}: {accuracy:.4f} after {MAX_EPOCHS} epochs"
    benchmark.extra_info.update(
        bench="accuracy", case=net.name, net=str(net), name=name, threads=cores(), target=net.accuracy,
        note=PEERS[name].note_on(net), seconds=seconds[name], epochs=epochs[name], accuracy=accuracy,
        ratio=seconds[name] / seconds["fastmlp"])
