"""A trained net as a file for others: a Python module that needs NumPy only, or ONNX."""
import base64
import importlib
import json
from pathlib import Path

import numpy as np

from .scaling import FARTHEST

__all__ = ["export_numpy", "to_onnx"]


def library(name, extra=None):
    """The module `name`, or an ImportError that says how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        how = f"pip install 'fastmlp[{extra}]'" if extra else f"pip install {name}"
        raise ImportError(f"this conversion needs {name}, which cannot be imported ({error}): {how}") from error


# ------------------------------------------------------------------------------- plain NumPy

_NUMPY = {
    "identity": "def identity(z):\n    return z\n",
    "relu": "def relu(z):\n    return np.maximum(z, 0)\n",
    "leaky_relu": "def leaky_relu(z):\n    return np.maximum(z, 0.01 * z)\n",
    "tanh": "def tanh(z):\n    return np.tanh(z)\n",
    "sigmoid": "def sigmoid(z):\n    return 1 / (1 + np.exp(-np.clip(z, -87, None)))\n",
    "gelu": "def gelu(z):\n    return z * (0.5 + 0.5 * np.vectorize(math.erf, [z.dtype])(z * 0.5 ** 0.5))\n",
    "silu": "def silu(z):\n    return z / (1 + np.exp(-np.clip(z, -87, None)))\n",
    "sign": "def sign(z):\n    return np.where(z >= 0, 1, -1).astype(z.dtype)\n",
    "exp": "def exp(z):\n    return np.exp(z)\n",
    "softmax": "def softmax(z):\n    e = np.exp(z - z.max(axis=1, keepdims=True))\n"
               "    return e / e.sum(axis=1, keepdims=True)\n",
}
_ANSWERS = {
    "softmax": "np.array(CLASSES)[outputs(X).argmax(axis=1)]",
    "sigmoid": "np.array(CLASSES)[(outputs(X)[:, 0] > 0.5).astype(int)]",
    "multilabel": "(outputs(X) > 0.5).astype(np.int64)",
    "flat": "outputs(X)[:, 0]",
    "numbers": "outputs(X)",
}
_MODULE = '''"""{title}. Written by fastmlp {version}; needs NumPy only.

    predict(X)  the answers for X, {n_in} numbers a row: {answer}
    outputs(X)  the last layer's outputs, (rows, {n_out}) {dtype}
"""
import base64
{imports}
import numpy as np

SIZES = {sizes}
SCALE = {scale}
CLASSES = {classes}


{functions}

ACTIVATIONS = {activations}

{scaling}
def outputs(X):
    h = {read}
    start = 0
    for n_in, n_out, activation in zip(SIZES[:-1], SIZES[1:], ACTIVATIONS):
        middle, end = start + n_in * n_out, start + (n_in + 1) * n_out
        h = activation(h @ PARAMETERS[start:middle].reshape(n_in, n_out) + PARAMETERS[middle:end])
        start = end
    return h


def predict(X):
    return {predict}


# For every layer W (n_in, n_out) in row-major order, then b: {count} little-endian {dtype} numbers.
PARAMETERS = np.frombuffer(base64.b64decode("""
{parameters}
"""), {stored!r})
'''


_SCALING = """
CENTER = np.array({center}, {dtype!r})
FACTOR = np.array({factor}, {dtype!r})


def scaled(x):
    s = np.clip((x - CENTER) * FACTOR, -1e9, 1e9)
    return s / np.sqrt(1 + (s / {clip}) ** 2)

"""


def export_numpy(model, path):
    """Write the net as one Python file that needs NumPy and nothing else: `MLP.export_numpy`."""
    from . import __version__
    names = (*model.activations, model.output)
    kind = model.task.kind
    case = {"classes": model.output, "multilabel": "multilabel"}.get(kind, "flat" if model.task.flat else "numbers")
    answers = {"classes": "labels", "multilabel": "0 or 1 for each label"}.get(kind, "numbers")
    read = f"np.asarray(X, {model.dtype.name!r}) * np.{model.dtype.name}(SCALE)"
    scaling = ""
    if model.scaling is not None:
        read, inside = f"scaled(np.asarray(X, {model.dtype.name!r}))", model.scaling
        scaling = _SCALING.format(center=inside.center.tolist(), factor=inside.factor.tolist(), clip=inside.clip,
                                  dtype=model.dtype.name)
    text = base64.b64encode(model.parameters.astype(model.dtype.newbyteorder("<")).tobytes()).decode()
    Path(path).write_text(_MODULE.format(
        title=repr(model), version=__version__, n_in=model.sizes[0], n_out=model.sizes[-1], answer=answers,
        dtype=model.dtype.name, imports="import math\n" if "gelu" in names else "", sizes=model.sizes,
        scale=repr(model.scale), classes=None if model.classes is None else model.classes.tolist(), read=read,
        scaling=scaling,
        functions="\n\n".join(_NUMPY[name] for name in dict.fromkeys(names)),
        activations=f"({', '.join(names)},)", predict=_ANSWERS[case], count=f"{model.n_parameters:,}",
        parameters="\n".join(text[i:i + 116] for i in range(0, len(text), 116)),
        stored=model.dtype.newbyteorder("<").str), encoding="utf-8")


# ------------------------------------------------------------------------------- ONNX

def to_onnx(model, path, *, input_dtype=None):
    """Write the net as an ONNX file: `MLP.to_onnx`."""
    onnx = library("onnx", "onnx")
    from onnx import TensorProto, helper, numpy_helper

    number = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "uint8": TensorProto.UINT8}
    dtype = model.dtype
    if input_dtype is None:
        input_dtype = dtype.name if model.scale == 1 else "uint8"
    if input_dtype not in (dtype.name, "uint8"):
        raise ValueError(f"input_dtype must be 'uint8' or the net's own {dtype.name!r}, got {input_dtype!r}")
    nodes, constants = [], []

    def constant(name, value):
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype), name))
        return name

    def node(op, *inputs, **attributes):
        nodes.append(helper.make_node(op, inputs, [f"{op.lower()}_{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    def activate(name, z):
        simple = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "exp": "Exp"}
        if name in simple:
            return node(simple[name], z)
        if name == "leaky_relu":
            return node("LeakyRelu", z, alpha=0.01)
        if name == "softmax":
            return node("Softmax", z, axis=1)
        if name == "silu":
            if dtype == np.float64:                # ONNX Runtime 1.23 fuses z · sigmoid(z), then lacks float64
                return node("Div", z, node("Add", constant(f"one_{z}", 1.0), node("Exp", node("Neg", z))))
            return node("Mul", z, node("Sigmoid", z))
        if name == "gelu":
            half, root = constant(f"half_{z}", 0.5), constant(f"root_{z}", 0.5 ** 0.5)
            inner = node("Mul", z, root)
            if dtype == np.float64:                # runtimes have erf in float32 only
                erf = node("Cast", node("Erf", node("Cast", inner, to=number["float32"])), to=number["float64"])
            else:
                erf = node("Erf", inner)
            return node("Mul", z, node("Add", node("Mul", half, erf), half))
        if name == "sign":
            above = node("GreaterOrEqual", z, constant(f"zero_{z}", 0.0))
            return node("Where", above, constant(f"plus_{z}", 1.0), constant(f"minus_{z}", -1.0))
        return z

    h = node("Cast", "X", to=number[dtype.name]) if input_dtype == "uint8" else "X"
    if model.scale != 1:
        h = node("Mul", h, constant("scale", model.scale))
    if model.scaling is not None:
        inside, one = model.scaling, constant("one", 1.0)
        s = node("Mul", node("Sub", h, constant("center", inside.center)), constant("factor", inside.factor))
        s = node("Clip", s, constant("lowest", -FARTHEST), constant("highest", FARTHEST))
        part = node("Div", s, constant("clip", inside.clip))
        h = node("Div", s, node("Sqrt", node("Add", node("Mul", part, part), one)))
    names = (*model.activations, model.output)
    for l, (w, b, name) in enumerate(zip(model.weights, model.biases, names, strict=True), 1):
        h = activate(name, node("Add", node("MatMul", h, constant(f"W{l}", w)), constant(f"b{l}", b)))
    node("Identity", h)
    nodes[-1].output[0] = "outputs"
    graph = helper.make_graph(
        nodes, "fastmlp", [helper.make_tensor_value_info("X", number[input_dtype], ["rows", model.sizes[0]])],
        [helper.make_tensor_value_info("outputs", number[dtype.name], ["rows", model.sizes[-1]])], constants)
    proto = helper.make_model(graph, producer_name="fastmlp", opset_imports=[helper.make_opsetid("", 17)])
    proto.ir_version = 8                           # that of operator set 17: runtimes of 2022 on read it
    if model.classes is not None:
        helper.set_model_props(proto, {"classes": json.dumps(model.classes.tolist())})
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, str(path))
