"""What the stages of `gpu` share: a row as soon as it is measured, and a net in training on the GPU."""
import json
import sys
from time import perf_counter

import numpy as np

from .nets import SEED, mnist
from .run import rounded

ROUNDS = 5
NONE = np.empty((0, 0), np.float32), np.empty(0, np.float32)      # no soft targets, no sample weights


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

    def __init__(self, precision, choose_plan=None):
        from fastmlp.kernels.cuda import narrow
        from fastmlp.kernels.cuda.machine import gpu
        from fastmlp.kernels.cuda.training import Training

        self.kernels = Training(gpu(0), choose_plan=choose_plan or narrow.choose)
        self.precision = precision

    def prepare(self, *arguments, **options):
        return self.kernels.prepare(*arguments, **options, precision=self.precision)


class Trained:
    """A net in training on the GPU."""

    def __init__(self, net, precision, choose_plan=None):
        package = Precise(precision, choose_plan)
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


def seconds_of(function, rounds=ROUNDS):
    """Seconds of each call, after one to warm up; the calls wait for the GPU themselves."""
    function()
    times = []
    for _ in range(rounds):
        start = perf_counter()
        function()
        times.append(perf_counter() - start)
    return times
