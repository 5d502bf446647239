"""Attacks on nets that stand: `predict` and its like, and `load`."""
import functools
import json

import numpy as np
from hypothesis import strategies as st
from safetensors.numpy import load as tensors_of

import fastmlp
from fastmlp.files import checksum
from fastmlp.kernels import activations as act
from fastmlp.kernels import reference

from .arrays import FOLDER, disguised
from .outcomes import ERRORS, Wrong, refused, snapshot, unchanged


@functools.cache
def nets():
    """One net of each kind, with five features."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 5)).astype(np.float32)
    y = np.arange(40) % 3
    quick = {"epochs": 2, "seed": 0, "device": "cpu"}
    return [
        fastmlp.train(X, y, **quick),
        fastmlp.train(X, np.array(["a", "b"])[y % 2], hidden=(), **quick),
        fastmlp.train(X, (X[:, :3] > 0), activation="gelu", hidden=(9, 17), **quick),
        fastmlp.train(X, X[:, 0], activation="tanh", dtype="float64", **quick),
        fastmlp.train(np.abs(X * 50).astype(np.uint8), y, activation="silu", **quick),
        fastmlp.MLP.from_parameters([rng.standard_normal((5, 1))], [np.zeros(1)], output="sign"),
        fastmlp.MLP.from_parameters([np.eye(5) * 1e30], [np.zeros(5)], output="softmax"),
    ]


@st.composite
def predict_calls(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2 ** 32)))
    X = rng.standard_normal((draw(st.sampled_from([1, 2, 9, 70])), 5)).astype(np.float32)
    X *= draw(st.sampled_from([1, 1, 1e3, 1e10, 1e-40]))
    y = np.arange(len(X)) % 3
    return (draw(st.sampled_from(range(len(nets())))), draw(st.sampled_from(["cpu", "reference"])),
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
    model = nets()[which]
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


@functools.cache
def model_file():
    """The bytes of a model file."""
    path = FOLDER / "good"
    nets()[0].save(path)
    return path.read_bytes()


@st.composite
def load_calls(draw):
    """A model file with values of its header replaced by anything, or its bytes edited; the checksum may be right."""
    content = model_file()
    length = int.from_bytes(content[:8], "little")
    if draw(st.booleans()):
        header = json.loads(content[8:8 + length])
        ours = json.loads(header["__metadata__"]["fastmlp"])
        for name in draw(st.lists(st.sampled_from(sorted(ours)), min_size=1, max_size=2)):
            ours[name] = draw(st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
                | st.sampled_from(["relu", "softmax", "<U1", "O", "(,<U1", "2f4,", 1 << 60, 4, 8, 3, 2]),
                lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3) | st.sampled_from(
                    ["dtype", "values"]), inner, max_size=3), max_leaves=6))
        text = json.dumps(ours)
        header["__metadata__"] |= {"fastmlp": text, "crc32": checksum(text, tensors_of(content))}
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
