"""Attacks on everything public with generated arguments: `python tests/fuzz.py ATTACK CALLS SEED` counts outcomes.

Every call is a good one with up to three things about it made odd or wrong: how an array lies in memory, its dtype,
shape and values, an option. What may come of it: "right" (as the same in float64), or "refused" (an error that names an
argument); its inputs are as they were. Anything else is "WRONG" and printed. A crash or a hang ends this process, which
is why `test_fuzz` runs it as a child.
"""
import json
import os
import re
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from numba.core.errors import NumbaError

import fastmlp
from fastmlp.files import checksum
from fastmlp.kernels import activations as act
from fastmlp.kernels import cpu, reference

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz"))
ERRORS = (TypeError, ValueError, FloatingPointError, RuntimeError, OverflowError)


class Wrong(AssertionError):
    pass


# ------------------------------------------------------------------------------- arrays, and how to spoil them

def memory_mapped(array, mode="r"):
    path = FOLDER / f"{time.perf_counter_ns()}.npy"
    np.save(path, array)
    mapped = np.load(path, mmap_mode=mode)
    path.unlink()
    return mapped


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def unaligned(array):
    raw = np.zeros(array.nbytes + 1, np.uint8)
    view = raw[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def with_value(value):
    def spoil(array):
        array = np.array(array, dtype=array.dtype if array.dtype.kind == "f" else float)
        if array.size:
            array.reshape(-1)[array.size // 2] = value
        return array
    return spoil


def sparse(array):
    from scipy.sparse import csr_array
    return csr_array(np.atleast_2d(array))


def frame(array):
    import pandas
    return pandas.DataFrame(array) if array.ndim == 2 else pandas.Series(array)


LAYOUTS = {  # the same numbers in another guise: right, or (frames aside) refused
    "Fortran": np.asfortranarray, "strided": lambda a: np.repeat(a, 2, axis=0)[::2], "read-only": read_only,
    "reversed": lambda a: np.flip(np.flip(a).copy()), "mapped": memory_mapped, "unaligned": unaligned,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")), "list": lambda a: a.tolist(), "frame": frame,
    "float64": lambda a: a.astype(np.float64), "longdouble": lambda a: a.astype(np.longdouble),
    "transposed twice": lambda a: a.T.copy().T,
}
SPOILS = {
    "nan": with_value(np.nan), "inf": with_value(np.inf), "-inf": with_value(-np.inf), "huge": with_value(1e30),
    "huger": with_value(1e300), "denormal": with_value(1e-42), "all denormal": lambda a: np.full_like(a, 1e-42, float),
    "large": lambda a: a * 1e4, "empty": lambda a: a[:0], "one row": lambda a: a[:1], "no columns": lambda a: a[:, :0],
    "flat": lambda a: a.reshape(-1), "deep": lambda a: a[..., None], "short": lambda a: a[:-1], "scalar": lambda a: 3.0,
    "none": lambda a: None, "text": lambda a: a.astype(str), "object": lambda a: a.astype(object),
    "complex": lambda a: a + 1j, "half": lambda a: a.astype(np.float16), "int8": lambda a: a.astype(np.int8),
    "uint8": lambda a: np.abs(a).astype(np.uint8), "bool": lambda a: a > 0, "int64": lambda a: a.astype(np.int64),
    "masked": lambda a: np.ma.masked_array(a, a > 0), "sparse": sparse, "zero": np.zeros_like,
    "structured": lambda a: np.zeros(len(a), "f4,i4"), "dates": lambda a: np.full(len(a), np.datetime64("2024")),
    "bytes": lambda a: a.tobytes(), "dict": lambda a: {"a": a}, "mixed": lambda a: [*a.tolist(), "a", None],
}


@st.composite
def disguised(draw, array):
    """The array, usually as it is; else in another guise, spoilt, or both."""
    twist = draw(st.integers(0, 5))
    with np.errstate(all="ignore"):
        try:
            if twist in (1, 3):
                array = SPOILS[draw(st.sampled_from(sorted(SPOILS)))](array)
            if twist in (2, 3):
                array = LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))](array)
        except (TypeError, ValueError, AttributeError, IndexError, NotImplementedError):
            pass  # not everything can be spoilt twice
    return array


def snapshot(value):
    """What must not change: the bytes of arrays, the text of anything else."""
    if isinstance(value, np.ndarray) and value.dtype != object:
        return np.array(value, copy=True, subok=False).tobytes()
    return repr(value)


@st.composite
def problems(draw):
    """A good X and y."""
    n, features = draw(st.sampled_from([2, 3, 7, 16, 33, 60])), draw(st.sampled_from([1, 2, 5, 17]))
    rng = np.random.default_rng(draw(st.integers(0, 2 ** 32)))
    X = rng.standard_normal((n, features)).astype(draw(st.sampled_from([np.float32, np.float64])))
    kind = draw(st.sampled_from(["classes", "two", "text", "numbers", "columns", "one-hot", "multilabel", "all",
                                 "images"]))
    index = np.arange(n) % {"two": 2, "all": n}.get(kind, 3)
    if kind == "images":
        X = rng.integers(0, 256, X.shape, dtype=np.uint8)
    y = {"text": np.array(["a", "b", "c"])[index % 3], "numbers": rng.standard_normal(n).astype(np.float32),
         "columns": rng.standard_normal((n, 2)), "one-hot": np.eye(3)[index % 3],
         "multilabel": rng.integers(0, 2, (n, 3))}.get(kind, index)
    return X, y


# ------------------------------------------------------------------------------- options

GOOD = {
    "hidden": [(), 1, 7, (3, 5), [16], np.int64(4)], "activation": ["relu", "tanh", "gelu", "silu", "sigmoid"],
    "dropout": [0, 0.3], "optimizer": ["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw"], "l2": [0, 1e-3],
    "schedule": ["constant", "cosine", "one_cycle", "step"], "batch_size": [1, 3, 16, 1000], "epochs": [1, 2],
    "validation_fraction": [0.0, 0.3], "early_stopping": [None, 1, fastmlp.EarlyStopping(1, monitor="loss")],
    "class_weight": [None, "balanced", {0: 2.0}, {"a": 0.0}], "n_threads": [None, 1, 2, 5],
    "learning_rate": [None, 1e-3, 0.1, 1e3], "initializer": ["he_normal", "glorot_uniform"],
    "loss": ["auto", "softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error"],
}
ANYTHING = [None, True, -1, 0, 1.5, 10 ** 30, float("nan"), float("inf"), "relu", "", b"adam", (), (0,), [[]], {},
            {1: 2}, (None,), object(), np.array([1, 2]), np.array(3.7), np.float32(0.5), print, int, ("adam", 2), 1e308,
            -1e-9, 2j]


@st.composite
def options(draw, good=GOOD, names=None):
    chosen = {name: draw(st.sampled_from(good[name])) for name in
              draw(st.lists(st.sampled_from(sorted(good)), max_size=4, unique=True))}
    if draw(st.integers(0, 3)) == 0:
        name = draw(st.sampled_from(sorted(names or good)))
        chosen[name] = draw(st.sampled_from(ANYTHING))
    return chosen


TRAIN_NAMES = ["X", "y", "device", "dtype", "seed", "sample_weight", "checkpoint", "validation_data", "callbacks",
               "verbose", "model", *GOOD]


def refused(error, names):
    """"refused" if the error names an argument."""
    text = str(error)
    if isinstance(error, fastmlp.DivergedError):
        return "diverged, said so"
    if any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) for name in names):
        return "refused"
    raise Wrong(f"{type(error).__name__} names no argument: {text[:300]}") from error


def unchanged(before, values, what):
    for one, value in zip(before, values, strict=True):
        if one != snapshot(value):
            raise Wrong(f"{what}: an input was changed")


# ------------------------------------------------------------------------------- the attacks

@st.composite
def train_calls(draw):
    X, y = draw(problems())
    weights = draw(st.sampled_from([None, None, np.ones(len(X)), np.arange(len(X)) * 0.5, np.zeros(len(X))]))
    chosen = draw(options(names=[name for name in TRAIN_NAMES if name not in ("X", "y", "checkpoint", "verbose")]))
    if "epochs" in chosen and isinstance(chosen["epochs"], int) and chosen["epochs"] > 5:
        chosen["epochs"] = 2
    return (draw(disguised(X)), draw(disguised(y)),
            {"hidden": 5, "epochs": 2, "batch_size": 16, "seed": 3, "device": "cpu",
             "dtype": draw(st.sampled_from(["float32", "float64"])), "sample_weight": weights, **chosen})


def train(call):
    X, y, chosen = call
    before = [snapshot(value) for value in call[:2]]
    try:
        model = fastmlp.train(X, y, **chosen)
    except ERRORS as error:
        return refused(error, TRAIN_NAMES)
    finally:
        unchanged(before, call[:2], "train")
    losses = model.history["loss"]
    if not (np.isfinite(model.parameters).all() and np.isfinite(losses).all()):
        raise Wrong(f"not finite: {losses}")
    fine = chosen["dtype"] == "float64"
    try:
        oracle = fastmlp.train(X, y, **chosen | {"device": "reference", "dtype": "float64"})
    except ERRORS as error:
        if fine:
            raise Wrong(f"the reference refuses: {error}") from error
        return "right (float64 refuses)"
    first, expected = losses[0], oracle.history["loss"][0]
    # Steps of learning rates of 0.1 and more amplify rounding; float64 has some to spare.
    wild = (chosen.get("learning_rate") or 0) >= 0.1 or np.abs(oracle.parameters).max() > 50
    tolerance = (1e-3 if wild else 1e-7) if fine else (np.inf if wild else 2e-2)
    if not abs(first - expected) <= tolerance * max(abs(expected), 1e-2 if not fine else 1e-6):
        raise Wrong(f"loss {first} where float64 on the reference gives {expected}")
    return "right"


def nets():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 5)).astype(np.float32)
    y = np.arange(40) % 3
    quick = {"epochs": 2, "seed": 0, "device": "cpu"}
    yield fastmlp.train(X, y, **quick)
    yield fastmlp.train(X, np.array(["a", "b"])[y % 2], hidden=(), **quick)
    yield fastmlp.train(X, (X[:, :3] > 0), activation="gelu", hidden=(9, 17), **quick)
    yield fastmlp.train(X, X[:, 0], activation="tanh", dtype="float64", **quick)
    yield fastmlp.train(np.abs(X * 50).astype(np.uint8), y, activation="silu", **quick)
    yield fastmlp.MLP.from_parameters([rng.standard_normal((5, 1))], [np.zeros(1)], output="sign")
    yield fastmlp.MLP.from_parameters([np.eye(5) * 1e30], [np.zeros(5)], output="softmax")


@st.composite
def predict_calls(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2 ** 32)))
    X = rng.standard_normal((draw(st.sampled_from([1, 2, 9, 70])), 5)).astype(np.float32)
    X *= draw(st.sampled_from([1, 1, 1e3, 1e10, 1e-40]))
    y = np.arange(len(X)) % 3
    return (draw(st.sampled_from(range(7))), draw(st.sampled_from(["cpu", "reference"])),
            draw(st.sampled_from(["predict", "predict_proba", "evaluate"])), draw(disguised(X)), draw(disguised(y)))


def outputs_in_float64(model, X):
    """Logits (or numbers) and a bound on the error that rounding in the net's dtype may make in them."""
    h, error = np.asarray(X, np.float64) * model.scale, 0.0
    eps = np.finfo(model.dtype).eps
    names = (*model.activations, model.output if model.task.kind == "numbers" else "identity")
    with np.errstate(all="ignore"):
        error = eps * np.abs(h)
        for w, b, name in zip(model.weights, model.biases, names, strict=True):
            w, b = w.astype(np.float64), b.astype(np.float64)
            error = 1.2 * error @ np.abs(w) + eps * (len(w) + 20) * (np.abs(h) @ np.abs(w) + np.abs(b))
            h = h @ w + b
            y = np.empty_like(h)
            reference.dense_forward(h, np.eye(h.shape[1]), np.zeros(h.shape[1]), act.NAMES.index(name), y)
            h, error = y, error + 4 * eps * np.abs(y)
    return h, error + 1e-37


def predict(call):
    which, device, method, X, y = call
    model = NETS[which]
    model.device = device
    before = [snapshot(X), snapshot(y)]
    try:
        got = getattr(model, method)(X, *([y] if method == "evaluate" else []))
    except ERRORS as error:
        return refused(error, ["X", "y", "predict_proba", "evaluate"])
    finally:
        unchanged(before, (X, y), method)
    z, error = outputs_in_float64(model, X)
    if method == "evaluate":
        if not np.isfinite(got["loss"]):
            raise Wrong(f"loss {got['loss']}")
        return "right"
    if got.dtype.kind == "f" and not np.isfinite(got).all():
        raise Wrong(f"{method} gives what is not finite: {got.ravel()[:5]}")
    if method == "predict_proba":
        if not ((got >= 0).all() and (got <= 1).all()):
            raise Wrong(f"probabilities {got.ravel()[:5]}")
        if model.output == "softmax" and not np.allclose(got.sum(axis=1), 1, atol=1e-5):
            raise Wrong(f"probabilities sum to {got.sum(axis=1)[:5]}")
    elif model.task.kind == "numbers":
        got = got.reshape(z.shape)
        clear = error < np.abs(z) if model.output == "sign" else np.ones_like(z, bool)
        if not (np.abs(got - z) <= error)[clear].all():
            raise Wrong(f"{got.ravel()[:3]} where float64 gives {z.ravel()[:3]} +- {error.ravel()[:3]}")
    elif model.task.kind == "classes" and z.shape[1] > 1:
        ordered = np.sort(z, axis=1)
        clear = ordered[:, -1] - ordered[:, -2] > 2 * error.max(axis=1)
        if (got != model.classes[z.argmax(axis=1)])[clear].any():
            raise Wrong("another class than in float64")
    return "right"


@st.composite
def perceptron_calls(draw):
    X, y = draw(problems())
    if draw(st.booleans()):
        X, y = np.round(X), np.arange(len(X)) % 2
    good = {"mode": ["online", "batch"], "shuffle": [True, False], "seed": [None, 1], "max_epochs": [1, 20],
            "dtype": ["float32", "float64"], "device": ["cpu", "reference"]}
    return draw(disguised(X)), draw(disguised(y)), {"max_epochs": 20, **draw(options(good))}


def perceptron(call):
    X, y, chosen = call
    if isinstance(chosen["max_epochs"], int) and chosen["max_epochs"] > 100:
        chosen["max_epochs"] = 100
    before = [snapshot(value) for value in call[:2]]
    try:
        unit = fastmlp.train_perceptron(X, y, **chosen)
        predicted = unit.predict(X)
    except ERRORS as error:
        return refused(error, ["X", "y", "mode", "shuffle", "seed", "max_epochs", "dtype", "device"])
    finally:
        unchanged(before, call[:2], "train_perceptron")
    score = np.asarray(X, np.float64) @ unit.theta.astype(np.float64) + unit.bias
    clear = np.abs(score) > 1e-4 * (np.abs(np.asarray(X, np.float64)) @ np.abs(unit.theta) + abs(unit.bias))
    if not np.isfinite(score).all():
        raise Wrong("scores are not finite")
    if (predicted != unit.classes[(score >= 0).astype(int)])[clear].any():
        raise Wrong("predictions are not those of float64")
    if unit.converged and (predicted != np.asarray(y).reshape(-1))[clear].any():
        raise Wrong("converged with mistakes")
    return "right"


@st.composite
def load_calls(draw):
    """A model file with values of its header replaced by anything, or its bytes edited; the checksum may be right."""
    content = MODEL_FILE
    length = int.from_bytes(content[:8], "little")
    if draw(st.booleans()):
        header = json.loads(content[8:8 + length])
        ours = json.loads(header["__metadata__"]["fastmlp"])
        for name in draw(st.lists(st.sampled_from(sorted(ours)), min_size=1, max_size=2)):
            ours[name] = draw(st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
                | st.sampled_from(["relu", "softmax", "<U1", "O", 1 << 60, 4, 8, 3, 2]),
                lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3) | st.sampled_from(
                    ["dtype", "values"]), inner, max_size=3), max_leaves=6))
        text = json.dumps(ours)
        tensors = {}
        from safetensors.numpy import load
        tensors = load(content)
        header["__metadata__"] |= {"fastmlp": text, "crc32": checksum(text, tensors)}
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + content[8 + length:]
    start = draw(st.integers(0, len(content)))
    return content[:start] + draw(st.binary(max_size=20)) + content[start + draw(st.integers(0, 30)):]


def load(content):
    path = FOLDER / "model"
    path.write_bytes(content)
    try:
        model = fastmlp.load(path)
    except ValueError as error:
        return refused(error, [str(path)])
    model.device = "reference"
    out = model.predict(np.zeros((1, model.sizes[0])))
    if len(out) != 1 or not np.isfinite(model.parameters).all():
        raise Wrong("a model that cannot be")
    return "right"


# ------------------------------------------------------------------------------- operations of the kernels

def op_arguments(op, m, k, n, dtype, rng):
    def normal(*shape):
        return rng.standard_normal(shape).astype(dtype)

    def blank(*shape):
        return np.full(shape, 7, dtype)

    none, targets = np.empty(0, dtype), np.empty((0, 0), dtype)
    return {
        "dense_forward": lambda: {"x": normal(m, k), "w": normal(k, n), "b": normal(n), "activation": 1,
                                  "y": blank(m, n)},
        "dense_backward": lambda: {"x": normal(m, k), "w": normal(k, n), "y": normal(m, n), "dy": normal(m, n),
                                   "activation": 3, "dz": blank(m, n), "dx": blank(m, k), "dw": blank(k, n),
                                   "db": blank(n)},
        "softmax_xent": lambda: {"z": normal(m, n), "labels": rng.integers(0, max(n, 1), m), "targets": targets,
                                 "weights": none, "dz": blank(m, n)},
        "sigmoid_xent": lambda: {"z": normal(m, n), "targets": rng.random((m, n)).astype(dtype),
                                 "weights": rng.random(m).astype(dtype), "dz": blank(m, n)},
        "squared_error": lambda: {"z": normal(m, n), "targets": normal(m, n), "weights": none, "dz": blank(m, n)},
        "gather": lambda: {"x": normal(m + 1, k), "rows": rng.integers(0, m + 1, m), "scale": 0.5, "out": blank(m, k)},
        "dropout": lambda: {"x": normal(m, k), "rate": 0.4, "seed": 5, "step": 1, "layer": 0, "y": blank(m, k)},
        "update": lambda: {"rule": 4, "hyper": np.array([0.9, 0.99, 1e-7, 0.0]), "learning_rate": 0.1, "step": 2,
                           "w": normal(n), "g": normal(n), "s1": normal(n), "s2": rng.random(n).astype(dtype)},
        "perceptron_batch": lambda: {"x": np.round(normal(m, k)), "y": rng.choice([-1, 1], m).astype(dtype),
                                     "theta": np.round(normal(k)), "bias": np.ones(1, dtype), "delta": blank(k + 1)},
        "forward": lambda: {"parameters": normal((k + 1) * n), "sizes": (k, n), "activations": (2,), "x": normal(m, k),
                            "scale": 1.0, "n_threads": 1, "out": blank(m, n)},
    }[op]()


WRITTEN = {"y", "dz", "dx", "dw", "db", "out", "w", "s1", "s2", "theta", "bias", "delta"}
OPS = ("dense_forward", "dense_backward", "softmax_xent", "sigmoid_xent", "squared_error", "gather", "dropout",
       "update", "perceptron_batch", "forward")
ODD_NUMBERS = [-1, 0, 1, 99, 0.5, 2 ** 40, float("nan"), float("inf"), None, "1", 1e308]


@st.composite
def op_calls(draw):
    op = draw(st.sampled_from(OPS))
    m, n, k = (draw(st.sampled_from([0, 1, 2, 7, 8, 9, 16, 17, 33])) for _ in range(3))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    k, n = (max(k, 1), max(n, 1)) if op == "forward" else (k, n)
    arguments = op_arguments(op, m, k, n, dtype, np.random.default_rng(draw(st.integers(0, 2 ** 32))))
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from(sorted(arguments)))
        value = arguments[name]
        if not isinstance(value, np.ndarray):
            arguments[name] = draw(st.sampled_from(ODD_NUMBERS)) if name != "sizes" else draw(
                st.sampled_from([(k, n + 1), (k,), (), (0, n), (-k, -n), (k, 2, n)]))
            continue
        twist = draw(st.sampled_from(["shape", "other", "view", "dtype", "layout", "value"]))
        if twist == "shape":
            shape = list(value.shape)
            axis = draw(st.integers(0, value.ndim - 1))
            shape[axis] = max(0, shape[axis] + draw(st.sampled_from([-1, 1, 16])))
            value = np.ones(shape, value.dtype)
        elif twist == "other":  # the very memory of another argument
            value = arguments[draw(st.sampled_from(sorted(a for a in arguments
                                                          if isinstance(arguments[a], np.ndarray))))]
        elif twist == "view" and value.size > 1:  # shifted by one element over itself
            raw = np.concatenate([value.reshape(-1), value.reshape(-1)[:1]])
            value = raw[1:].reshape(value.shape)
        elif twist == "dtype":
            value = value.astype(draw(st.sampled_from([np.float32, np.float64, np.int64, np.int32, np.uint8, bool,
                                                       np.float16, ">f4", complex, object])))
        elif twist == "layout":
            value = draw(st.sampled_from([read_only, np.asfortranarray, unaligned, memory_mapped, np.ravel, list,
                                          lambda a: a[..., None], lambda a: np.repeat(a, 2, axis=0)[::2]]))(value)
        elif value.dtype.kind == "i" and value.size:
            value = value.copy()
            value[-1] = draw(st.sampled_from([-1, value.max() + 100, 2 ** 62, -2 ** 62]))
        elif value.dtype.kind == "f" and value.size:
            value = with_value(draw(st.sampled_from([np.nan, np.inf, 1e30, 1e-42])))(value)
        arguments[name] = value
    return op, arguments


def run_op(package):
    def judge(call):
        op, arguments = call
        inputs = [name for name in arguments if name not in WRITTEN or (name, op) in (
            ("y", "dense_backward"), ("w", "dense_forward"), ("w", "dense_backward"), ("y", "perceptron_batch"))]
        before = {name: snapshot(arguments[name]) for name in inputs}
        plain = {name: np.array(value, copy=True) if isinstance(value, np.ndarray) else value
                 for name, value in arguments.items()}

        def untouched():
            """No input is changed, unless it is the memory of an output as well."""
            for name in inputs:
                shared = any(np.may_share_memory(arguments[name], arguments[other]) for other in arguments
                             if other not in inputs and isinstance(arguments[name], np.ndarray)
                             and isinstance(arguments[other], np.ndarray))
                if snapshot(arguments[name]) != before[name] and not shared:
                    raise Wrong(f"{op}: {name} was changed")

        try:
            with np.errstate(all="ignore"):
                result = getattr(package, op)(*arguments.values())
        except (*ERRORS, NumbaError, AttributeError, IndexError) as error:
            untouched()
            return refused(error, [*arguments, op, "argument"]) if package is cpu else "refused"
        untouched()
        if package is not cpu:
            return "right"
        doubles = {name: value.astype(np.float64) if getattr(value, "dtype", np.dtype(int)).kind == "f" else value
                   for name, value in plain.items()}
        with np.errstate(all="ignore"):
            expected = getattr(reference, op)(*doubles.values())
        eps = 1e-4 if any(isinstance(a, np.ndarray) and a.dtype == np.float32 for a in arguments.values()) else 1e-10
        pairs = [(name, arguments[name], doubles[name]) for name in arguments if name not in inputs]
        if op.endswith(("xent", "error")):
            pairs.append(("loss", np.array(result), np.array(expected)))
        for name, got, wanted in pairs:
            got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
            fits = np.isfinite(wanted) & (np.abs(wanted) < 1e30)
            if name == "delta" or not fits.any():
                continue
            size = np.abs(wanted[fits]).max()
            if not np.abs(got[fits] - wanted[fits]).max() <= eps * max(size, 1e-3):
                raise Wrong(f"{op}: {name} is {got.ravel()[:4]}, in float64 {wanted.ravel()[:4]}")
        return "right"
    return judge


@st.composite
def selection_calls(draw):
    X, y = draw(problems())
    good = {"k": [2, 3], "stratified": [True, False], "seed": [1], "epochs": [1], "hidden": [3]}
    return draw(disguised(X)), draw(disguised(y)), {"k": 2, "seed": 0, "epochs": 1, "hidden": 3, "device": "cpu",
                                                   **draw(options(good, [*good, "grid", "batch_size"]))}


def selection(call):
    X, y, chosen = call
    before = [snapshot(value) for value in call[:2]]
    if isinstance(chosen["epochs"], int) and chosen["epochs"] > 9:
        chosen["epochs"] = 1
    try:
        result = fastmlp.cross_validate(X, y, **chosen)
    except ERRORS as error:
        return refused(error, [*TRAIN_NAMES, "k", "grid", "stratified", "classes"])
    finally:
        unchanged(before, call[:2], "cross_validate")
    if "nan" in repr(result).lower().replace("nanmean", ""):
        raise Wrong(f"NaN: {result!r}")
    return "right"


@st.composite
def estimator_calls(draw):
    X, y = draw(problems())
    good = {"hidden_layer_sizes": [(3,), (4, 2)], "solver": ["adam", "sgd", "lbfgs"], "alpha": [0.0, 1e-2],
            "batch_size": ["auto", 7], "early_stopping": [True, False], "activation": ["relu", "tanh", "logistic"]}
    return (draw(st.sampled_from(["MLPClassifier", "MLPRegressor", "Perceptron"])), draw(disguised(X)),
            draw(disguised(y)), draw(options(good)))


def estimators(call):
    name, X, y, chosen = call
    if name == "Perceptron":
        chosen = {key: chosen[key] for key in chosen if key in ("alpha", "early_stopping")}
    else:
        chosen = {"hidden_layer_sizes": (3,), "max_iter": 3, **chosen}
    before = [snapshot(X), snapshot(y)]
    try:
        estimator = getattr(fastmlp, name)(random_state=0, **chosen).fit(X, y)
        got = np.asarray(estimator.predict(X))
    except ERRORS as error:
        if isinstance(error, ValueError | TypeError) and len(str(error)) > 10:
            return "refused"  # scikit-learn's own wording, which does not always name the argument
        raise Wrong(f"{type(error).__name__}: {error}") from error
    finally:
        unchanged(before, (X, y), name)
    if got.dtype.kind == "f" and not np.isfinite(got).all():
        raise Wrong(f"{name} predicts {got.ravel()[:5]}")
    return "right"


def _optional(name, calls, judge):
    return {name: (calls, judge)} if hasattr(fastmlp, {"cross_validate": "cross_validate",
                                                      "estimators": "MLPClassifier"}[name]) else {}


ATTACKS = {
    "train": (train_calls, train), "predict": (predict_calls, predict),
    "train_perceptron": (perceptron_calls, perceptron),
    "load": (load_calls, load), "operations of cpu": (op_calls, run_op(cpu)),
    "operations of reference": (op_calls, run_op(reference)),
    **_optional("cross_validate", selection_calls, selection), **_optional("estimators", estimator_calls, estimators),
}
NETS, MODEL_FILE = [], b""


def attack(name, calls, number, shrink):
    """Counts of outcomes. With `shrink` the first wrong one is made small and raised; without, all are counted."""
    global NETS, MODEL_FILE
    strategy, judge = ATTACKS[name]
    outcomes, examples = Counter(), []
    if name in ("predict", "load"):
        NETS = list(nets())
        NETS[0].save(FOLDER / "model")
        MODEL_FILE = (FOLDER / "model").read_bytes()

    @settings(max_examples=calls, deadline=None, database=None, suppress_health_check=list(HealthCheck),
              phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,))
    @seed(number)
    @given(strategy())
    def run(call):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                outcomes[judge(call)] += 1
        except Exception as error:
            if shrink:
                raise
            outcomes["WRONG" if isinstance(error, Wrong) else f"WRONG: {type(error).__name__}"] += 1
            if len(examples) < 12:
                examples.append(f"{error!r:.400} from {call!r:.900}")

    run()
    return outcomes, examples


if __name__ == "__main__":
    import faulthandler
    faulthandler.enable()
    faulthandler.dump_traceback_later(float(os.environ.get("FUZZ_SECONDS", 600)), exit=True)
    found, shown = attack(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), shrink="--shrink" in sys.argv)
    print(json.dumps({"outcomes": found, "examples": shown}))
