"""Single kernels: the table of operations and shapes, and who performs them.

Arguments are built by the cases of the tests, and the oracle is theirs: the reference in float64. Every performer
is `performer(operation, arguments)` -> (call, outputs): `call()` does the work once and returns when it is done,
`outputs()` gives the results by name.
"""
import importlib.util
import sys
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter

import numpy as np

from fastmlp.kernels import activations as act
from fastmlp.kernels import reference, update_rules

from .machine import ROOT
from .nets import SEED

LAB_2 = (784, 500, 10)
ROUND_SECONDS = 2e-3                 # calls are repeated until a round takes this long


def _load_cases():
    """tests/cases.py by its path: `tests` may be somebody else's package."""
    spec = importlib.util.spec_from_file_location("fastmlp_test_cases", ROOT / "tests" / "cases.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cases = _load_cases()


@dataclass(frozen=True)
class Operation:
    """One row: an op of the contract at a shape. `variant` is an activation or an optimizer's rule."""

    op: str
    shape: tuple
    variant: str = ""
    dtype: str = "float32"

    def __str__(self):
        words = [self.op, "x".join(map(str, self.shape)), self.variant, self.dtype if self.dtype != "float32" else ""]
        return "-".join(word for word in words if word)

    @property
    def group(self):
        return f"{self.op} {self.variant}".strip() + f" | {'x'.join(map(str, self.shape))} {self.dtype}"

    def builder(self):
        shape = self.shape
        return {
            "dense_forward": lambda: cases.dense_forward(shape, act.RELU, cases.normals),
            "dense_backward": lambda: cases.dense_backward(shape, act.RELU, cases.normals),
            "softmax_cross_entropy": lambda: cases.loss_arguments("softmax_cross_entropy", shape, True, "none", False,
                                                                  1.0),
            "update": lambda: cases.update(shape[0], update_rules.NAMES.index(self.variant), 3),
            "dropout": lambda: cases.dropout(shape, 0.4, SEED),
            "perceptron_online": lambda: cases.perceptron(shape, False),
            "perceptron_batch": lambda: cases.perceptron(shape, True),
            "forward": lambda: cases.forward(shape[0], LAB_2, (act.RELU, act.SOFTMAX), False, None),
        }[self.op]()

    def arguments(self):
        return self.builder()(np.random.default_rng(SEED), np.dtype(self.dtype))

    @property
    def outputs(self):
        return {"dense_forward": ("y",), "dense_backward": ("dz", "dx", "dw", "db"), "softmax_cross_entropy": ("dz",),
                "update": ("w",), "dropout": ("y",), "perceptron_online": ("theta", "bias"),
                "perceptron_batch": ("theta", "bias"), "forward": ("out",)}[self.op]

    @property
    def flops(self):
        """Multiplications and additions, where they are what takes the time; else 0 and `bytes` counts."""
        size = float(np.prod(self.shape))
        net = sum(2 * self.shape[0] * n_in * n_out for n_in, n_out in pairwise(LAB_2))
        return {"dense_forward": 2 * size, "dense_backward": 4 * size, "forward": net}.get(self.op, 0)

    @property
    def bytes(self):
        """What must be read and written at least."""
        size, item = float(np.prod(self.shape)), np.dtype(self.dtype).itemsize
        slots = update_rules.SLOTS[update_rules.NAMES.index(self.variant)] if self.op == "update" else 0
        if self.op.startswith("dense"):
            m, k, n = self.shape
            return item * ((m * k + k * n + m * n) if self.op == "dense_forward" else 2 * m * k + 2 * k * n + 3 * m * n)
        if self.op == "forward":
            return item * sum(n_in * n_out for n_in, n_out in pairwise(LAB_2)) + item * self.shape[0] * LAB_2[0]
        return item * size * {"update": 3 + 2 * slots, "perceptron_online": 1, "perceptron_batch": 1}.get(self.op, 2)


def gemm_table(op, shapes, doubles):
    return [*(Operation(op, shape) for shape in shapes), *(Operation(op, shape, dtype="float64") for shape in doubles)]


# Layers of the labs, powers of two, awkward ones.
LAYERS = ((256, 784, 500), (256, 500, 300), (256, 784, 10))
SQUARES = ((128, 128, 128), (512, 512, 512))
AWKWARD = ((1, 784, 500), (7, 257, 100), (257, 100, 37), (1000, 37, 100))
OPERATIONS = (
    *gemm_table("dense_forward", (*LAYERS, *SQUARES, (1024, 1024, 1024), *AWKWARD), (LAYERS[0], AWKWARD[2])),
    *gemm_table("dense_backward", (*LAYERS, *SQUARES, *AWKWARD[1:]), LAYERS[:1]),
    *gemm_table("softmax_cross_entropy", ((256, 10), (1000, 257), (7, 37)), [(256, 10)]),
    *(Operation("update", (size,), rule) for rule, size in (("rmsprop", 397_510), ("adam", 397_510), ("adam", 7_960))),
    Operation("update", (397_510,), "adam", "float64"),
    *gemm_table("dropout", ((256, 500), (1000, 257)), []),
    *gemm_table("perceptron_online", ((2000, 100), (1000, 784)), []),
    *gemm_table("perceptron_batch", ((2000, 100), (1000, 784)), []),
    *gemm_table("forward", ((1,), (32,), (1024,)), []),
)
THREADED = ("forward",)              # ops of ours that use more than one thread


# ------------------------------------------------------------------------------- performers

def by_package(package):
    def perform(operation, arguments):
        function = getattr(importlib.import_module(f"fastmlp.kernels.{package}"), operation.op)
        values = tuple(arguments.values())
        return lambda: function(*values), lambda: {name: arguments[name] for name in operation.outputs}
    return perform


def by_torch(operation, arguments):
    import torch
    from torch import nn
    from torch.nn import functional as F

    given = {name: torch.from_numpy(a) for name, a in arguments.items() if isinstance(a, np.ndarray)}
    result = {}

    def dense_forward():
        with torch.inference_mode():
            result["y"] = torch.relu(torch.addmm(given["b"], given["x"], given["w"]))

    def dense_backward():
        with torch.inference_mode():
            dz = torch.ops.aten.threshold_backward(given["dy"], given["y"], 0)
            result.update(dz=dz, dx=dz @ given["w"].T, dw=given["x"].T @ dz, db=dz.sum(0))

    def softmax_cross_entropy():
        z = given["z"].detach().requires_grad_()
        F.cross_entropy(z, given["labels"]).backward()
        result["dz"] = z.grad

    def dropout():
        with torch.inference_mode():
            result["y"] = F.dropout(given["x"], arguments["rate"])

    calls = {"dense_forward": dense_forward, "dense_backward": dense_backward,
             "softmax_cross_entropy": softmax_cross_entropy,
             "dropout": dropout}
    if operation.op == "update":
        w = nn.Parameter(given["w"])
        w.grad, rate, (first, second, epsilon, _) = given["g"], arguments["learning_rate"], arguments["hyper"]
        if operation.variant == "adam":
            optimizer = torch.optim.Adam([w], rate, (first, second), epsilon, fused=True)
            slots = "exp_avg", "exp_avg_sq"
        else:
            optimizer, slots = torch.optim.RMSprop([w], rate, first, epsilon), ("square_avg",)
        optimizer.state[w] = {"step": torch.tensor(arguments["step"] - 1.0),
                              **{name: given[f"s{i}"] for i, name in enumerate(slots, 1)}}
        result["w"] = w.detach()
        calls["update"] = optimizer.step
    if operation.op == "forward":
        (w1, b1), (w2, b2) = reference.layout.layer_views(arguments["parameters"], LAB_2)
        model = nn.Sequential(nn.Linear(784, 500), nn.ReLU(), nn.Linear(500, 10), nn.Softmax(1)).eval()
        for layer, w, b in ((model[0], w1, b1), (model[2], w2, b2)):
            layer.weight.data, layer.bias.data = torch.tensor(w.T).contiguous(), torch.tensor(b)

        def forward():
            with torch.inference_mode():
                result["out"] = model(given["x"])
        calls["forward"] = forward
    return calls[operation.op], lambda: {name: value.numpy() for name, value in result.items()}


def by_jax(operation, arguments):
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", operation.dtype == "float64")
    given = {name: jnp.asarray(a) for name, a in arguments.items() if isinstance(a, np.ndarray)}
    key, state = jax.random.key(SEED), {}

    def dense_forward(x, w, b):
        return {"y": jnp.maximum(x @ w + b, 0)}

    def dense_backward(x, w, y, dy):
        dz = jnp.where(y > 0, dy, 0)
        return {"dz": dz, "dx": dz @ w.T, "dw": x.T @ dz, "db": dz.sum(0)}

    def softmax_cross_entropy(z, labels):
        def loss(z):
            return (jax.nn.logsumexp(z, axis=1) - z[jnp.arange(len(labels)), labels]).mean()
        value, dz = jax.value_and_grad(loss)(z)
        return {"dz": dz, "loss": value}

    def dropout(x, key):
        keep = 1 - arguments["rate"]
        return {"y": jnp.where(jax.random.bernoulli(key, keep, x.shape), x / keep, 0)}

    def update(w, s1, s2, g, step):
        first, second, epsilon, _ = map(float, arguments["hyper"])
        s1 = first * s1 + (1 - first) * (g * g if operation.variant == "rmsprop" else g)
        if operation.variant == "rmsprop":
            return w - arguments["learning_rate"] * g / jnp.sqrt(s1 + epsilon), s1, s2
        s2 = second * s2 + (1 - second) * g * g
        rate = arguments["learning_rate"] / (1 - first ** step)
        return w - rate * s1 / (jnp.sqrt(s2 / (1 - second ** step)) + epsilon), s1, s2

    def forward(x, parameters):
        (w1, b1), (w2, b2) = parameters
        return {"out": jax.nn.softmax(jnp.maximum(x @ w1 + b1, 0) @ w2 + b2)}

    if operation.op == "update":
        compiled = jax.jit(update, donate_argnums=(0, 1, 2))
        state.update(slots=tuple(jnp.copy(given[name]) for name in ("w", "s1", "s2")), step=arguments["step"])

        def call():
            state["slots"] = jax.block_until_ready(compiled(*state["slots"], given["g"], state["step"]))
            state["w"], state["step"] = state["slots"][0], state["step"] + 1
    else:
        functions = {"dense_forward": (dense_forward, "x", "w", "b"),
                     "dense_backward": (dense_backward, "x", "w", "y", "dy"),
                     "softmax_cross_entropy": (softmax_cross_entropy, "z", "labels"), "dropout": (dropout, "x"),
                     "forward": (forward, "x")}
        function, *names = functions[operation.op]
        compiled, operands = jax.jit(function), [given[name] for name in names]
        if operation.op == "dropout":
            operands.append(key)
        if operation.op == "forward":
            views = reference.layout.layer_views(arguments["parameters"], LAB_2)
            operands.append([(jnp.asarray(w), jnp.asarray(b)) for w, b in views])

        def call():
            state.update(jax.block_until_ready(compiled(*operands)))
    return call, lambda: {name: np.asarray(state[name]) for name in operation.outputs}


def by_scikit_learn(operation, arguments):
    from sklearn.linear_model import Perceptron

    model, x, y = Perceptron(shuffle=False, max_iter=1, tol=None), arguments["x"], arguments["y"]
    model.partial_fit(x[:1], y[:1], classes=(-1, 1))
    model.coef_[:], model.intercept_[:] = arguments["theta"], arguments["bias"]
    return lambda: model.partial_fit(x, y), lambda: {"theta": model.coef_[0].copy(), "bias": model.intercept_.copy()}


PERFORMERS = {"fastmlp": by_package("cpu"), "NumPy": by_package("reference"), "scikit-learn": by_scikit_learn,
              "torch": by_torch, "JAX": by_jax}
PERFORMED = {"scikit-learn": ("perceptron_online",),
             **dict.fromkeys(("torch", "JAX"), ("dense_forward", "dense_backward", "softmax_cross_entropy", "update",
                                                "dropout",
                                                "forward"))}


def performs(name, operation):
    return operation.op in PERFORMED.get(name, (operation.op,))


class Performance:
    """Opened in a worker: one operation by one performer."""

    def __init__(self, name, operation):
        self.name, self.operation = name, operation
        self.original = operation.arguments()
        self.call, self.outputs = PERFORMERS[name](operation, operation.arguments())

    def check(self):
        """Worst ‖out - oracle‖ / ‖oracle‖ of the outputs after the first call; then finds out how often to repeat."""
        self.call()
        error = self.error({name: np.array(value) for name, value in self.outputs().items()})
        self.repeat = 1
        while (seconds := self.time()) < ROUND_SECONDS and self.repeat < 10_000:
            self.repeat = max(self.repeat + 1, int(self.repeat * min(10, 1.2 * ROUND_SECONDS / seconds)))
        return error

    def error(self, found):
        if self.operation.op == "dropout" and self.name in ("torch", "JAX"):
            return self.dropout_error(found["y"])
        oracle = cases.upcast(self.original)
        getattr(reference, self.operation.op)(**oracle)
        return max(cases.error(found[name], oracle[name]) for name in self.operation.outputs)

    def dropout_error(self, y):
        """Other random numbers: the kept ones must be x / (1 - rate), and as many as the rate says."""
        x, rate, kept = self.original["x"], self.original["rate"], y != 0
        assert abs(kept.mean() - (1 - rate)) < 5 * (rate * (1 - rate) / y.size) ** 0.5, f"{kept.mean():.4f} kept"
        return cases.error(y[kept], x[kept] / (1 - rate))

    def tolerance(self):
        return 10 * cases.rounding(np.dtype(self.operation.dtype), max(self.operation.shape))

    def time(self):
        call = self.call
        start = perf_counter()
        for _ in range(self.repeat):
            call()
        return perf_counter() - start

    def round(self):
        """Seconds per call."""
        return self.time() / self.repeat
