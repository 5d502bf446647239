"""How training scales over MPI ranks: measured here, fitted, and predicted for clusters. docs/scale.md shows it.

    python -m bench.scale measure [repeats]
                                    1 and 2 ranks of one thread each, alternating, three times: needs 2 free cores for
                                    some minutes. Writes bench/scale.json
    python -m bench.scale fit       the tables of docs/scale.md from bench/scale.json: what was measured, the model, its
                                    predictions; and docs/pictures/scale.png

Beside 1 and 2 ranks two things are measured that tell the machine's part from ours: two processes that train half the
rows each and know nothing of each other, which is all that this machine can give; and a step as a rank of two takes it,
the gradient of half the rows and then the update, by one process with the machine to itself.

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
from math import log, log2, sqrt
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import numpy as np

from fastmlp.kernels.flat import n_parameters

HERE = Path(__file__).parent
NETS = {"lab 2": (784, 500, 10), "lab 4": (784, 500, 300, 10), "4096 wide": (784, 4096, 4096, 10)}
DROPOUT = {"lab 4": 0.4}
BATCHES = {"lab 2": (256, 512, 1024, 2048), "lab 4": (256, 512, 1024, 2048), "4096 wide": (256, 1024)}
STEPS = {"lab 2": (16, 30), "lab 4": (8, 30), "4096 wide": (2, 5)}  # of an epoch, and epochs
ALLREDUCE_RUNS = 5           # of which the least counts: on a busy machine all tries of one may be disturbed
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


def time_halves(name, batch):
    """The processor's seconds of a step on half the rows, as a rank of two takes it but for Allreduce, and as one call:
    the medians of alternating epochs."""
    import fastmlp
    from fastmlp.kernels import activations, cpu, losses
    images, labels, _, _ = fastmlp.datasets.mnist()
    sizes, rule, (steps, epochs), rows = NETS[name], fastmlp.RMSprop(), STEPS[name], batch // 2
    rng, hidden = np.random.default_rng(0), len(sizes) - 2
    parameters = rng.normal(0, 0.03, n_parameters(sizes)).astype(np.float32)
    halves, whole = (cpu.prepare(
        parameters, sizes, (activations.RELU,) * hidden + (activations.IDENTITY,), loss=losses.SOFTMAX_CROSS_ENTROPY,
        dropout=(DROPOUT.get(name, 0.0),) * hidden + (0.0,), rule=rule.rule, hyper=rule.hyper, l2=0.0, batch_size=rows,
        scale=1 / 255, seed=0, n_threads=1) for _ in range(2))
    data = images, labels.astype(np.int64), np.empty((0, 0), np.float32), np.empty(0, np.float32)
    ends = [process_time()]
    for _ in range(epochs + 1):
        order = rng.permutation(rows * steps)
        for part in order.reshape(steps, rows):
            cpu.batch_gradient(halves, *data, part, 0.5)
            cpu.apply_gradients(halves, 1e-4)
        ends.append(process_time())
        cpu.train_epoch(whole, *data, order, np.full(steps, 1e-4))
        ends.append(process_time())
    return np.median(np.diff(ends).reshape(-1, 2)[1:] / steps, axis=0).tolist()


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


WORK = {
    "train": lambda comm, name, batch: train_epochs(comm if comm.Get_size() > 1 else None, name, batch),
    "apart": lambda comm, name, batch: train_epochs(None, name, batch // comm.Get_size())[0],
    "halves": lambda comm, name, batch: time_halves(name, batch),
    "allreduce": lambda comm, *_: time_allreduce(comm),
}


def worker(what, name, batch):
    from mpi4py import MPI
    result = WORK[what](MPI.COMM_WORLD, name, int(batch))
    if MPI.COMM_WORLD.Get_rank() == 0:
        print("RESULT", json.dumps(result))


def launch(ranks, what, name="", batch=0):
    mpiexec = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
    run = subprocess.run([mpiexec, "-n", str(ranks), sys.executable, "-m", "bench.scale", "worker", what, name,
                          str(batch)], text=True, capture_output=True, check=True)
    return json.loads(run.stdout.split("RESULT ")[1])


def measure(repeats=3):
    from . import machine
    cases, repeats = [(name, batch) for name in NETS for batch in BATCHES[name]], int(repeats)
    runs = [{(name, batch): {"one": launch(1, "train", name, batch), "two": launch(2, "train", name, batch),
                             "apart": launch(2, "apart", name, batch), "halves": launch(1, "halves", name, batch)}
             for name, batch in cases} for _ in range(repeats)]
    steps = []
    for name, batch in cases:
        medians = {what: np.median([run[name, batch][what] for run in runs], axis=0).tolist()
                   for what in ("one", "two", "apart", "halves")}
        (one, _, one_work), (two, reduce, two_work) = medians["one"], medians["two"]
        steps.append({"net": name, "batch": batch, "one_s": one, "one_work_s": one_work, "two_s": two,
                      "two_work_s": two_work, "two_allreduce_s": reduce, "apart_s": medians["apart"],
                      **dict(zip(("halves_s", "whole_s"), medians["halves"], strict=True))})
    reduce = np.min([launch(2, "allreduce") for _ in range(ALLREDUCE_RUNS)], axis=0).tolist()
    result = {"machine": machine.describe(), "commit": machine.commit(), "steps": steps, "allreduce": reduce}
    (HERE / "scale.json").write_text(json.dumps(result, indent=1) + "\n")
    show_measured(result)


def show_measured(result):
    """The table of docs/scale.md, and weak scaling."""
    heads = ("net, batch", "1 rank, ms a step", "2 ranks, ms", "speed-up", "two apart", "in halves, ms",
             "Allreduce, ms", "on free cores")
    print("| " + " | ".join(heads) + " |\n|---|" + "---:|" * (len(heads) - 1))
    weak = {}
    for row in result["steps"]:
        reduce = float(np.interp(4 * n_parameters(NETS[row["net"]]), *np.array(result["allreduce"]).T))
        free = row["halves_s"] + reduce
        weak[row["net"], row["batch"]] = row["one_work_s"], free
        cells = (f"{row['net']}, {row['batch']}", f"{row['one_s'] * 1e3:.2f}", f"{row['two_s'] * 1e3:.2f}",
                 f"{row['one_s'] / row['two_s']:.2f}", f"{row['one_s'] / row['apart_s']:.2f}",
                 f"{row['halves_s'] * 1e3:.2f}", f"{reduce * 1e3:.2f} ({reduce / free:.0%})",
                 f"{row['one_work_s'] / free:.2f}")
        print("| " + " | ".join(cells) + " |")
    for net, batch in weak:
        if (net, 2 * batch) in weak:
            one, free = weak[net, batch][0], weak[net, 2 * batch][1]
            print(f"weak scaling, {net}: 1 rank at {batch} {one * 1e3:.2f} ms, 2 at {2 * batch} {free * 1e3:.2f} ms: "
                  f"{one / free:.0%}")


# ------------------------------------------------------------------------------- the model

def fit_rank(steps, net):
    """(seconds a step, rows a second) of one rank: a line through the processor's time of a step over the batch,
    relative errors."""
    rows = [row for row in steps if row["net"] == net]
    batch, seconds = (np.array([row[name] for row in rows], float) for name in ("batch", "one_work_s"))
    fixed, slope = np.linalg.lstsq(np.stack([np.ones(len(rows)), batch], 1) / seconds[:, None], np.ones(len(rows)),
                                   rcond=None)[0]
    return max(fixed, 0.0), 1 / slope


def fit_halves(steps, net):
    """Seconds a weight that the step in two halves costs beside its Allreduce."""
    extra = [row["halves_s"] - row["whole_s"] for row in steps if row["net"] == net]
    return max(0.0, median(extra)) / n_parameters(NETS[net])


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
    count = n_parameters(NETS[net])
    reduce = 0.0 if ranks == 1 else 2 * log2(ranks) * latency + 2 * (ranks - 1) / ranks * 4 * count / bandwidth
    return fixed + min(most, batch) / rate + (extra * count if ranks > 1 else 0.0) + reduce, reduce


NETWORKS = {"25 Gb/s Ethernet": (15e-6, 2.5e9), "200 Gb/s InfiniBand": (2e-6, 22e9)}
RANKS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
SHOWN = (8, 32, 128, 512, 1024)
COLUMNS = [(net, batch) for batch in (1024, 16384) for net in NETS]


def fit():
    result = json.loads((HERE / "scale.json").read_text())
    show_measured(result)
    local = fit_allreduce(result["allreduce"])
    print(f"\nAllreduce of 2 ranks in memory: latency {local[0] * 1e6:.1f} µs, {local[1] / 1e9:.1f} GB/s")
    fits = {}
    for net in NETS:
        rank = fit_rank(result["steps"], net)
        fits[net] = rank, fit_halves(result["steps"], net)
        errors = []
        for row in (row for row in result["steps"] if row["net"] == net):
            halves = rank[0] + row["batch"] / 2 / rank[1] + fits[net][1] * n_parameters(NETS[net])
            errors += [predict(net, row["batch"], 1, *fits[net], *local)[0] / row["one_work_s"] - 1,
                       halves / row["halves_s"] - 1]
        print(f"{net}: {rank[0] * 1e6:.0f} µs a step, "
              f"{6 * n_parameters(NETS[net]) * rank[1] / 1e9:.0f} GFLOP/s a rank, "
              f"{fits[net][1] * 1e9:.2f} ns a weight in two halves; model against measurement "
              f"{min(errors):+.0%} to {max(errors):+.0%}")
    for network, speed in NETWORKS.items():
        print(f"\n{network}: speed-up over one core (Allreduce's share of the step)\n| ranks | "
              + " | ".join(f"{net}, batch {batch:,}" for net, batch in COLUMNS) + " |\n|---:|" + "---:|" * len(COLUMNS))
        for ranks in SHOWN:
            cells = [predicted_gain(net, batch, ranks, fits, speed) for net, batch in COLUMNS]
            print(f"| {ranks:,} | " + " | ".join(cells) + " |")
        print("1,024 ranks with 1,024 rows each: " + ", ".join(
            f"{net} {1024 * predicted_weak(net, 1024, fits, speed):.0f}" for net in NETS))
    draw(result, fits)


def predicted_gain(net, batch, ranks, fits, speed):
    one, _ = predict(net, batch, 1, *fits[net], *speed)
    many, reduce = predict(net, batch, ranks, *fits[net], *speed)
    return f"{one / many:{'.0f' if one > 100 * many else '.1f'}} ({reduce / many:.0%})"


def predicted_weak(net, ranks, fits, speed):
    """The share of its speed alone that a rank with 1,024 rows of its own keeps."""
    one, _ = predict(net, 1024, 1, *fits[net], *speed)
    return one / predict(net, 1024 * ranks, ranks, *fits[net], *speed)[0]


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
