"""A trained net as a model of PyTorch, Keras or scikit-learn; `importers` is the way back.

Each function needs its library only when it is called. What the other side cannot express is refused, never
approximated: the converted net gives the same outputs up to rounding.
"""
import importlib

import numpy as np

# Names of activations there -> here.
KERAS_NAMES = {"linear": "identity", "relu": "relu", "tanh": "tanh", "sigmoid": "sigmoid", "gelu": "gelu",
                "silu": "silu", "softmax": "softmax", "exponential": "exp"}
SKLEARN_NAMES = {"identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu", "softmax": "softmax",
                  "exp": "exp"}


def library(name, extra=None):
    """The module `name`, or an ImportError that says how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        how = f"pip install 'fastmlp[{extra}]'" if extra else f"pip install {name}"
        raise ImportError(f"this conversion needs {name}, which cannot be imported ({error}): {how}") from error


def scaled_layers(model):
    """[(W, b, activation)] of every layer, the input's scale multiplied into the first W."""
    if model.scaling is not None:
        raise ValueError("this net scales its input by itself (scaling='robust'), which the layers of other libraries "
                         "cannot: set model.scaling = None in a copy, convert that, and pass it model.scaling(X)")
    if model.offset is not None:
        raise ValueError("this net adds an offset to its outputs in float64, which the layers of other libraries "
                         "cannot: set model.offset = None in a copy, convert that, and add model.offset to its outputs")
    _, weights, biases = model.arrays()
    layers = list(zip(weights, biases, (*model.activations, model.output), strict=True))
    if model.scale != 1:
        w, b, activation = layers[0]
        layers[0] = (w * model.scale).astype(w.dtype), b, activation
    return layers


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


def to_keras(model):
    """The net as a `keras.Sequential`: `MLP.to_keras`."""
    keras = library("keras")
    names = {ours: theirs for theirs, ours in KERAS_NAMES.items()}
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


def to_sklearn(model):
    """The net as a fitted scikit-learn estimator: `MLP.to_sklearn`."""
    library("sklearn", "sklearn")
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.preprocessing import LabelBinarizer

    names = {ours: theirs for theirs, ours in SKLEARN_NAMES.items()}
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
