"""How training scales over MPI ranks: measured here, fitted, and predicted for clusters. docs/scale.md shows it.

    python -m bench.scale measure [repeats]
                                    1 and 2 ranks of one thread each, alternating, three times: needs 2 free cores for
                                    some minutes. Writes bench/scale.json
    python -m bench.scale fit       the model fitted to bench/scale.json, its predictions, docs/pictures/scale.png

The model: a step of a batch of B rows on P ranks takes
    T(P) = a + B (1 + s) F / (P R) + u W + 2 log2(P) l + 2 (P - 1) / P  4 W / G
with W weights, F = 6 W floating-point operations a row, R the speed of a rank, a and u its cost a step and a weight
that no rank can share (entering compiled code; the update, and the gradient's way through memory), s the excess of the
rank that has most of a batch's rows, and Allreduce as reduce-scatter and all-gather do it (Thakur et al. 2005):
latency l a message, G bytes a second.
"""
import json
import shutil
import subprocess
import sys
from itertools import pairwise
from math import log, log2, sqrt
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import numpy as np

HERE = Path(__file__).parent
NETS = {"lab 2": (784, 500, 10), "lab 4": (784, 500, 300, 10), "4096 wide": (784, 4096, 4096, 10)}
DROPOUT = {"lab 4": 0.4}
BATCHES = {"lab 2": (256, 512, 1024, 2048), "lab 4": (256, 512, 1024, 2048), "4096 wide": (256, 1024)}
STEPS = {"lab 2": (16, 30), "lab 4": (8, 30), "4096 wide": (2, 5)}  # of an epoch, and epochs
SIZES = [1 << k for k in range(6, 25, 2)]           # bytes of the Allreduce measured by itself


class Timed:
    """A communicator whose Allreduce is timed: seconds of the clock and of the processor, in which it also waits."""

    def __init__(self, comm):
        self._comm, self.seconds, self.processor = comm, 0.0, 0.0

    def __getattr__(self, name):
        return getattr(self._comm, name)

    def Allreduce(self, *arguments):
        started, begun = perf_counter(), process_time()
        self._comm.Allreduce(*arguments)
        self.seconds += perf_counter() - started
        self.processor += process_time() - begun


def weights_of(sizes):
    return sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))


def train_epochs(comm, name, batch):
    """Seconds of a step: on the clock, and of that in Allreduce, in the fastest epoch, which others disturbed least;
    and of the processor's time outside Allreduce, the median of the epochs."""
    import fastmlp
    images, labels, _, _ = fastmlp.datasets.mnist()
    rank, size = (comm.Get_rank(), comm.Get_size()) if comm else (0, 1)
    own = slice(rank * 60_000 // size, (rank + 1) * 60_000 // size)
    steps, epochs = STEPS[name]
    n = batch * steps // size
    timed, spent = (Timed(comm) if comm else None), []

    def note(*_):
        spent.append((timed.seconds, process_time() - timed.processor) if timed else (0.0, process_time()))
    sizes = NETS[name]
    model = fastmlp.train(images[own][:n], labels[own][:n], hidden=sizes[1:-1], dropout=DROPOUT.get(name, 0.0),
                          optimizer="rmsprop", batch_size=batch, epochs=epochs, seed=0, n_threads=1, device="cpu",
                          comm=timed, callbacks=[note])
    reduce, work = np.diff(spent, axis=0).T / steps
    step, reduce = min(zip(np.array(model.history["seconds"][1:]) / steps, reduce, strict=True))
    return step, reduce, median(work)


def time_allreduce(comm, count=41):
    """[bytes, seconds] of Allreduce by itself: the least, as the clock may count other programs."""
    from mpi4py import MPI
    table = []
    for size in SIZES:
        array, seconds = np.ones(size // 4, np.float32), []
        for _ in range(count):
            comm.Barrier()
            started = perf_counter()
            comm.Allreduce(MPI.IN_PLACE, array)
            seconds.append(perf_counter() - started)
            array[:] = 1
        table.append([size, min(seconds)])
    return table


def worker(name, batch):
    from mpi4py import MPI
    comm = MPI.COMM_WORLD
    if name == "allreduce":
        result = time_allreduce(comm)
    else:
        result = train_epochs(comm if comm.Get_size() > 1 else None, name, int(batch))
    if comm.Get_rank() == 0:
        print("RESULT", json.dumps(result))


def launch(ranks, name, batch=0):
    mpiexec = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
    run = subprocess.run([mpiexec, "-n", str(ranks), sys.executable, "-m", "bench.scale", "worker", name, str(batch)],
                         text=True, capture_output=True, check=True)
    return json.loads(run.stdout.split("RESULT ")[1])


def measure(repeats=3):
    from . import machine
    cases = [(name, batch) for name in NETS for batch in BATCHES[name]]
    rows = {(name, batch, ranks): [] for name, batch in cases for ranks in (1, 2)}
    for _ in range(int(repeats)):
        for name, batch, ranks in rows:
            rows[name, batch, ranks].append(launch(ranks, name, batch))
    table = [{"net": name, "batch": batch, "ranks": ranks,
              **{what: median(column) for what, column in zip(("step_s", "allreduce_s", "work_s"),
                                                              zip(*times, strict=True), strict=True)}}
             for (name, batch, ranks), times in rows.items()]
    result = {"machine": machine.describe(), "commit": machine.commit(), "steps": table,
              "allreduce": launch(2, "allreduce")}
    (HERE / "scale.json").write_text(json.dumps(result, indent=1) + "\n")
    for name, batch in cases:
        one, two = (row for row in table if (row["net"], row["batch"]) == (name, batch))
        reduce = np.interp(4 * weights_of(NETS[name]), *np.array(result["allreduce"]).T)
        print(f"{name:10} batch {batch:5}: clock: a step of 1 rank {one['step_s'] * 1e3:8.2f} ms, of 2 "
              f"{two['step_s'] * 1e3:8.2f} ms, {one['step_s'] / two['step_s']:.2f} ×, Allreduce with its waiting "
              f"{two['allreduce_s'] / two['step_s']:.0%}; processor: {one['work_s'] * 1e3:8.2f} ms and "
              f"{two['work_s'] * 1e3:8.2f} ms + Allreduce {reduce * 1e3:.2f} ms, "
              f"{one['work_s'] / (two['work_s'] + reduce):.2f} ×, {reduce / (two['work_s'] + reduce):.0%}")


# ------------------------------------------------------------------------------- the model

def fit_rank(steps, net):
    """(seconds a step, rows a second) of one rank: a line through the processor's time of a step over the batch,
    relative errors."""
    rows = [row for row in steps if row["net"] == net and row["ranks"] == 1]
    batch, seconds = (np.array([row[name] for row in rows], float) for name in ("batch", "work_s"))
    fixed, slope = np.linalg.lstsq(np.stack([np.ones(len(rows)), batch], 1) / seconds[:, None], np.ones(len(rows)),
                                   rcond=None)[0]
    return max(fixed, 0.0), 1 / slope


def fit_halves(steps, net, fixed, rate):
    """Seconds a weight that the step in two halves costs beside its Allreduce: what 2 ranks took longer than half."""
    extra = [row["work_s"] - fixed - row["batch"] / 2 / rate
             for row in steps if row["net"] == net and row["ranks"] == 2]
    return max(0.0, median(extra)) / weights_of(NETS[net])


def fit_allreduce(table):
    """(latency, bytes a second) of 2 ranks: t = 2 l + n / G, relative errors."""
    size, seconds = np.array(table).T
    latency, slope = np.linalg.lstsq(np.stack([np.full(len(size), 2.0), size], 1) / seconds[:, None],
                                     np.ones(len(size)), rcond=None)[0]
    return latency, 1 / slope


def predict(net, batch, ranks, rank, extra, latency, bandwidth):
    """(step, Allreduce) in seconds."""
    fixed, rate = rank
    share = batch / ranks
    most = share + sqrt(2 * log(ranks) * share) if ranks > 1 else share     # of P binomial numbers, nearly
    count = weights_of(NETS[net])
    reduce = 0.0 if ranks == 1 else 2 * log2(ranks) * latency + 2 * (ranks - 1) / ranks * 4 * count / bandwidth
    return fixed + min(most, batch) / rate + (extra * count if ranks > 1 else 0.0) + reduce, reduce


NETWORKS = {"25 Gb/s Ethernet": (15e-6, 2.5e9), "200 Gb/s InfiniBand": (2e-6, 22e9)}
RANKS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]


def fit():
    result = json.loads((HERE / "scale.json").read_text())
    local = fit_allreduce(result["allreduce"])
    print(f"Allreduce of 2 ranks in memory: latency {local[0] * 1e6:.1f} µs, {local[1] / 1e9:.1f} GB/s")
    fits = {}
    for net in NETS:
        rank = fit_rank(result["steps"], net)
        fits[net] = rank, fit_halves(result["steps"], net, *rank)
        errors = []
        for row in (row for row in result["steps"] if row["net"] == net):
            got, reduce = predict(net, row["batch"], row["ranks"], *fits[net], *local)
            errors.append((got - reduce) / row["work_s"] - 1)
        print(f"{net}: {rank[0] * 1e6:.0f} µs a step, {6 * weights_of(NETS[net]) * rank[1] / 1e9:.0f} GFLOP/s a rank, "
              f"{fits[net][1] * 1e9:.2f} ns a weight in two halves; model against measurement "
              f"{min(errors):+.0%} to {max(errors):+.0%}")
    for network, speed in NETWORKS.items():
        for kind, batch_of in (("strong, batch 1024", lambda ranks: 1024), ("strong, batch 16384", lambda ranks: 16384),
                               ("weak, 1024 rows a rank", lambda ranks: 1024 * ranks)):
            print(f"\n{network}, {kind}: speed-up (share of Allreduce)")
            print("| ranks | " + " | ".join(NETS) + " |\n|---:|" + "---:|" * len(NETS))
            for ranks in RANKS[3:]:
                cells = []
                for net in NETS:
                    batch = batch_of(ranks)
                    one, _ = predict(net, batch, 1, *fits[net], *speed)
                    many, reduce = predict(net, batch, ranks, *fits[net], *speed)
                    cells.append(f"{one / many:.1f} ({reduce / many:.0%})")
                print(f"| {ranks:,} | " + " | ".join(cells) + " |")
    draw(result, fits)


def draw(result, fits):
    from matplotlib.figure import Figure
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    for ax, (net, fitted) in zip(axes, fits.items(), strict=True):
        for (network, speed), line in zip(NETWORKS.items(), ("--", "-"), strict=True):
            for batch, colour in ((1024, "#c0392b"), (16384, "#2980b9")):
                one, _ = predict(net, batch, 1, *fitted, *speed)
                gains = [one / predict(net, batch, ranks, *fitted, *speed)[0] for ranks in RANKS]
                ax.plot(RANKS, gains, line, color=colour, label=f"batch {batch:,}, {network}")
        ax.plot(RANKS, RANKS, ":", color="grey")
        ax.set(xscale="log", yscale="log", title=net, xlabel="ranks of one core", ylim=(0.8, 1100))
    axes[0].set_ylabel("speed-up")
    axes[0].legend(fontsize=7)
    figure.savefig(HERE.parent / "docs" / "pictures" / "scale.png", dpi=85, metadata={"Software": None})


if __name__ == "__main__":
    {"measure": measure, "fit": fit, "worker": worker}[sys.argv[1]](*sys.argv[2:])
