"""Model files, read: nothing in one is believed unchecked. Format: `saving`; checks: `header`."""
from ..files import read_checked
from ..input.scaling import InputScaling
from .header import check_tensors, checked_header
from .model import MLP


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
    header = checked_header(header)
    check_tensors(tensors, header)
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
