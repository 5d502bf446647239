"""Trained nets to and from other libraries: PyTorch, Keras, scikit-learn.

Each function needs its library only when it is called. What the other side cannot express is refused, never
approximated: the converted net gives the same outputs up to rounding.
"""
import numpy as np

from .export import library
from .model import MLP

__all__ = ["from_keras", "from_sklearn", "from_torch", "to_keras", "to_sklearn", "to_torch"]


def scaled_layers(model):
    """[(W, b, activation)] of every layer, the input's scale multiplied into the first W."""
    if model.scaling is not None:
        raise ValueError("this net scales its input by itself (scaling='robust'), which the layers of other libraries "
                         "cannot: set model.scaling = None in a copy, convert that, and pass it model.scaling(X)")
    layers = list(zip(model.weights, model.biases, (*model.activations, model.output), strict=True))
    if model.scale != 1:
        w, b, activation = layers[0]
        layers[0] = (w * model.scale).astype(w.dtype), b, activation
    return layers


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


def to_torch(model):
    """The net as a `torch.nn.Sequential` in evaluation mode: `MLP.to_torch`."""
    torch = library("torch")
    nn = torch.nn
    makers = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU,
              "silu": nn.SiLU, "softmax": lambda: nn.Softmax(dim=1), "identity": None}
    parts = []
    for (w, b, activation), rate in zip(scaled_layers(model), (*model.dropout, 0.0), strict=True):
        linear = nn.Linear(*w.shape, dtype=getattr(torch, model.dtype.name))
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(w.T.copy()))
            linear.bias.copy_(torch.from_numpy(b.copy()))
        if activation not in makers:
            raise ValueError(f"to_torch: PyTorch has no module for the activation {activation!r}")
        parts.append(linear)
        if makers[activation]:
            parts.append(makers[activation]())
        if rate:
            parts.append(nn.Dropout(rate))
    return nn.Sequential(*parts).eval()


# ------------------------------------------------------------------------------- Keras

_KERAS_NAMES = {"linear": "identity", "relu": "relu", "tanh": "tanh", "sigmoid": "sigmoid", "gelu": "gelu",
                "silu": "silu", "softmax": "softmax", "exponential": "exp"}


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
        if name not in _KERAS_NAMES:
            raise ValueError(f"from_keras knows no activation {name!r} (in {where}), "
                             f"but {', '.join(_KERAS_NAMES)}")
        return _KERAS_NAMES[name]

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


def to_keras(model):
    """The net as a `keras.Sequential`: `MLP.to_keras`."""
    keras = library("keras")
    names = {ours: theirs for theirs, ours in _KERAS_NAMES.items()}
    parts = [keras.Input((model.sizes[0],), dtype=model.dtype.name)]
    layers = scaled_layers(model)
    for (w, _, activation), rate in zip(layers, (*model.dropout, 0.0), strict=True):
        if activation not in names and activation != "leaky_relu":
            raise ValueError(f"to_keras: Keras has no activation {activation!r}")
        parts.append(keras.layers.Dense(w.shape[1], names.get(activation, "linear"), dtype=model.dtype.name))
        if activation == "leaky_relu":
            parts.append(keras.layers.LeakyReLU(negative_slope=0.01, dtype=model.dtype.name))
        if rate:
            parts.append(keras.layers.Dropout(rate, dtype=model.dtype.name))
    converted = keras.Sequential(parts)
    converted.set_weights([array for w, b, _ in layers for array in (w, b)])
    return converted


# ------------------------------------------------------------------------------- scikit-learn

_SKLEARN_NAMES = {"identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu", "softmax": "softmax",
                  "exp": "exp"}


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
    output = _SKLEARN_NAMES[estimator.out_activation_]
    counted = output == "softmax" or (output == "sigmoid" and estimator.n_outputs_ == 1)
    hidden = [_SKLEARN_NAMES[estimator.activation]] * (len(estimator.coefs_) - 1)
    return MLP.from_parameters(estimator.coefs_, estimator.intercepts_, activation=hidden, output=output,
                               classes=estimator.classes_ if kind == "MLPClassifier" and counted else None)


def to_sklearn(model):
    """The net as a fitted scikit-learn estimator: `MLP.to_sklearn`."""
    library("sklearn", "sklearn")
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.preprocessing import LabelBinarizer

    names = {ours: theirs for theirs, ours in _SKLEARN_NAMES.items()}
    kinds = set(model.activations)
    if len(kinds) > 1 or not kinds <= {"identity", "sigmoid", "tanh", "relu"}:
        raise ValueError(f"to_sklearn: scikit-learn has one activation for all hidden layers, of identity, sigmoid, "
                         f"tanh and relu; this net has {', '.join(map(repr, model.activations))}")
    numbers = model.task.kind == "numbers"
    if model.output not in (("identity", "exp") if numbers else ("softmax", "sigmoid")):
        raise ValueError(f"to_sklearn: scikit-learn has no output {model.output!r}")
    options = {"hidden_layer_sizes": model.sizes[1:-1], "activation": names[kinds.pop()] if kinds else "relu"}
    if model.output == "exp":
        options["loss"] = "poisson"
    estimator = (MLPRegressor if numbers else MLPClassifier)(**options)
    layers = scaled_layers(model)
    estimator.coefs_, estimator.intercepts_ = [w.copy() for w, _, _ in layers], [b.copy() for _, b, _ in layers]
    estimator.n_features_in_, estimator.n_outputs_ = model.sizes[0], model.sizes[-1]
    estimator.n_layers_, estimator.out_activation_ = len(model.sizes), names[model.output]
    estimator.n_iter_, estimator.t_, estimator.loss_curve_ = 0, 0, []
    if not numbers:
        outputs = model.sizes[-1]
        labels = np.vstack([np.zeros(outputs, int), np.ones(outputs, int)]) if model.classes is None else model.classes
        estimator._label_binarizer = LabelBinarizer().fit(labels)
        estimator.classes_ = estimator._label_binarizer.classes_
    return estimator
