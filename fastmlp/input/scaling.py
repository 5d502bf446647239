"""Scaling inside the model: inputs by robust scale and smooth clip, numbers to predict by a power of two.

Inputs (RealMLP, Holzmüller et al. 2024, arXiv 2407.04491), column by column, with the median and the quartiles of the
rows trained on:
    s = (x - median) · factor;   x' = s / √(1 + (s / 3)²), which is near s for small s and never beyond ±3
    factor = 1 / (upper - lower quartile); 2 / (max - min) where the quartiles are equal; 0 where the column is constant
Targets: the net learns y / spread, where spread is the power of two next to y's standard deviation, and its last biases
start at the mean of y. Multiplying the last layer by a power of two is exact: the model's own weights predict y itself.
"""
from dataclasses import dataclass, replace

import numpy as np

from .arrays import on_host
from .stored import StoredRows

CLIP = 3.0
FARTHEST = 1e9                   # quartile distances away x' is CLIP to the last bit, and nothing overflows
_BLOCK = 1 << 22                 # numbers sorted at a time


@dataclass(frozen=True, eq=False)
class InputScaling:
    """x' = s / √(1 + (s / clip)²) with s = (x - center) · factor held within ±1e9.

    center, factor : (features,) in the net's dtype, finite
    clip : float above 0, which |x'| does not pass
    """

    center: np.ndarray
    factor: np.ndarray
    clip: float = CLIP

    def __call__(self, x):
        """x (n, features) of any numeric dtype -> x' (n, features), new, in the dtype of `center`."""
        s = x.astype(self.center.dtype)
        with np.errstate(all="ignore"):
            s -= self.center
            s *= self.factor
        np.clip(s, -FARTHEST, FARTHEST, out=s)
        divisor = s / self.clip
        divisor *= divisor
        divisor += 1
        s /= np.sqrt(divisor, out=divisor)
        return s


def robust_scaling(x, rows, dtype, n=None, gather=np.asarray):
    """The `InputScaling` of the rows `rows` (indices) of x.

    n, gather : where several processes have rows, how many all have, and what gives some columns of all these rows
    """
    center, factor = np.empty((2, x.shape[1]), np.float64)
    width = max(1, _BLOCK // (n or len(rows)))
    for start in range(0, x.shape[1], width):
        columns = slice(start, start + width)
        parts = np.percentile(gather(x[rows, columns]), (0, 25, 50, 75, 100), axis=0).astype(np.float64)
        low, lower, middle, upper, high = parts
        span = np.where(upper > lower, upper - lower, (high - low) / 2)
        center[columns] = middle
        factor[columns] = np.divide(1, span, out=np.zeros_like(span), where=span > 0)
    largest = np.finfo(dtype).max
    return InputScaling(center.astype(dtype), np.minimum(factor, largest).astype(dtype))


# How a loss grows with the scale of y; the others have no scale (classes) or a link of their own.
_DEGREE = {"squared_error": 2, "huber": 2, "absolute_error": 1, "quantile": 1}


def scale_for(model, rows, own_rows, ranks):
    """Give a new `model` the scaling of the rows it will be trained on, and its last biases the mean of y.

    own_rows : those that this process has, as indices into its `rows`; `ranks` sums and gathers over all
    """
    _in_memory(rows)
    n = ranks.total(len(own_rows))
    model.scaling, model.scale = robust_scaling(on_host(rows.x), own_rows, model.dtype, n, ranks.gather), 1.0
    if model.loss in _DEGREE:
        targets = on_host(rows.targets)[own_rows]
        mean = ranks.total(targets.sum(axis=0, dtype=np.float64)) / n
        deviation = float(np.sqrt(ranks.total(((targets - mean) ** 2).sum()) / (n * targets.shape[1])))
        model.spread = 2.0 ** round(np.log2(deviation)) if deviation > 0 else 1.0
        model.weights[-1][:] *= model.spread  # drawn for the net inside
        model.biases[-1][:] = mean


def scaled(model, rows):
    """`rows` as the net inside `model` is trained on them."""
    _in_memory(rows)
    x = rows.x if model.scaling is None else model.scaling(on_host(rows.x))
    targets = rows.targets if model.spread == 1 else rows.targets * rows.targets.dtype.type(1 / model.spread)
    return replace(rows, x=x, targets=targets)


def _in_memory(rows):
    if isinstance(rows.x, StoredRows):
        raise ValueError("scaling='robust' (and preset='tabular') needs X in memory, but it is read in windows: scale "
                         "the columns of the file itself, or leave window_rows out")


def scaled_parameters(model):
    """The parameters of the net inside `model`: the last layer predicts y / spread."""
    parameters = model.parameters.copy()
    parameters[_last_layer(model)] *= 1 / model.spread
    return parameters


def take_up(model, parameters):
    """Copy the parameters of the net inside into `model`."""
    np.copyto(model.parameters, parameters)
    model.parameters[_last_layer(model)] *= model.spread


def scaled_loss_parameter(model):
    """δ of the Huber loss is in units of y."""
    return model.task.loss_parameter / (model.spread if model.loss == "huber" else 1)


def loss_scale(model):
    """What a loss of scaled rows is multiplied by to be that of the rows themselves."""
    return model.spread ** _DEGREE.get(model.loss, 0)


def _last_layer(model):
    return slice(model.n_parameters - model.weights[-1].size - model.biases[-1].size, None)
