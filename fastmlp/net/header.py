"""What a model file says of a net, checked: by `loading`, which believes nothing of it, and by `saving`, which writes
nothing that loading would refuse."""
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np

from .. import checks
from ..kernels import activations as act
from .tasks import OUTPUT_OF_LOSS, task_of_output

# Labels in memory: NumPy pads text to the longest, and to the width of the y trained on. A file of a few bytes may ask
# for LABEL_BYTES, a larger one for as much more as its labels are long.
LABEL_BYTES, BYTES_OF_A_CHARACTER = 1 << 24, 256
# What `dtype.str` is of labels: NumPy would read a whole language of commas, counts and brackets.
_LABEL_DTYPE = re.compile(r"[<>|]?([biufUS])([1-9][0-9]{0,8})")
_LABEL_TYPES = {"b": bool, "i": int, "u": int, "f": (int, float), "U": str, "S": str}


def checked_header(header):
    """`header` with every entry checked, and those that older formats lack."""
    header = dict(header)
    header["sizes"] = sizes = checks.hidden_sizes(header["sizes"])
    hidden = len(sizes) - 2
    if hidden < 0:
        raise ValueError("a net has at least two sizes")
    header["activations"] = checks.per_layer("activations", header["activations"], hidden,
                                             lambda name, value: checks.choice(name, value, act.HIDDEN))
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
        if not isinstance(names, list) or len(names) != sizes[0] or not all(isinstance(name, str) for name in names):
            raise ValueError(f"feature_names must be {sizes[0]} names")
        header["feature_names"] = tuple(names)
    return header


def check_tensors(tensors, header):
    """Names, shapes and dtypes are those that the header's sizes ask for, before a net of these sizes is allocated; and
    all numbers are finite: a net with one that is not predicts nothing."""
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
        if not np.isfinite(tensor).all():
            raise ValueError(f"{name} holds numbers that are not finite")


def classes_to_json(classes):
    if classes is None:
        return None
    values = np.char.decode(classes, "latin-1") if classes.dtype.kind == "S" else classes
    return {"dtype": classes.dtype.str, "values": values.tolist()}


def _classes_from_json(classes):
    if classes is None:
        return None
    known = _LABEL_DTYPE.fullmatch(classes["dtype"])
    if not known:
        raise ValueError(f"labels of dtype {classes['dtype']!r} are not known")
    dtype, values, kind = np.dtype(classes["dtype"]), classes["values"], known[1]
    if not isinstance(values, list) or not all(isinstance(value, _LABEL_TYPES[kind]) for value in values):
        raise TypeError(f"the labels of dtype {dtype} are not all of that kind")
    characters = sum(map(len, values)) if kind in "US" else 0
    if dtype.itemsize * len(values) > max(LABEL_BYTES, BYTES_OF_A_CHARACTER * characters):
        raise ValueError(f"{len(values)} labels of dtype {dtype} take {dtype.itemsize * len(values):,} bytes, more "
                         f"than a model file may hold whose labels have {characters:,} characters")
    if kind == "S":
        values = [value.encode("latin-1") for value in values]
    return np.array(values, dtype=dtype)
