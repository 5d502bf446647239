"""Model files, read: nothing in one is believed unchecked. Format: `saving`."""
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np

from .. import checks
from ..files import read_checked
from ..input.scaling import InputScaling
from ..kernels import activations as act
from .model import MLP, OUTPUT_OF_LOSS, task_of_output

MOST_LABEL_BYTES = 1 << 28
# What `dtype.str` is of labels: NumPy would read a whole language of commas, counts and brackets.
LABEL_DTYPE = re.compile(r"[<>|]?[biufUS][0-9]{1,9}")


def load(path):
    """Read a model that `MLP.save` wrote.

    Parameters
    ----------
    path : str or os.PathLike

    Returns
    -------
    MLP that predicts, evaluates and can be trained on (`fastmlp.train(..., model=model)`); its history is empty.

    Raises
    ------
    FileNotFoundError if there is no such file, ValueError if it is not a model file of ours, is damaged, or was
    written by a later version in a format this one does not know.

    Examples
    --------
    >>> model = fastmlp.MLP.from_parameters([[[12.0], [5.0]]], [[-10.0]], output="sign")
    >>> model.save("unit.safetensors")
    >>> fastmlp.load("unit.safetensors")
    MLP(2-1, sign, 3 parameters, float64)
    """
    return read_checked(path, "fastmlp", model_from)


def model_from(tensors, header):
    """The MLP that `contents` told of; nothing of it is believed unchecked."""
    header = _checked(header)
    _check_tensors(tensors, header)
    model = MLP(header["sizes"], header["activations"], header["output"], dtype=tensors["layers.0.weight"].dtype,
                task=header["task"], scale=header["scale"], feature_names=header["feature_names"],
                dropout=header["dropout"])
    for l, (w, b) in enumerate(zip(model.weights, model.biases, strict=True)):
        w[:] = tensors[f"layers.{l}.weight"]
        b[:] = tensors[f"layers.{l}.bias"]
    model.spread = header["spread"]
    if header["clip"] is not None:
        model.scaling = InputScaling(tensors["input.center"], tensors["input.factor"], header["clip"], model.dtype)
    model.offset = tensors.get("output.offset")
    return model


def _checked(header):
    """`header` with every entry checked, and those that older formats lack."""
    header = dict(header)
    header["sizes"] = sizes = checks.hidden_sizes(header["sizes"])
    hidden = len(sizes) - 2
    if hidden < 0:
        raise ValueError("a net has at least two sizes")
    header["activations"] = checks.per_layer("activations", header["activations"], hidden,
                                             lambda name, value: checks.choice(name, value, act.NAMES[:act.SOFTMAX]))
    header["dropout"] = checks.per_layer("dropout", header["dropout"], hidden,
                                         lambda name, value: checks.real(name, value, minimum=0, below=1))
    checks.choice("output", header["output"], act.NAMES)
    checks.real("scale", header["scale"])
    header["task"] = task_of_output(header["output"], sizes[-1], _classes_from_json(header["classes"]))
    if header["task"].loss != header["loss"] and OUTPUT_OF_LOSS.get(header["loss"]) != header["output"]:
        raise ValueError(f"loss {header['loss']!r} does not belong to output {header['output']!r}")
    if not isinstance(header["flat"], bool):
        raise TypeError("flat must be true or false")
    parameter = checks.real("loss_parameter", header.setdefault("loss_parameter", 0.0), minimum=0)
    header["task"] = replace(header["task"], flat=header["flat"], loss=header["loss"], loss_parameter=parameter)
    header["spread"] = checks.real("spread", header.setdefault("spread", 1.0), above=0)
    if header.setdefault("clip", None) is not None:
        header["clip"] = checks.real("clip", header["clip"], above=0)
    names = header["feature_names"]
    if names is not None:
        if len(names) != sizes[0] or not all(isinstance(name, str) for name in names):
            raise ValueError(f"feature_names must be {sizes[0]} names")
        header["feature_names"] = tuple(names)
    return header


def _check_tensors(tensors, header):
    """Names, shapes and dtypes are those that the header's sizes ask for, before a net of these sizes is allocated."""
    wanted = {}
    for l, (n_in, n_out) in enumerate(pairwise(header["sizes"])):
        wanted |= {f"layers.{l}.weight": (n_in, n_out), f"layers.{l}.bias": (n_out,)}
    if header["clip"] is not None:
        wanted |= {f"input.{name}": (header["sizes"][0],) for name in ("center", "factor")}
    if "output.offset" in tensors:
        wanted["output.offset"] = (header["sizes"][-1],)
    if tensors.keys() != wanted.keys():
        raise ValueError(f"it holds the tensors {sorted(tensors)}, its sizes ask for {sorted(wanted)}")
    kinds = {tensor.dtype for name, tensor in tensors.items() if name.startswith("layers.")}
    others = {tensor.dtype for name, tensor in tensors.items() if not name.startswith("layers.")}
    if not others <= {*kinds, np.dtype(np.float64)} or kinds not in ({np.dtype(np.float32)}, {np.dtype(np.float64)}):
        raise ValueError(f"its tensors have dtypes {sorted(map(str, kinds | others))}, where one of float32 and "
                         "float64 was expected")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name]:
            raise ValueError(f"{name} has shape {tensor.shape}, its sizes ask for {wanted[name]}")


def _classes_from_json(classes):
    if classes is None:
        return None
    if not LABEL_DTYPE.fullmatch(classes["dtype"]):
        raise ValueError(f"labels of dtype {classes['dtype']!r} are not known")
    dtype = np.dtype(classes["dtype"])
    values = classes["values"]
    if dtype.itemsize * len(values) > MOST_LABEL_BYTES:
        raise ValueError(f"{len(values)} labels of dtype {dtype} are more than a model file may hold")
    if dtype.kind == "S":
        values = [value.encode("latin-1") for value in values]
    return np.array(values, dtype=dtype)
