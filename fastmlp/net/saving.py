"""Model files: safetensors with a JSON header. `loading` reads them, `header` checks what they say, `files` has what
is common to all files.

Tensors: ``layers.0.weight`` (n_in, n_out), ``layers.0.bias`` (n_out,), ``layers.1.weight``, ...; and where the model
scales its input itself (`scaling.InputScaling`) ``input.center``, ``input.factor`` (features,), which may be float64 in
a float32 net; and where it has an offset ``output.offset`` (outputs,) float64.
Header: one JSON object under the key "fastmlp" with format, library, sizes, activations, output, loss, loss_parameter,
classes, flat, scale, clip (null without input scaling), spread, feature_names, dropout; and under "crc32" the checksum
of that header and all tensors.
Format 1 had no checksum, format 2 no loss_parameter, clip and spread. Every version reads all formats up to its own.
"""
import json

import numpy as np

from ..files import UNREADABLE, brief, made_by, refusal, to_bytes, write_atomically
from .header import check_tensors, checked_header, classes_to_json


def save(model, path):
    """Write `model` to `path`, atomically."""
    tensors, header = contents(model)
    write_atomically(path, to_bytes(tensors, "fastmlp", header | made_by()))


def contents(model):
    """(tensors, header) that hold `model` as it is now: what `model_from` takes. ValueError for what it would refuse.
    """
    _, weights, biases = model.arrays()
    header = {
        "sizes": model.sizes,
        "activations": model.activations, "output": model.output, "loss": model.loss, "flat": model.task.flat,
        "classes": classes_to_json(model.classes), "scale": model.scale, "feature_names": model.feature_names,
        "dropout": model.dropout, "loss_parameter": model.task.loss_parameter, "spread": model.spread,
        "clip": None if model.scaling is None else model.scaling.clip,
    }
    tensors = {f"layers.{l}.{kind}": np.ascontiguousarray(array)
               for kind, arrays in (("weight", weights), ("bias", biases))
               for l, array in enumerate(arrays)}
    if model.scaling is not None:
        tensors |= {"input.center": model.scaling.center, "input.factor": model.scaling.factor}
    if model.offset is not None:
        tensors["output.offset"] = model.offset
    try:
        check_tensors(tensors, checked_header(json.loads(json.dumps(header))))
    except UNREADABLE as error:
        raise refusal(f"this model cannot be saved, and nothing was written, as no file of it could be loaded: {error}"
                      ) from brief(error)
    return tensors, header
