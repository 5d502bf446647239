"""Trained nets from other libraries: PyTorch, Keras, scikit-learn; `export.libraries` is the way there.

What a net here cannot express is refused, never approximated.
"""
import numpy as np

from .export.libraries import KERAS_NAMES, SKLEARN_NAMES
from .net.model import MLP

__all__ = ["from_keras", "from_sklearn", "from_torch"]


def _build(layers, dropout, output, classes, scale=1.0):
    """An MLP from [[W, b, activation or None]]; `output` overrides the last activation."""
    if not layers:
        raise ValueError("the network holds no dense layer")
    *hidden, last = [activation or "identity" for _, _, activation in layers]
    model = MLP.from_parameters([w for w, _, _ in layers], [b for _, b, _ in layers], activation=hidden,
                                output=output or last, classes=classes, scale=scale)
    model.dropout = tuple(dropout[:len(hidden)])
    return model


class _Stack:
    """Collects dense layers, activations and dropout in the order another library lists them."""

    def __init__(self):
        self.layers, self.dropout = [], []

    def dense(self, w, b, activation=None):
        self.layers.append([w, b, activation])
        self.dropout.append(0.0)

    def activation(self, name, what):
        if not self.layers or self.layers[-1][2] not in (None, "identity"):
            raise ValueError(f"{what}: an activation must follow a dense layer that has none")
        self.layers[-1][2] = name

    def drop(self, rate, what):
        if not self.layers:
            raise ValueError(f"{what}: dropout of the inputs is not known to fastmlp")
        self.dropout[-1] = float(rate)

    def build(self, output, classes):
        if any(activation == "softmax" for _, _, activation in self.layers[:-1]):
            raise ValueError("softmax is an activation of the last layer only")
        if self.dropout and self.dropout[-1]:
            raise ValueError("dropout after the last dense layer is not known to fastmlp")
        return _build(self.layers, self.dropout, output, classes)


# ------------------------------------------------------------------------------- PyTorch

_TORCH_NAMES = {"ReLU": "relu", "Tanh": "tanh", "Sigmoid": "sigmoid", "SiLU": "silu", "Softmax": "softmax"}


def from_torch(module, *, output=None, classes=None):
    """An MLP with the weights of a `torch.nn.Sequential`.

    Parameters
    ----------
    module : Sequential of Linear, ReLU, LeakyReLU(0.01), Tanh, Sigmoid, GELU, SiLU, Softmax, Dropout, Flatten and
        Identity, nested or not
    output : activation of the last layer, where the module leaves it out: "softmax" for one trained with
        CrossEntropyLoss, "sigmoid" for BCEWithLogitsLoss
    classes : the labels `predict` gives back, as in `MLP.from_parameters`

    Raises
    ------
    ValueError for any other layer, or an order of layers that is no multi-layer perceptron.
    """
    stack = _Stack()

    def visit(part):
        kind = type(part).__name__
        if kind == "Sequential":
            for child in part:
                visit(child)
        elif kind == "Linear":
            w = part.weight.detach().cpu().numpy().T
            stack.dense(w, np.zeros(w.shape[1], w.dtype) if part.bias is None else part.bias.detach().cpu().numpy())
        elif kind in _TORCH_NAMES and (kind != "Softmax" or part.dim in (1, -1)):
            stack.activation(_TORCH_NAMES[kind], kind)
        elif kind == "LeakyReLU" and part.negative_slope == 0.01:
            stack.activation("leaky_relu", kind)
        elif kind == "GELU" and part.approximate == "none":
            stack.activation("gelu", kind)
        elif kind == "Dropout":
            stack.drop(part.p, kind)
        elif kind not in ("Flatten", "Identity"):
            raise ValueError(f"from_torch knows no {part!r}: its layers are Linear, {', '.join(_TORCH_NAMES)} (over "
                             "columns), LeakyReLU(0.01), GELU(approximate='none'), Dropout, Flatten, Identity")

    visit(module)
    return stack.build(output, classes)


# ------------------------------------------------------------------------------- Keras


def from_keras(model, *, output=None, classes=None):
    """An MLP with the weights of a `keras.Sequential`.

    Parameters
    ----------
    model : Sequential of Dense, Activation, ReLU, LeakyReLU(0.01), Softmax, Dropout, Flatten
    output, classes : as in `from_torch`

    Raises
    ------
    ValueError for any other layer or activation.
    """
    stack = _Stack()

    def name_of(activation, where):
        name = getattr(activation, "__name__", str(activation))
        if name not in KERAS_NAMES:
            raise ValueError(f"from_keras knows no activation {name!r} (in {where}), "
                             f"but {', '.join(KERAS_NAMES)}")
        return KERAS_NAMES[name]

    for layer in model.layers:
        kind, config = type(layer).__name__, layer.get_config()
        if kind == "Dense":
            w, *bias = layer.get_weights()
            stack.dense(w, bias[0] if bias else np.zeros(w.shape[1], w.dtype), name_of(layer.activation, layer.name))
        elif kind == "Activation":
            stack.activation(name_of(layer.activation, layer.name), layer.name)
        elif kind == "ReLU" and not any(config[option] for option in ("max_value", "negative_slope", "threshold")):
            stack.activation("relu", kind)
        elif kind == "LeakyReLU" and abs(config["negative_slope"] - 0.01) < 1e-9:
            stack.activation("leaky_relu", kind)
        elif kind == "Softmax":
            stack.activation("softmax", kind)
        elif kind == "Dropout":
            stack.drop(layer.rate, kind)
        elif kind not in ("InputLayer", "Flatten"):
            raise ValueError(f"from_keras knows no {kind} layer ({layer.name}): it knows Dense, Activation, ReLU, "
                             "LeakyReLU(0.01), Softmax, Dropout and Flatten")
    return stack.build(output, classes)


# ------------------------------------------------------------------------------- scikit-learn


def from_sklearn(estimator):
    """An MLP with the weights of a fitted scikit-learn `MLPClassifier` or `MLPRegressor`.

    Raises
    ------
    ValueError if the estimator is not fitted, or is another one. Of a pipeline, convert the last step, and pass
    the MLP what the steps before make of X.
    """
    kind = type(estimator).__name__
    if kind not in ("MLPClassifier", "MLPRegressor"):
        raise ValueError(f"from_sklearn takes an MLPClassifier or MLPRegressor, got {kind}"
                         + ("; convert its last step, pipeline[-1]" if kind == "Pipeline" else ""))
    if not hasattr(estimator, "coefs_"):
        raise ValueError(f"this {kind} is not fitted yet")
    output = SKLEARN_NAMES[estimator.out_activation_]
    counted = output == "softmax" or (output == "sigmoid" and estimator.n_outputs_ == 1)
    hidden = [SKLEARN_NAMES[estimator.activation]] * (len(estimator.coefs_) - 1)
    return MLP.from_parameters(estimator.coefs_, estimator.intercepts_, activation=hidden, output=output,
                               classes=estimator.classes_ if kind == "MLPClassifier" and counted else None)
