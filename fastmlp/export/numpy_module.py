"""A trained net as a Python module that needs NumPy and nothing else."""
import base64

from .._version import __version__
from ..files import write_atomically

_NUMPY = {
    "identity": "def identity(z):\n    return z\n",
    "relu": "def relu(z):\n    return np.maximum(z, 0)\n",
    "leaky_relu": "def leaky_relu(z):\n    return np.maximum(z, 0.01 * z)\n",
    "tanh": "def tanh(z):\n    return np.tanh(z)\n",
    "sigmoid": "def sigmoid(z):\n    e = np.exp(-np.abs(z))\n    return np.where(z > 0, 1, e) / (1 + e)\n",
    "gelu": "def gelu(z):\n    return z * np.vectorize(math.erfc, [z.dtype])(z * -(0.5 ** 0.5)) / 2\n",
    "silu": "def silu(z):\n    e = np.exp(-np.abs(z))\n    return z * np.where(z > 0, 1, e) / (1 + e)\n",
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
    outputs(X)  the last layer's outputs, (rows, {n_out}) {shifted}
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
    return h{shift}


def predict(X):
    return {predict}


# For every layer W (n_in, n_out) in row-major order, then b: {count} little-endian {dtype} numbers.
PARAMETERS = np.frombuffer(base64.b64decode("""
{parameters}
"""), {stored!r})
'''


_SCALING = """
# Rows are centred in their own precision, then rounded to the net's.
CENTER = np.array({center}, {dtype!r})
FACTOR = np.array({factor}, {dtype!r})


def scaled(x):
    long = x.dtype.kind in "iu" and x.dtype.itemsize == 8    # which float64 would round
    s = (x >> 32) * 2.0 ** 32 - CENTER + (x & 0xffffffff) if long else x - CENTER
    s = np.clip(s * FACTOR, -1e9, 1e9)
    return (s / np.sqrt(1 + (s / {clip}) ** 2)).astype({net!r})

"""


def export_numpy(model, path):
    """Write the net as one Python file that needs NumPy and nothing else: `MLP.export_numpy`."""
    names = (*model.activations, model.output)
    kind = model.task.kind
    case = {"classes": model.output, "multilabel": "multilabel"}.get(kind, "flat" if model.task.flat else "numbers")
    answers = {"classes": "labels", "multilabel": "0 or 1 for each label"}.get(kind, "numbers")
    read = f"np.asarray(X, {model.dtype.name!r}) * np.{model.dtype.name}(SCALE)"
    scaling = ""
    if model.scaling is not None:
        read, inside = "scaled(np.asarray(X))", model.scaling
        scaling = _SCALING.format(center=inside.center.tolist(), factor=inside.factor.tolist(), clip=inside.clip,
                                  dtype=inside.center.dtype.name, net=model.dtype.name)
    text = base64.b64encode(model.parameters.astype(model.dtype.newbyteorder("<")).tobytes()).decode()
    module = _MODULE.format(
        title=repr(model), version=__version__, n_in=model.sizes[0], n_out=model.sizes[-1], answer=answers,
        dtype=model.dtype.name, imports="import math\n" if "gelu" in names else "", sizes=model.sizes,
        scale=repr(model.scale), classes=None if model.classes is None else model.classes.tolist(), read=read,
        scaling=scaling,
        shift="" if model.offset is None else f" + np.array({model.offset.tolist()})",
        shifted=model.dtype.name if model.offset is None else "float64",
        functions="\n\n".join(_NUMPY[name] for name in dict.fromkeys(names)),
        activations=f"({', '.join(names)},)", predict=_ANSWERS[case], count=f"{model.n_parameters:,}",
        parameters="\n".join(text[i:i + 116] for i in range(0, len(text), 116)),
        stored=model.dtype.newbyteorder("<").str)
    write_atomically(path, module.encode())
