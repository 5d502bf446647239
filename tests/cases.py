"""The one table of cases: op × shape × dtype × variant, with tolerances. Shapes and tolerances stand nowhere else.

A case builds the arguments of one call, in the order of the contract. The oracle is the reference run in
float64 on the same values, and error = ‖out - oracle‖ / ‖oracle‖. Small integers make every sum of a GEMM exact,
so those cases have tolerance 0 whatever the order of summation.
"""
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from fastmlp.kernels import activations as act
from fastmlp.kernels import losses, update_rules

DTYPES = (np.float32, np.float64)

# Tiles are 4 or 8 rows and one to four vectors of 2 to 16 columns: around each edge, nothing, one, odd, large.
EDGES = (0, 1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 37, 63, 64, 65, 100, 257)
BATCHES = (0, 1, 7, 8, 9, 33, 256)
GEMM_SHAPES = (  # (m, k, n)
    *((9, 37, n) for n in EDGES), *((8, k, 17) for k in EDGES), *((m, 33, 10) for m in BATCHES),
    (1, 1, 1), (1, 257, 1), (7, 1, 33), (256, 1, 1), (256, 784, 100),
)
ACTIVATION_SHAPES = ((33, 37, 17), (8, 16, 32), (1, 100, 257))
LOSS_SHAPES = ((0, 10), (1, 1), (1, 16), (7, 2), (7, 10), (8, 16), (9, 17), (33, 31), (33, 33), (37, 257), (256, 10))
ROW_SHAPES = ((0, 5), (1, 1), (7, 16), (8, 17), (9, 31), (33, 33), (256, 100), (37, 257))
UPDATE_SIZES = (0, 1, 7, 15, 16, 17, 31, 32, 33, 100, 257, 40_001)

NO_LABELS = np.empty(0, np.int64)
HYPER = {
    update_rules.SGD: (0.0, 0.0, 0.0, 0.0),
    update_rules.MOMENTUM: (0.9, 0.0, 0.0, 0.0),
    update_rules.NESTEROV: (0.9, 0.0, 0.0, 0.0),
    update_rules.RMSPROP: (0.9, 0.0, 1e-7, 0.0),
    update_rules.ADAM: (0.9, 0.999, 1e-7, 0.0),
    update_rules.ADAMW: (0.9, 0.999, 1e-7, 0.1),
    update_rules.ADAM_EPS: (0.9, 0.999, 1e-3, 0.0),
    update_rules.GRADIENT: (0.0, 0.0, 0.0, 0.0),
}


@dataclass(frozen=True)
class Case:
    op: str
    variant: str
    dtype: type
    tolerance: float
    build: Callable = field(repr=False)  # (rng, dtype) -> {argument name: value}
    outputs: tuple  # written and compared
    scratch: tuple = ()  # written, not compared

    def __str__(self):
        return f"{self.op}-{self.variant}-{np.dtype(self.dtype)}"

    @property
    def seed(self):
        return zlib.crc32(str(self).encode())

    def arguments(self):
        return self.build(np.random.default_rng(self.seed), self.dtype)


def rounding(dtype, terms=1):
    """Rounding errors of a sum of that many terms walk at random: √terms; the rest is for a few more operations."""
    return float(np.finfo(dtype).eps) * (6 + terms ** 0.5)


def error(out, oracle):
    """‖out - oracle‖ / ‖oracle‖; a NaN anywhere makes it NaN, which no tolerance accepts."""
    out, oracle = (np.asarray(a, np.float64).ravel() for a in (out, oracle))
    size = np.linalg.norm(oracle)
    return np.linalg.norm(out - oracle) / (size if size > 0 else 1)


def upcast(arguments):
    """The same values in float64; arguments that are one array stay one array."""
    copies = {id(a): a.astype(np.float64) if a.dtype.kind == "f" else a.copy()
              for a in arguments.values() if isinstance(a, np.ndarray)}
    return {name: copies.get(id(value), value) for name, value in arguments.items()}


def blank(shape, dtype):
    return np.full(shape, np.nan, dtype)


def integers(rng, shape, dtype):
    return rng.integers(-3, 4, shape).astype(dtype)


def normals(rng, shape, dtype):
    return rng.standard_normal(shape).astype(dtype)


def name_of(shape):
    return "x".join(map(str, shape))


# ------------------------------------------------------------------------------- dense

def dense_forward(shape, activation, data):
    m, k, n = shape

    def build(rng, dtype):
        x, w, b = (data(rng, s, dtype) for s in ((m, k), (k, n), (n,)))
        if data is normals:
            w /= max(k, 1) ** 0.5
        return {"x": x, "w": w, "b": b, "activation": activation, "y": blank((m, n), dtype)}
    return build


def dense_backward(shape, activation, data, in_place=False, first_layer=False):
    m, k, n = shape

    def build(rng, dtype):
        x, w, y, dy = (data(rng, s, dtype) for s in ((m, k), (k, n), (m, n), (m, n)))
        if activation == act.SIGMOID:
            y = 1 / (1 + np.exp(-y))
        elif activation == act.TANH:
            y = np.tanh(y)
        dz = dy if in_place else blank((m, n), dtype)
        dx = blank((0, 0) if first_layer else (m, k), dtype)
        return {"x": x, "w": w, "y": y, "dy": dy, "activation": activation,
                "dz": dz, "dx": dx, "dw": blank((k, n), dtype), "db": blank(n, dtype)}
    return build


def dense_cases():
    gradients = ("dz", "dx", "dw", "db")
    for dtype in DTYPES:
        for shape in GEMM_SHAPES:
            for code in (act.IDENTITY, act.RELU):
                variant = f"{name_of(shape)}-{act.NAMES[code]}-integers"
                yield Case("dense_forward", variant, dtype, 0, dense_forward(shape, code, integers), ("y",))
            yield Case("dense_backward", variant, dtype, 0, dense_backward(shape, act.RELU, integers), gradients)
        for shape in ACTIVATION_SHAPES:
            yield Case("dense_forward", f"{name_of(shape)}-sign-integers", dtype, 0,
                       dense_forward(shape, act.SIGN, integers), ("y",))
            tolerance = rounding(dtype, max(shape))
            for name in act.TRAINABLE:
                code, variant = act.NAMES.index(name), f"{name_of(shape)}-{name}"
                yield Case("dense_forward", variant, dtype, tolerance, dense_forward(shape, code, normals), ("y",))
                yield Case("dense_backward", variant, dtype, tolerance, dense_backward(shape, code, normals), gradients)
        for code in (act.IDENTITY, act.TANH):
            for options in ({"in_place": True}, {"first_layer": True}, {"in_place": True, "first_layer": True}):
                variant = "-".join(("33x37x17", act.NAMES[code], *options))
                yield Case("dense_backward", variant, dtype, rounding(dtype, 37),
                           dense_backward((33, 37, 17), code, normals, **options), gradients)


# ------------------------------------------------------------------------------- losses

def loss_arguments(op, shape, labelled, weighting, in_place, size):
    """weighting: 'none', 'random' (some of them zero) or 'zero'."""
    m, n = shape

    def build(rng, dtype):
        z = (size * rng.standard_normal(shape)).astype(dtype)
        weights = {"none": np.empty(0), "zero": np.zeros(m), "random": rng.integers(0, 4, m) * rng.random(m)}[weighting]
        labels, targets = NO_LABELS, np.empty((0, 0))
        if labelled:
            labels = rng.integers(0, n, m)
        elif op == "squared_error":
            targets = size * rng.standard_normal(shape)
        else:
            targets = rng.random(shape)
        first = {"z": z, "labels": labels} if op == "softmax_cross_entropy" else {"z": z}
        return {**first, "targets": targets.astype(dtype), "weights": weights.astype(dtype),
                "dz": z if in_place else blank(shape, dtype)}
    return build


def loss_cases():
    for op in ("softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error"):
        for dtype in DTYPES:
            for labelled in ((True, False) if op == "softmax_cross_entropy" else (False,)):
                variants = (
                    *((shape, weighting, False, 1.0) for shape in LOSS_SHAPES for weighting in ("none", "random")),
                    ((9, 17), "zero", False, 1.0), ((9, 17), "random", True, 1.0), ((33, 10), "none", True, 1.0),
                    ((33, 10), "random", False, 1e4),
                )
                for shape, weighting, in_place, size in variants:
                    words = (name_of(shape), "labels" if labelled else "targets", f"{weighting}_weights",
                             *(["in_place"] if in_place else []), *(["logits_1e4"] if size > 1 else []))
                    yield Case(op, "-".join(words), dtype, rounding(dtype, shape[1]),
                               loss_arguments(op, shape, labelled, weighting, in_place, size), ("dz",))


POINTWISE = {losses.HUBER: 0.7, losses.ABSOLUTE_ERROR: 0.0, losses.POISSON: 0.0, losses.QUANTILE: 0.9}


def pointwise_arguments(code, shape, weighting, in_place):
    first = loss_arguments("squared_error", shape, False, weighting, in_place, 1.0)

    def build(rng, dtype):
        arguments = first(rng, dtype)
        if code == losses.POISSON:
            arguments["targets"] = rng.poisson(1.0, shape).astype(dtype)
        return {"loss": code, "parameter": POINTWISE[code], **arguments}
    return build


def pointwise_cases():
    for code in POINTWISE:
        for dtype in DTYPES:
            variants = (*((shape, weighting, False) for shape in LOSS_SHAPES for weighting in ("none", "random")),
                        ((9, 17), "zero", False), ((9, 17), "random", True))
            for shape, weighting, in_place in variants:
                words = (losses.NAMES[code], name_of(shape), f"{weighting}_weights", "in_place" if in_place else "out")
                yield Case("pointwise_loss", "-".join(words), dtype, rounding(dtype, shape[1]),
                           pointwise_arguments(code, shape, weighting, in_place), ("dz",))


# ------------------------------------------------------------------------------- perceptron

def perceptron_epoch(shape, units, penalty, weighted):
    """Small integers keep every score exact, so that both meet the same mistakes; penalties are powers of two."""
    m, k = shape

    def build(rng, dtype):
        x, theta, bias = (integers(rng, s, dtype) for s in ((m, k), (units, k), (units,)))
        return {"x": x, "rows": rng.permutation(m)[: m - m // 4], "labels": rng.integers(0, max(units, 2), m) % 4,
                "weights": rng.integers(0, 3, m).astype(dtype) if weighted else np.empty(0, dtype),
                "positive": 1.0 + rng.integers(0, 2, units), "negative": 1.0 + rng.integers(0, 2, units),
                "l2": 2.0 ** -4 if penalty == "l2" else 0.0, "l1": 2.0 ** -4 if penalty == "l1" else 0.0,
                "intercept": 0.5, "steps": 3, "active": np.arange(units) != 1, "theta": theta, "bias": bias,
                "shrunk": np.zeros((units, k) if penalty == "l1" else (0, 0), dtype), "totals": np.zeros((units, 3))}
    return build


def shuffle(m, seed):
    def build(rng, dtype):
        return {"rows": np.arange(m), "seed": seed}
    return build


def perceptron_epoch_cases():
    for m, seed in ((0, 1), (1, 2), (1000, 0), (1000, 0x7FFFFFFF), (1000, 0xFFFFFFFF)):
        yield Case("shuffle", f"{m}-seed_{seed}", np.float64, 0, shuffle(m, seed), ("rows",))
    for shape in ROW_SHAPES:
        for penalty in ("none", "l1", "l2"):
            for units, weighted in ((1, False), (4, True)):
                # With l2 the weights soon need more digits than float32 has: a row at the edge may tip over.
                for dtype in DTYPES if penalty != "l2" else (np.float64,):
                    if penalty == "l2" and shape[0] > 8:
                        continue
                    variant = f"{name_of(shape)}-{units}_units-{penalty}-{'weights' if weighted else 'no_weights'}"
                    yield Case("perceptron_epoch", variant, dtype, rounding(dtype, shape[1]),
                               perceptron_epoch(shape, units, penalty, weighted),
                               ("theta", "bias", "shrunk", "totals"))


def perceptron(shape, batch):
    m, k = shape

    def build(rng, dtype):
        x, theta, bias = (integers(rng, s, dtype) for s in ((m, k), (k,), (1,)))
        y = rng.choice([-1, 1], m).astype(dtype)
        return {"x": x, "y": y, "theta": theta, "bias": bias, **({"delta": blank(k + 1, dtype)} if batch else {})}
    return build


def perceptron_cases():
    for shape in ROW_SHAPES:
        for dtype in DTYPES:
            yield Case("perceptron_online", name_of(shape), dtype, 0, perceptron(shape, False), ("theta", "bias"))
            yield Case("perceptron_batch", name_of(shape), dtype, rounding(dtype), perceptron(shape, True),
                       ("theta", "bias"), ("delta",))


# ------------------------------------------------------------------------------- optimizers

def update(size, rule, step):
    def build(rng, dtype):
        # A large rate and small weights and slots: an error in any constant shows in every array. The signs
        # make w grow, for a step back could cancel it and leave one element with rounding errors alone.
        g = normals(rng, size, dtype)
        w = -0.1 * np.sign(g) * rng.random(size).astype(dtype)
        slots = [1e-3 * rng.random(size if slot < update_rules.SLOTS[rule] else 0) * (step > 1) for slot in (0, 1)]
        return {"rule": rule, "hyper": np.array(HYPER[rule]), "learning_rate": 0.1, "step": step,
                "w": w, "g": g, "s1": slots[0].astype(dtype), "s2": slots[1].astype(dtype)}
    return build


def update_cases():
    for rule, name in enumerate(update_rules.NAMES):
        for dtype in DTYPES:
            for size, step in [(size, 3) for size in UPDATE_SIZES] + [(100, 1), (100, 100_000)]:
                yield Case("update", f"{name}-{size}-step_{step}", dtype, rounding(dtype), update(size, rule, step),
                           ("w", "s1", "s2"))


# ------------------------------------------------------------------------------- rows: dropout, gather

def dropout(shape, rate, seed):
    def build(rng, dtype):
        return {"x": normals(rng, shape, dtype), "rate": rate, "seed": seed, "step": 7, "layer": 1,
                "y": blank(shape, dtype)}
    return build


def gather(shape, kind, scale):
    m, k = shape

    def build(rng, dtype):
        x = rng.integers(0, 256, (50, k)).astype(kind or dtype)
        return {"x": x, "rows": rng.integers(0, 50, m), "scale": scale, "out": blank(shape, dtype)}
    return build


def row_cases():
    for shape in ROW_SHAPES:
        for dtype in DTYPES:
            for rate, seed in ((0.4, 1), (0.5, 0x1E3779B97F4A7C15), (0.0, 3)):
                yield Case("dropout", f"{name_of(shape)}-rate_{rate}", dtype, rounding(dtype),
                           dropout(shape, rate, seed), ("y",))
            for kind, scale in ((np.uint8, 1 / 255), (None, 1.0), (None, 0.3)):
                variant = f"{name_of(shape)}-{'uint8' if kind else 'floats'}-scale_{scale:.2g}"
                yield Case("gather", variant, dtype, rounding(dtype), gather(shape, kind, scale), ("out",))


# ------------------------------------------------------------------------------- whole nets

def random_parameters(rng, sizes, dtype):
    """Weights of variance 1 / fan_in and small biases, in the flat layout."""
    parts = []
    for fan_in, fan_out in pairwise(sizes):
        parts += [rng.standard_normal(fan_in * fan_out) / fan_in ** 0.5, 0.1 * rng.standard_normal(fan_out)]
    return np.concatenate(parts).astype(dtype)


def forward(m, sizes, activations, images, n_threads):
    def build(rng, dtype):
        x = rng.integers(0, 256, (m, sizes[0])).astype(np.uint8) if images else normals(rng, (m, sizes[0]), dtype)
        return {"parameters": random_parameters(rng, sizes, dtype), "sizes": sizes, "activations": activations, "x": x,
                "scale": 1 / 255 if images else 1.0, "n_threads": n_threads, "out": blank((m, sizes[-1]), dtype)}
    return build


def forward_cases():
    nets = (
        ((37, 10), (act.SOFTMAX,)), ((100, 33, 1), (act.RELU, act.SIGMOID)), ((1, 7, 2), (act.TANH, act.IDENTITY)),
        ((16, 65, 31, 40), (act.GELU, act.SILU, act.SOFTMAX)), ((784, 100, 10), (act.LEAKY_RELU, act.SOFTMAX)),
    )
    inputs = ((0, False, None), (1, False, None), (9, True, 1), (1500, True, None), (257, False, 2))
    for sizes, activations in nets:
        for m, images, n_threads in inputs:
            words = (name_of(sizes), act.NAMES[activations[-1]], f"{m}_rows", "uint8" if images else "floats")
            for dtype in DTYPES:
                yield Case("forward", "-".join(words), dtype, len(activations) * rounding(dtype, max(sizes)),
                           forward(m, sizes, activations, images, n_threads), ("out",))


CASES = (*dense_cases(), *loss_cases(), *pointwise_cases(), *perceptron_cases(), *perceptron_epoch_cases(),
         *update_cases(), *row_cases(), *forward_cases())


# ------------------------------------------------------------------------------- training runs

@dataclass(frozen=True)
class Run:
    """A few epochs of training on random rows; rows % batch_size is never 0, so the last batch is short."""
    name: str
    sizes: tuple
    activations: tuple
    loss: int
    rule: int
    rows: int = 205
    batch_size: int = 32
    epochs: int = 2
    dropout: tuple = ()
    l2: float = 0.0
    weighted: bool = False
    soft_targets: bool = False
    inputs: str = "normal"  # or 'uint8', or 'sparse': 80 % zeros and some columns and rows wholly zero
    learning_rate: float = 0.01
    alpha: float = 0.0

    def __str__(self):
        return self.name

    def data(self, dtype):
        """x, scale, labels, targets, weights; the same values in either dtype."""
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        n, shape = self.rows, (self.rows, self.sizes[0])
        scale, x = 1.0, rng.standard_normal(shape).astype(np.float32)
        if self.inputs == "uint8":
            scale, x = 1 / 255, (rng.integers(0, 256, shape) * (rng.random(shape) < 0.3)).astype(np.uint8)
        elif self.inputs == "sparse":
            x *= rng.random(shape) < 0.2
            x[:, ::3] = 0
            x[::7] = 0
        labels, targets, weights = NO_LABELS, np.empty((0, 0)), np.empty(0)
        if self.loss == losses.SOFTMAX_CROSS_ENTROPY and not self.soft_targets:
            labels = rng.integers(0, self.sizes[-1], n)
        elif self.loss == losses.SOFTMAX_CROSS_ENTROPY:
            targets = rng.dirichlet(np.ones(self.sizes[-1]), n).astype(np.float32)
        elif self.loss == losses.SIGMOID_CROSS_ENTROPY:
            targets = rng.integers(0, 2, (n, self.sizes[-1])).astype(np.float32)
        else:
            targets = rng.random((n, self.sizes[-1])).astype(np.float32)
        if self.weighted:
            weights = rng.integers(0, 4, n) * 0.5
        x = x if self.inputs == "uint8" else x.astype(dtype)
        return x, scale, labels, targets.astype(dtype), weights.astype(dtype)

    def parameters(self, dtype):
        return random_parameters(np.random.default_rng(1), self.sizes, np.float32).astype(dtype)

    def prepare(self, package, dtype, n_threads=None, parameters=None):
        scale = self.data(dtype)[1]
        return package.prepare(
            self.parameters(dtype) if parameters is None else parameters, self.sizes, self.activations,
            dropout=self.dropout or (0.0,) * len(self.activations), loss=self.loss, rule=self.rule,
            hyper=np.array(HYPER[self.rule]), l2=self.l2, batch_size=self.batch_size, scale=scale,
            seed=0x123456789ABCDEF, n_threads=n_threads, alpha=self.alpha,
            loss_parameter=POINTWISE.get(self.loss, 0.0))

    def train(self, package, state, dtype, epochs=None, first_epoch=0):
        """Totals of every epoch; the rows are visited in an order of the epoch's own, at a falling learning rate."""
        x, _, labels, targets, weights = self.data(dtype)
        steps = -(-self.rows // self.batch_size)
        totals = []
        for epoch in range(first_epoch, first_epoch + (epochs or self.epochs)):
            order = np.random.default_rng(epoch).permutation(self.rows)
            rates = self.learning_rate * np.linspace(1, 0.5, steps) / (1 + epoch)
            totals.append(package.train_epoch(state, x, labels, targets, weights, order, rates))
        return np.array(totals)


def all_runs():
    ce, bce, mse = losses.SOFTMAX_CROSS_ENTROPY, losses.SIGMOID_CROSS_ENTROPY, losses.SQUARED_ERROR
    adam, sgd = update_rules.ADAM, update_rules.SGD
    for rule, name in enumerate(update_rules.NAMES):
        yield Run(f"rule_{name}", (20, 17, 5), (act.TANH, act.IDENTITY), ce, rule, l2=1e-3)
    for name in act.TRAINABLE:
        code = act.NAMES.index(name)
        yield Run(f"hidden_{name}", (12, 9, 33, 3), (code, code, act.IDENTITY), ce, sgd, learning_rate=0.1)
        yield Run(f"output_{name}", (12, 16, 3), (act.TANH, code), mse, sgd, learning_rate=0.1)
    yield Run("softmax_no_hidden", (37, 10), (act.IDENTITY,), ce, adam)
    yield Run("softmax_targets_weights", (20, 16, 4), (act.RELU, act.IDENTITY), ce, adam, soft_targets=True,
              weighted=True)
    yield Run("softmax_40_classes", (20, 31, 40), (act.RELU, act.IDENTITY), ce, adam, weighted=True)
    yield Run("sigmoid_one", (20, 8, 1), (act.RELU, act.IDENTITY), bce, adam)
    yield Run("sigmoid_many_weights", (20, 8, 33), (act.RELU, act.IDENTITY), bce, adam, weighted=True, l2=1e-2)
    yield Run("squared_error_wide", (5, 100, 70), (act.TANH, act.IDENTITY), mse, adam, weighted=True)
    for code in POINTWISE:
        yield Run(losses.NAMES[code], (12, 9, 3), (act.TANH, act.IDENTITY), code, adam, weighted=True)
    yield Run("alpha", (20, 16, 4), (act.RELU, act.IDENTITY), ce, sgd, alpha=1.0, weighted=True, learning_rate=0.1)
    yield Run("dropout", (20, 33, 18, 5), (act.TANH, act.GELU, act.IDENTITY), ce, adam, dropout=(0.4, 0.25, 0.0))
    yield Run("images_dropout", (100, 32, 10), (act.RELU, act.IDENTITY), ce, update_rules.RMSPROP, inputs="uint8",
              dropout=(0.5, 0.0), learning_rate=1e-3)
    yield Run("images_wide", (784, 128, 64, 10), (act.RELU, act.RELU, act.IDENTITY), ce, update_rules.RMSPROP,
              inputs="uint8", rows=1000, batch_size=256, learning_rate=1e-3)
    yield Run("sparse", (90, 40, 4), (act.TANH, act.IDENTITY), ce, sgd, inputs="sparse", learning_rate=0.1)
    # Large enough for rows to be arranged; an odd number of quads of in-features, the last one not whole.
    yield Run("sparse_arranged", (99, 520, 4), (act.TANH, act.IDENTITY), ce, adam, inputs="sparse", weighted=True,
              l2=1e-3)
    yield Run("images_l2", (300, 64, 10), (act.RELU, act.IDENTITY), ce, update_rules.RMSPROP, inputs="uint8",
              l2=1e-3, rows=515, batch_size=128, learning_rate=1e-3)
    yield Run("batch_of_one", (7, 5, 2), (act.RELU, act.IDENTITY), ce, sgd, rows=33, batch_size=1)
    yield Run("narrow_long_batch", (13, 20, 7, 3), (act.SIGMOID, act.RELU, act.IDENTITY), ce, adam, rows=1500,
              batch_size=1100, weighted=True)
    yield Run("one_batch_longer_than_the_data", (7, 5, 2), (act.RELU, act.IDENTITY), ce, adam, rows=33, batch_size=64)


RUNS = {run.name: run for run in all_runs()}
# Operands rounded to 10 and 7 bits of mantissa: a product's error (half a unit in the last place and less), a run's.
PRECISION_TOLERANCE = {"tf32": 5e-4, "bf16": 4e-3}
PRECISION_RUN_TOLERANCE = {"tf32": 2e-3, "bf16": 2e-2}
# Relative to how far the parameters moved. Rounding grows along a run: each step starts from the last one's errors.
RUN_TOLERANCE = {np.float32: 5e-5, np.float64: 1e-13}
