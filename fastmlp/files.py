"""Model files: safetensors with a JSON header. Reading one never runs code, and believes nothing it has not checked.

Tensors: ``layers.0.weight`` (n_in, n_out), ``layers.0.bias`` (n_out,), ``layers.1.weight``, ...; and where the model
scales its input itself (`scaling.InputScaling`) ``input.center``, ``input.factor`` (features,).
Header: one JSON object under the key "fastmlp" with format, library, sizes, activations, output, loss, loss_parameter,
classes, flat, scale, clip (null without input scaling), spread, feature_names, dropout; and under "crc32" the checksum
of that header and all tensors.
Format 1 had no checksum, format 2 no loss_parameter, clip and spread. Every version reads all formats up to its own.
"""
import contextlib
import json
import os
import re
import threading
import zlib
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from . import checks
from .kernels import activations as act
from .model import MLP, OUTPUT_OF_LOSS, task_of_output
from .scaling import InputScaling

FORMAT = 3
MOST_LABEL_BYTES = 1 << 28
# What `dtype.str` is of labels: NumPy would read a whole language of commas, counts and brackets.
LABEL_DTYPE = re.compile(r"[<>|]?[biufUS][0-9]{1,9}")
# What reading a file that is not what it should be may raise.
UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)


def save(model, path):
    """Write `model` to `path`, whole or not at all."""
    tensors, header = contents(model)
    write_whole(Path(path), to_bytes(tensors, "fastmlp", header | made_by()))


def made_by():
    """What every header starts with: the format, and who wrote it."""
    from . import __version__
    return {"format": FORMAT, "library": f"fastmlp {__version__}"}


def contents(model):
    """(tensors, header) that hold `model`: what `model_from` takes."""
    header = {
        "sizes": model.sizes,
        "activations": model.activations, "output": model.output, "loss": model.loss, "flat": model.task.flat,
        "classes": _classes_to_json(model.classes), "scale": model.scale, "feature_names": model.feature_names,
        "dropout": model.dropout, "loss_parameter": model.task.loss_parameter, "spread": model.spread,
        "clip": None if model.scaling is None else model.scaling.clip,
    }
    tensors = {f"layers.{l}.{kind}": np.ascontiguousarray(array)
               for kind, arrays in (("weight", model.weights), ("bias", model.biases))
               for l, array in enumerate(arrays)}
    if model.scaling is not None:
        tensors |= {"input.center": model.scaling.center, "input.factor": model.scaling.factor}
    return tensors, header


def to_bytes(tensors, key, header):
    """A safetensors file of `tensors`, with `header` as JSON under `key` and the checksum of both."""
    from safetensors.numpy import save as safetensors_bytes
    text = json.dumps(header)
    return safetensors_bytes(tensors, metadata={key: text, "crc32": checksum(text, tensors)})


def checksum(text, tensors):
    """CRC-32 of the header's text and of the tensors in the order of their names: text of 8 hexadecimal digits."""
    crc = zlib.crc32(text.encode())
    for name in sorted(tensors):
        crc = zlib.crc32(np.ascontiguousarray(tensors[name]).reshape(-1).view(np.uint8), crc)
    return f"{crc:08x}"


def write_whole(path, content):
    """Put `content` (bytes) at `path`, first into a file beside it, then renamed: no reader ever meets half a file,
    and killed at whatever moment, the old file or the new one is there."""
    beside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


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
    return read_whole(path, "fastmlp", model_from)


def read_whole(path, key, build):
    """build(tensors, header) of the file at `path` that has its header under `key`; every error names the file."""
    from safetensors import SafetensorError, safe_open
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no model file at {path}" + (": it is a folder" if path.is_dir() else ""))
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if key not in metadata:
                hint = "; fastmlp.Ensemble.load reads it" if "fastmlp_ensemble" in metadata else ""
                raise ValueError(f"its header has no {key!r} entry{hint}")
            header = json.loads(metadata[key])
            _check_format(header)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        built = build(tensors, header)
        if (header["format"] > 1 or "crc32" in metadata) and metadata["crc32"] != checksum(metadata[key], tensors):
            raise ValueError("it is damaged: its checksum is not that of its content")
    except (SafetensorError, *UNREADABLE) as error:
        raise ValueError(f"{path} is not a model file that this version of fastmlp can read: {error}") from error
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise ValueError(f"{path} is damaged: it holds numbers that are not finite")
    return built


def _check_format(header):
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    if type(header.get("format")) is not int or not 1 <= header["format"] <= FORMAT:
        raise ValueError(f"it has format {header.get('format')!r} (written by {header.get('library', 'unknown')}), "
                         f"this version reads formats 1 to {FORMAT}; upgrade fastmlp")


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
        model.scaling = InputScaling(tensors["input.center"], tensors["input.factor"], header["clip"])
    return model


def _checked(header):
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
    if tensors.keys() != wanted.keys():
        raise ValueError(f"it holds the tensors {sorted(tensors)}, its sizes ask for {sorted(wanted)}")
    kinds = {tensor.dtype for tensor in tensors.values()}
    if kinds not in ({np.dtype(np.float32)}, {np.dtype(np.float64)}):
        raise ValueError(f"its tensors have dtypes {sorted(map(str, kinds))}, where one of float32 and float64 was "
                         "expected")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name]:
            raise ValueError(f"{name} has shape {tensor.shape}, its sizes ask for {wanted[name]}")


def _classes_to_json(classes):
    if classes is None:
        return None
    values = np.char.decode(classes, "latin-1") if classes.dtype.kind == "S" else classes
    return {"dtype": classes.dtype.str, "values": values.tolist()}


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
