"""What the calls of `training` ask of their arguments: plain Python, before anything touches raw memory."""
import numpy as np

from ... import activations as codes
from ... import losses as loss_codes
from ... import update_rules
from ...flat import n_parameters


def as_tuple(name, value):
    if not isinstance(value, list | tuple | np.ndarray):
        raise TypeError(f"{name} must be a sequence, got {value!r}")
    return tuple(value)


def check_net(parameters, sizes, activations, n_threads):
    """The net is one: ValueError or TypeError where parameters, sizes and activations do not fit together."""
    check_layers(sizes, activations)
    check_flat("parameters", parameters, n_parameters(sizes))
    check_threads(n_threads)


def check_threads(n_threads):
    if n_threads is not None and n_threads < 1:
        raise ValueError(f"n_threads must be None or at least 1, got {n_threads}")


def check_layers(sizes, activations):
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"sizes must be at least two numbers of at least 1, got {sizes}")
    if len(activations) != len(sizes) - 1:
        raise ValueError(f"activations must be {len(sizes) - 1} codes, one a layer, got {activations!r}")
    for layer, code in enumerate(activations):
        record = codes.TABLE.record(code, f"activations[{layer}]")
        if not record.elementwise and layer < len(activations) - 1:
            raise ValueError(f"activations[{layer}] must not be {record.name}, which is for the last layer")


def check_trainable(activations):
    """Every layer can be trained: its activation has a derivative."""
    for layer, code in enumerate(activations):
        record = codes.TABLE.record(code, f"activations[{layer}]")
        if not record.trainable:
            raise ValueError(f"activations[{layer}] must have a derivative to be trained, and {record.name} has none")


def check_recipe(sizes, dropout, loss, rule, hyper, batch_size):
    if len(dropout) != len(sizes) - 1 or not all(0 <= rate < 1 for rate in dropout):
        raise ValueError(f"dropout must be {len(sizes) - 1} rates of at least 0 and below 1, got {dropout!r}")
    loss_codes.TABLE.record(loss, "loss")
    update_rules.TABLE.record(rule, "rule")
    if np.shape(hyper) != (4,):
        raise ValueError(f"hyper must be 4 numbers, got shape {np.shape(hyper)}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")


def check_flat(name, array, size, dtype=None, written=False):
    """`array` is the flat layout of all parameters, or empty where `size` is 0."""
    if getattr(array, "dtype", None) not in ((np.float32, np.float64) if dtype is None else (dtype,)):
        raise TypeError(f"{name} must be an array of {dtype or 'float32 or float64'}, "
                        f"got {getattr(array, 'dtype', type(array).__name__)}")
    if array.shape != (size,):
        raise ValueError(f"{name} must have shape {(size,)}, got {array.shape}")
    if written and not (array.flags.writeable and array.flags.c_contiguous):
        raise ValueError(f"{name} is written: it must be writable and contiguous")


def check_rows(x, n_in, dtype):
    if not isinstance(x, np.ndarray) or x.ndim != 2 or x.shape[1] != n_in:
        raise ValueError(f"x must be a two-dimensional array of {n_in} columns, "
                         f"got {f'shape {x.shape}' if isinstance(x, np.ndarray) else type(x).__name__}")
    if x.dtype != np.uint8 and x.dtype != dtype:
        raise TypeError(f"x must be uint8 or {dtype}, got {x.dtype}")


def check_labels(rows, n_out, loss, labels, targets, weights, read=None):
    """Labels or targets for every row, as the loss needs them.

    read : the rows whose labels will be read; None for all
    """
    check_integers("labels", labels)
    wanted = [(rows, n_out)]
    if loss == loss_codes.SOFTMAX_CROSS_ENTROPY and labels.size:
        if labels.shape != (rows,):
            raise ValueError(f"labels must be one for each of the {rows} rows, got shape {labels.shape}")
        wanted = [(0, 0), (0, n_out)]
    check_indices("labels", labels if read is None or labels.shape != (rows,) else labels[read], n_out)
    if targets.shape not in wanted and rows:
        raise ValueError(f"targets must have shape {wanted[0]}, got {targets.shape}")
    if weights.size and weights.shape != (rows,):
        raise ValueError(f"weights must be one for each of the {rows} rows, or none, got shape {weights.shape}")


def check_integers(name, array):
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be one-dimensional whole numbers, got {array.dtype} of shape {array.shape}")


def check_apart(written, read):
    """No array of `written` shares memory with another one there or one of `read`; both are {name: array}."""
    names = [*written, *read]
    for i, (name, array) in enumerate(written.items()):
        for other in names[i + 1:]:
            its = written[other] if other in written else read[other]
            if isinstance(its, np.ndarray) and np.may_share_memory(array, its):
                raise ValueError(f"{name} is written: it must not share memory with {other}")


def check_indices(name, array, count):
    """One-dimensional whole numbers from 0 to `count` - 1."""
    check_integers(name, array)
    if array.size and (array.min() < 0 or array.max() >= count):
        raise ValueError(f"{name} must lie in 0 .. {count - 1}, got {array.min()} to {array.max()}")
