"""One row through a net, as a simulation or a service asks for it: from compiled code, from Python, and by the peers.

`MLP.as_njit` inside an `@njit` loop and called from Python; `model.predict_proba`; the reference; scikit-learn's
`predict_proba` and ONNX Runtime on one thread, given the same weights by our own converters.
"""
import tempfile
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import numpy as np

from .nets import SEED

NETS = {"784-10-10": (784, 10, 10), "4-32-16-4": (4, 32, 16, 4)}
NEEDS = {"ONNX Runtime": ("onnx", "onnxruntime"), "scikit-learn": ("sklearn",)}
NAMES = ("fastmlp in @njit", "fastmlp from Python", "fastmlp.predict_proba", "NumPy", *NEEDS)
ROUND_SECONDS = 2e-3
CALLS = 10_000


def flops(sizes):
    return sum(2.0 * n_in * n_out for n_in, n_out in pairwise(sizes))


class Row:
    """Opened in a worker: one row of one net by one performer, repeated."""

    def __init__(self, name, sizes):
        import fastmlp

        rng = np.random.default_rng(SEED)
        self.model = fastmlp.MLP.from_parameters(
            [(rng.standard_normal(shape) / shape[0] ** 0.5).astype(np.float32) for shape in pairwise(sizes)],
            [0.1 * rng.standard_normal(n).astype(np.float32) for n in sizes[1:]])
        self.row, self.out = rng.standard_normal(sizes[0]).astype(np.float32), np.empty(sizes[-1], np.float32)
        self.repeat, self.seconds = 1, None
        {"fastmlp in @njit": self.in_njit, "fastmlp from Python": self.from_python,
         "fastmlp.predict_proba": self.by_predict_proba, "NumPy": self.by_numpy,
         "scikit-learn": self.by_scikit_learn, "ONNX Runtime": self.by_onnx_runtime}[name]()

    def called(self, call):
        """Each repetition is a call from Python."""
        def seconds():
            start = perf_counter()
            for _ in range(self.repeat):
                out = call()
            elapsed = perf_counter() - start
            if out is not None:
                self.out[:] = out
            return elapsed
        self.seconds = seconds

    def in_njit(self):
        import numba

        net, row, out = self.model.as_njit(), self.row, self.out

        @numba.njit
        def loop(net, row, out, repeat):
            for _ in range(repeat):
                net(row, out)
                row[0] += np.float32(1e-20) * out[0]         # each call waits for the one before, as in a simulation

        def seconds():
            start = perf_counter()
            loop(net, row, out, self.repeat)
            return perf_counter() - start
        self.seconds = seconds

    def from_python(self):
        net = self.model.as_njit()
        self.called(lambda: net(self.row, self.out))

    def by_predict_proba(self):
        self.model.n_threads = 1
        self.called(lambda: self.model.predict_proba(self.row[None])[0])

    def by_numpy(self):
        w, b = self.model.weights, self.model.biases

        def call():
            h = self.row
            for l in range(len(w) - 1):
                h = np.maximum(h @ w[l] + b[l], 0)
            z = h @ w[-1] + b[-1]
            e = np.exp(z - z.max())
            return e / e.sum()
        self.called(call)

    def by_scikit_learn(self):
        estimator = self.model.to_sklearn()
        self.called(lambda: estimator.predict_proba(self.row[None])[0])

    def by_onnx_runtime(self):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "net.onnx"
            self.model.to_onnx(path)
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.called(lambda: session.run(None, {"X": self.row[None]})[0][0])

    def check(self):
        """Largest difference from the reference's probabilities; then finds out how often to repeat."""
        row = self.row.copy()
        self.seconds()
        reference = self.model
        reference.device = "reference"
        error = float(np.abs(self.out - reference.predict_proba(row[None])[0]).max())
        reference.device = "auto"
        while (seconds := self.seconds()) < ROUND_SECONDS and self.repeat < CALLS:
            self.repeat = max(self.repeat + 1, int(self.repeat * min(10, 1.2 * ROUND_SECONDS / seconds)))
        return error

    def round(self):
        """Seconds per row."""
        return self.seconds() / self.repeat
