"""What test_mpi.py has every rank run: python mpi_worker.py FOLDER WHAT. Results go to FOLDER/rank.pickle."""
import os
import pickle
import signal
import sys
from pathlib import Path

import numpy as np

import fastmlp
from fastmlp.kernels import reference


def share(arrays, rank, size):
    """The rows of one rank: unequal shares, one after the other."""
    n = len(arrays[0])
    bounds = (n * np.arange(size + 1) ** 2 // size ** 2).tolist()
    return [array[bounds[rank]:bounds[rank + 1]] for array in arrays]


def images(seed=0, n=300):
    rng = np.random.default_rng(seed)
    y = np.sort(np.arange(n) % 3)  # in order: no rank has all classes
    X = (rng.random((n, 20)) * 60 + y[:, None] * 60 * (np.arange(20) % 3 == y[:, None])).astype(np.uint8)
    return X, np.array(["ant", "bee", "cicada"])[y]


def numbers(seed=0, n=300):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5)).astype(np.float32)
    return X, np.stack([X[:, 0] * X[:, 1], X[:, 2]], axis=1), rng.random(n) + 0.1


def one_hot_here_and_there():
    """Columns of 0 and 1 that are one-hot in the first half of the rows only."""
    X, _, _ = numbers()
    y = np.eye(3, dtype=int)[np.arange(300) % 3]
    y[200::7, 0] = 1
    return X, y


# Name: (arrays that are shared out, options). Everything a rank must agree on with the others.
CASES = {
    "labels": (images(), {"class_weight": "balanced", "validation_fraction": 0.2, "early_stopping": 2, "epochs": 6,
                          "learning_rate": 0.01}),
    "numbers": (numbers(), {"l2": 1e-3, "schedule": "cosine", "optimizer": "momentum", "activation": "gelu"}),
    "multilabel": (one_hot_here_and_there(), {"optimizer": "rmsprop", "batch_size": 300}),
    "scaled": (numbers(), {"scaling": "robust", "loss": "huber", "validation_fraction": 0.2}),
    "tabular": (images(), {"preset": "tabular", "validation_fraction": 0.2, "epochs": 5}),
    "two labels": ((images()[0], np.arange(300) > 120), {"dtype": "float64", "batch_size": 7}),
}
COMMON = {"hidden": (9, 8), "epochs": 3, "batch_size": 32, "seed": 4, "n_threads": 1}


def train(name, device, rank, size, comm, **more):
    arrays, options = CASES[name]
    X, y, *weights = share(arrays, rank, size)
    if name == "numbers":
        more["validation_data"] = share(numbers(1), rank, size)
    return fastmlp.train(X, y, sample_weight=weights[0] if weights else None, comm=comm, device=device,
                         **COMMON | options | more)


def outcome(model):
    return {"parameters": model.parameters, "history": {k: v for k, v in model.history.to_dict().items()
            if k != "seconds"}, "classes": model.classes, "scale": model.scale, "loss": model.loss,
            "best": model.history.best_epoch, "seed": model.seed}


def equal_results(comm):
    """Every case, twice on the compiled kernels; what dropout and continued training do; a seed that nobody gave."""
    rank, size = comm.Get_rank(), comm.Get_size()
    results = {(name, device): outcome(train(name, device, rank, size, comm))
               for name in CASES for device in ("reference", "cpu")}
    results["again"] = outcome(train("labels", "cpu", rank, size, comm))
    results["dropout"] = outcome(train("labels", "cpu", rank, size, comm, dropout=0.3, epochs=8))
    results["seedless"] = outcome(train("labels", "reference", rank, size, comm, seed=None))
    model = train("labels", "reference", rank, size, comm)
    X, y = share(CASES["labels"][0], rank, size)
    results["further"] = outcome(fastmlp.train(X, y, model=model, comm=comm, device="reference", epochs=2, seed=1))
    results["stopped"] = outcome(train("numbers", "reference", rank, size, comm,
                                       callbacks=[lambda model, numbers: rank == 1 and numbers["epoch"] == 2]))
    return results


def windows(comm):
    """Training in windows: the rows that each step visits, by their first column, and what comes of it."""
    rank, size = comm.Get_rank(), comm.Get_size()
    X, _, weights = numbers(n=301)
    X[:, 0] = np.arange(301)
    X, y, weights = share((X, X[:, 1], weights), rank, size)
    visited, original = [], reference.batch_gradient

    def recording(state, x, labels, targets, weights, rows, share):
        visited.append(x[rows, 0].astype(int))
        return original(state, x, labels, targets, weights, rows, share)
    reference.batch_gradient = recording
    options = COMMON | {"epochs": 6, "learning_rate": 0.01, "window_rows": 40, "comm": comm}
    results = {}
    for device in ("reference", "cpu"):
        for name in ("", " again"):
            results[device + name] = outcome(fastmlp.train(X, y, sample_weight=weights, device=device, **options))
    results["validated"] = outcome(fastmlp.train(X, y, validation_fraction=0.3, early_stopping=2, **options))
    return results, visited[:6 * 10], X[:, 0].astype(int)


def checkpoints(comm, folder):
    """A run broken off and taken up again, in memory and in windows; what others than these may not take up."""
    rank, size = comm.Get_rank(), comm.Get_size()
    results = {}

    def power_cut(model, numbers):
        if numbers["epoch"] == 3:
            raise KeyError("power cut")
    for name, more in (("memory", {}), ("windows", {"window_rows": 50})):
        options = {"dropout": 0.2, "early_stopping": 3, "epochs": 5, "seed": None, **more}
        path = f"{folder}/{name}"
        try:
            train("labels", "cpu", rank, size, comm, **options, checkpoint=path, callbacks=[power_cut])
        except KeyError:
            ends = [train("labels", "cpu", rank, size, comm, **options, checkpoint=path) for _ in range(2)]
            results[name] = [outcome(model) for model in ends]
            results[f"{name}, unbroken"] = outcome(train("labels", "cpu", rank, size, comm,
                                                         **options | {"seed": ends[0].seed}))
    X, y = images()
    own = slice(rank * 300 // size, (rank + 1) * 300 // size)
    try:
        fastmlp.train(X[own], y[own], comm=comm, checkpoint=f"{folder}/memory", device="cpu", **COMMON)
    except ValueError as error:
        results["other shares"] = str(error)
    return results


def errors(comm):
    """What every rank says when one of them cannot go on, or wants something else."""
    rank, size = comm.Get_rank(), comm.Get_size()
    X, y = share(images(), rank, size)
    holes = X.astype(float)
    holes[5, 3] = np.nan
    bad = rank == 1
    attempts = {
        "a hole": ((holes if bad else X.astype(float), y), {}),
        "one more column": ((np.hstack([X, X[:, :1]]) if bad else X, y), {}),
        "numbers among labels": ((X, np.arange(len(y)) if bad else y), {}),
        "no such option": ((X, y), {"activation": "rely" if bad else "relu"}),
        "another option": ((X, y), {"batch_size": 8 if bad else 16}),
        "another seed": ((X, y), {"seed": rank}),
        "no validation": ((X, y), {} if bad else {"validation_data": (X, y)}),
        "floats": ((X.astype(float) if bad else X, y), {}),
        "one checkpoint": ((X, y), {} if bad else {"checkpoint": "run"}),
        "scaled windows": ((X, y), {"window_rows": 10, "scaling": "robust"}),
        "divergence": ((X * 1e3, y), {"learning_rate": 1e35, "optimizer": "sgd"}),
    }
    said = {}
    for name, (data, options) in attempts.items():
        try:
            fastmlp.train(*data, **{**COMMON, "device": "reference", "comm": comm, **options})
        except (ValueError, fastmlp.DivergedError) as error:
            said[name] = f"{type(error).__name__}: {error}"
    return said


def disaster(comm, happens, **options):
    """Trains until `happens` to rank 1 in the second epoch."""
    rank, size = comm.Get_rank(), comm.Get_size()

    def callback(model, numbers):
        if rank == 1 and numbers["epoch"] == 2:
            happens()
    train("labels", "reference", rank, size, comm, **{"epochs": 10**6, "early_stopping": None, **options},
          callbacks=[callback])


def resumed(comm, folder):
    """What `disaster` left, taken up; and the same run unbroken."""
    rank, size = comm.Get_rank(), comm.Get_size()
    return [outcome(train("labels", "reference", rank, size, comm, epochs=4, early_stopping=None, **more))
            for more in ({"checkpoint": f"{folder}/run"}, {})]


def main(folder, what):
    from mpi4py import MPI
    comm = MPI.COMM_WORLD
    if what == "raises":
        disaster(comm, lambda: {}["nothing here"])
    elif what == "dies":
        disaster(comm, lambda: os.kill(os.getpid(), signal.SIGKILL))
    elif what == "dies and leaves":
        disaster(comm, lambda: os.kill(os.getpid(), signal.SIGKILL), epochs=4, checkpoint=f"{folder}/run")
    else:
        work = {"equal": equal_results, "errors": errors, "windows": windows,
                "checkpoints": lambda comm: checkpoints(comm, folder),
                "resumes": lambda comm: resumed(comm, folder)}[what]
        results = work(comm)
        Path(folder, f"{comm.Get_rank()}.pickle").write_bytes(pickle.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
