"""Trained nets from other libraries: PyTorch, Keras, scikit-learn; `export.libraries` is the way there.

What a net here cannot express is refused, never approximated.
"""
from dataclasses import replace

import numpy as np

from . import checks
from .export.libraries import KERAS_NAMES, SKLEARN_NAMES, library
from .input.arrays import tensor_on_host
from .kernels import activations as act
from .losses import loss_of
from .net.model import MLP, OUTPUT_OF_LOSS

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
            raise ValueError(f"{what}: dropout of the inputs is not supported")
        self.dropout[-1] = float(rate)

    def build(self, output, classes):
        if any(activation == "softmax" for _, _, activation in self.layers[:-1]):
            raise ValueError("softmax is an activation of the last layer only")
        if self.dropout and self.dropout[-1]:
            raise ValueError("dropout after the last dense layer is not supported")
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

    The weights are those that the module computes with in evaluation, also under weight_norm, spectral_norm, other
    parametrizations and pruning. Half precision becomes float32, which holds it exactly.

    Raises
    ------
    ValueError for any other layer, a module with hooks of any other kind, or an order of layers that is not a
    multi-layer perceptron.
    """
    stack = _Stack()

    def visit(part):
        kind, hooks = _torch_kind(part), _torch_hooks(part)
        if kind == "Sequential":
            for child in part:
                visit(child)
        elif kind == "Linear":
            w, b = _torch_array(part, "weight", hooks).T, _torch_array(part, "bias", hooks)
            stack.dense(w, np.zeros(w.shape[1], w.dtype) if b is None else b)
        elif kind in _TORCH_NAMES and (kind != "Softmax" or part.dim in (1, -1)):
            stack.activation(_TORCH_NAMES[kind], kind)
        elif kind == "LeakyReLU" and part.negative_slope == 0.01:
            stack.activation("leaky_relu", kind)
        elif kind == "GELU" and part.approximate == "none":
            stack.activation("gelu", kind)
        elif kind == "Dropout":
            stack.drop(part.p, kind)
        elif kind not in ("Flatten", "Identity"):
            raise ValueError(f"from_torch does not support {part!r}: its layers are Linear, {', '.join(_TORCH_NAMES)} "
                             "(over columns), LeakyReLU(0.01), GELU(approximate='none'), Dropout, Flatten, Identity")
        if hooks:
            raise ValueError(f"from_torch: {part!r} has the hook {next(iter(hooks))!r}, which may change what it "
                             "computes; remove it first")

    visit(module)
    return stack.build(output, classes)


def _torch_kind(part):
    """The class of a module of PyTorch's own; of one with parametrizations, the class that it was."""
    kind = type(part)
    if hasattr(part, "parametrizations") and kind.__name__ == f"Parametrized{kind.__base__.__name__}":
        kind = kind.__base__
    return kind.__name__ if kind.__module__.startswith("torch.nn.modules.") else None


def _torch_hooks(part):
    """The hooks that PyTorch runs before and after the module's own `forward`."""
    return [*part._forward_pre_hooks.values(), *part._forward_hooks.values()]


def _torch_array(part, name, hooks):
    """The weight or bias that the module computes with in evaluation; a hook that makes it is taken off `hooks`.

    With parametrizations (weight_norm, spectral_norm, ...) the attribute itself computes it. Under the older
    functions of the same names, and pruning, a hook renews it before each forward pass: until then it is stale.
    """
    torch = library("torch")
    modes = [(each, each.training) for each in part.modules()]
    try:
        for each, _ in modes:
            each.training = False                # spectral norms iterate in training
        with torch.no_grad():
            value = getattr(part, name)
            for hook in [hook for hook in hooks if name in (getattr(hook, "name", None),
                                                            getattr(hook, "_tensor_name", None))]:
                kind = type(hook).__name__ if type(hook).__module__.startswith("torch.nn.utils.") else None
                if kind == "SpectralNorm":
                    value = hook.compute_weight(part, do_power_iteration=False)
                elif kind == "WeightNorm":
                    value = hook.compute_weight(part)
                elif hasattr(hook, "apply_mask") and kind is not None:
                    value = hook.apply_mask(part)
                else:
                    continue
                hooks.remove(hook)
    finally:
        for each, training in modes:
            each.training = training
    return None if value is None else tensor_on_host(value)


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
            raise ValueError(f"from_keras does not support the activation {name!r} (in {where}), "
                             f"but {', '.join(KERAS_NAMES)}")
        return KERAS_NAMES[name]

    for layer in model.layers:
        kind, config = type(layer).__name__, layer.get_config()
        if kind == "Dense":
            w, *bias = weights = layer.get_weights()
            if len(weights) != 1 + bool(layer.use_bias) or w.dtype.kind != "f":
                raise ValueError(f"from_keras: {layer.name} has more than a kernel and a bias (quantized or LoRA "
                                 "weights?), which fastmlp does not support; merge them first")
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
            raise ValueError(f"from_keras does not support the layer {kind} ({layer.name}), but Dense, Activation, "
                             "ReLU, LeakyReLU(0.01), Softmax, Dropout and Flatten")
    return stack.build(output, classes)


# ------------------------------------------------------------------------------- scikit-learn


def from_sklearn(estimator):
    """An MLP with the weights of a fitted `MLPClassifier` or `MLPRegressor`, scikit-learn's or ours.

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
    output, layers = SKLEARN_NAMES[estimator.out_activation_], len(estimator.coefs_) - 1
    counted = output == "softmax" or (output == "sigmoid" and estimator.n_outputs_ == 1)
    given = estimator.activation
    hidden = [given] * layers if isinstance(given, str) else list(given)
    unknown = [name for name in hidden if name not in SKLEARN_NAMES and name not in act.TRAINABLE]
    if unknown or len(hidden) != layers:
        raise ValueError(f"from_sklearn: activation={given!r} is not what {layers} hidden layers can have")
    model = MLP.from_parameters(estimator.coefs_, estimator.intercepts_,
                                activation=[SKLEARN_NAMES.get(name, name) for name in hidden], output=output,
                                classes=estimator.classes_ if kind == "MLPClassifier" and counted else None)
    if kind == "MLPRegressor":
        loss, parameter = loss_of(estimator.loss)
        if OUTPUT_OF_LOSS.get(loss) != output:
            raise ValueError(f"from_sklearn: loss={estimator.loss!r} is not what this net was trained by, which has "
                             f"output {output!r}")
        model.task = replace(model.task, loss=loss, loss_parameter=parameter)
    rates = getattr(estimator, "dropout", 0.0)   # ours has it
    model.dropout = checks.per_layer("dropout", rates, layers, lambda name, rate: float(rate))
    return model
