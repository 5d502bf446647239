"""Scaling inside the model: inputs by robust scale and smooth clip, numbers to predict by a power of two.

Inputs (RealMLP, Holzmüller et al. 2024, arXiv 2407.04491), column by column, with the median and the quartiles of the
rows trained on:
    s = (x - median) · factor;   x' = s / √(1 + (s / 3)²), which is near s for small s and never beyond ±3
    factor = 1 / (upper - lower quartile); 2 / (max - min) where the quartiles are equal; 0 where the column is constant
x is centred and scaled in its own precision, where that is more than the net's: 1.7e9 seconds and 1.7e9 + 1 are one
number in float32. Only x' is rounded to the net's dtype.

Targets: the net learns y / spread, where spread is the power of two next to y's standard deviation, and its last biases
start at the mean of y. Multiplying the last layer by a power of two is exact: the model's own weights predict y itself.
Where the net's dtype cannot hold the mean and y's differences in one number (float32: beyond 512 spreads), the net
learns (y - offset) / spread with the mean of y as `offset`, which predictions have added in float64.
"""
from dataclasses import dataclass

import numpy as np

from .arrays import on_host
from .stored import StoredRows

CLIP = 3.0
FARTHEST = 1e9                   # quartile distances away x' is CLIP to the last bit, and nothing overflows
RESOLUTION = 2.0 ** -14          # of a spread, or a quartile distance: what may be lost to rounding
_BLOCK = 1 << 21                 # numbers sorted, or scaled, at a time


@dataclass(frozen=True, eq=False)
class InputScaling:
    """x' = s / √(1 + (s / clip)²) with s = (x - center) · factor held within ±1e9.

    center, factor : (features,) finite, float64 if the rows trained on had more than float32's precision
    clip : float above 0, which |x'| does not pass
    dtype : of x'; None for that of factor
    """

    center: np.ndarray
    factor: np.ndarray
    clip: float = CLIP
    dtype: np.dtype | None = None

    def __post_init__(self):
        object.__setattr__(self, "dtype", np.dtype(self.dtype or self.factor.dtype))

    def __call__(self, x):
        """x (n, features) of any numeric dtype -> x' (n, features), new."""
        out, rows = np.empty(x.shape, self.dtype), self.rows_at_a_time
        for start in range(0, len(x), rows):
            out[start:start + rows] = self._scaled(x[start:start + rows])
        return out

    @property
    def rows_at_a_time(self):
        """Rows that are scaled together, so that what is computed on the way is small."""
        return max(1, _BLOCK // len(self.center))

    @property
    def needs_float64(self):
        """Whether x rounded to float32 would be off by more than a fraction of the quartiles' distance."""
        with np.errstate(over="ignore"):
            shift = np.abs(self.center.astype(np.float64)) * self.factor * np.finfo(np.float32).eps
        return bool((shift > RESOLUTION).any())

    def _scaled(self, x):
        kind = np.result_type(np.float64 if _is_long(x) else x.dtype, self.factor.dtype, self.dtype)
        with np.errstate(all="ignore"):
            s = _minus(x, self.center.astype(kind, copy=False))
            s *= self.factor
        np.clip(s, -FARTHEST, FARTHEST, out=s)
        divisor = s / self.clip
        divisor *= divisor
        divisor += 1
        s /= np.sqrt(divisor, out=divisor)
        return s


def _is_long(x):
    """Whether x are integers that float64 may not hold."""
    return x.dtype.kind in "iu" and x.dtype.itemsize == 8


def _minus(x, center):
    """x - center in the dtype of `center`; of 64-bit integers without rounding them first, as float64 would."""
    if not _is_long(x):
        s = x.astype(center.dtype)
        s -= center
        return s
    s = (x >> 32).astype(center.dtype)
    s *= 2.0 ** 32
    s -= center
    s += x & 0xffffffff
    return s


def robust_scaling(x, rows, dtype, n=None, gather=np.asarray):
    """The `InputScaling` of the rows `rows` (indices) of x, for a net of this dtype.

    n, gather : where several processes have rows, how many all have, and what gives some columns of all these rows
    """
    center, factor = np.empty((2, x.shape[1]), np.float64)
    width = max(1, _BLOCK // (n or len(rows)))
    for start in range(0, x.shape[1], width):
        columns = slice(start, start + width)
        values, base = gather(x[rows, columns]), 0.0
        kind = np.result_type(np.float64 if _is_long(values) else values.dtype, dtype)
        if _is_long(values):
            base = values.min(axis=0)
            values, base = (values.astype(np.uint64) - base.astype(np.uint64)).astype(np.float64), base.astype(float)
        with np.errstate(over="ignore", invalid="ignore"):
            parts = np.percentile(values, (0, 25, 50, 75, 100), axis=0).astype(np.float64)
            if not np.isfinite(parts).all():     # between two quartiles at opposite ends of a dtype
                parts = np.percentile(values.astype(np.float64) / 4, (0, 25, 50, 75, 100), axis=0) * 4
            low, lower, middle, upper, high = parts
            span = np.where(upper > lower, upper - lower, high / 2 - low / 2)
        if not np.isfinite(span).all():
            wrong = start + int(np.flatnonzero(~np.isfinite(span))[0])
            raise ValueError(f"X: the values of column {wrong} are too far apart for float64: scale it")
        center[columns] = base + middle
        factor[columns] = np.divide(1, span, out=np.zeros_like(span), where=span > 0)
    limits = np.finfo(kind)
    if ((factor > limits.max) | ((factor > 0) & (factor < limits.tiny))).any():
        kind = np.dtype(np.float64)
    return InputScaling(center.astype(kind), np.minimum(factor, np.finfo(kind).max).astype(kind), dtype=dtype)


# How a loss grows with the scale of y; the others have no scale (classes) or a link of their own.
_DEGREE = {"squared_error": 2, "huber": 2, "absolute_error": 1, "quantile": 1}


def scale_for(model, rows, own_rows, ranks):
    """Give a new `model` the scaling of the rows it will be trained on, and its last biases the mean of y.

    own_rows : those that this process has, as indices into its `rows`; `ranks` sums and gathers over all
    """
    _in_memory(rows.x)
    n = ranks.total(len(own_rows))
    model.scaling, model.scale = robust_scaling(on_host(rows.x), own_rows, model.dtype, n, ranks.gather), 1.0
    if model.loss in _DEGREE:
        targets = on_host(rows.targets)[own_rows].astype(np.float64)
        mean = ranks.total(targets.sum(axis=0)) / n
        deviation = _deviation(targets - mean, n * targets.shape[1], ranks.total)
        model.spread = _spread(deviation, model)
        limits = np.finfo(model.dtype)
        if (np.abs(mean) * limits.eps > RESOLUTION * model.spread).any():
            model.offset, mean = mean, 0.0
        model.weights[-1][:] *= model.spread  # drawn for the net inside
        model.biases[-1][:] = mean


def scaled_input(model, x):
    """X of the net inside `model`: what its first layer reads."""
    if model.scaling is None:
        return x
    _in_memory(x)
    return model.scaling(on_host(x))


def _deviation(differences, count, total):
    """√(Σ d² / count) in float64, also where d² is beyond its range."""
    peak = total(float(np.abs(differences).max(initial=0)))
    if not 0 < peak < np.inf:
        return peak
    peak = 2.0 ** np.floor(np.log2(peak))        # dividing by a power of two is exact
    return float(peak * np.sqrt(total(((differences / peak) ** 2).sum()) / count))


def _spread(deviation, model):
    """The power of two next to the deviation of y; ValueError where weights of that size, or losses, cannot be held."""
    if deviation == 0:
        return 1.0
    limits, half = np.finfo(model.dtype), 2.0 ** 500  # the square of a loss's unit is finite
    least, most = max(float(limits.tiny) * 2.0 ** 24, 1 / half), min(float(limits.max) / 8, half)
    if not least <= deviation <= most:
        raise ValueError(f"y varies by {deviation:.3g}, too {'much' if deviation > most else 'little'} for dtype "
                         f"{model.dtype} (from {least:.0e} to {most:.0e}): scale y")
    return 2.0 ** round(np.log2(deviation))


def scaled_targets(model, targets):
    """(y - offset) / spread in float64, then rounded to the net's dtype."""
    if model.task.kind != "numbers":
        return targets
    if model.offset is None and targets.dtype == model.dtype:
        return targets if model.spread == 1 else targets * targets.dtype.type(1 / model.spread)
    exact = on_host(targets).astype(np.float64)
    if model.offset is not None:
        exact -= model.offset
    exact /= model.spread
    with np.errstate(over="ignore"):
        rounded = exact.astype(model.dtype)
    if not np.sqrt(np.mean((rounded - exact) ** 2)) < 0.01:  # of the unit that the net learns in
        raise ValueError(f"y is too far from what the model was trained on for dtype {model.dtype}, up to "
                         f"{np.abs(exact).max():.3g} of its spreads: train a new model on it")
    return rounded


def _in_memory(x):
    if isinstance(x, StoredRows):
        raise ValueError("scaling='robust' (and preset='tabular') needs X in memory, but it is read in windows: scale "
                         "the columns of the file itself, or leave window_rows out")


def scaled_parameters(model):
    """The parameters of the net inside `model`: the last layer predicts y / spread."""
    parameters = model.parameters.copy()
    parameters[_last_layer(model)] *= 1 / model.spread
    return parameters


def publish(model, parameters):
    """Make the parameters of the net inside those of `model`, all at once. The array is the model's from then on."""
    parameters[_last_layer(model)] *= model.spread
    model.publish(parameters)


def scaled_loss_parameter(model):
    """δ of the Huber loss is in units of y."""
    return model.task.loss_parameter / (model.spread if model.loss == "huber" else 1)


def loss_scale(model):
    """What a loss of scaled rows is multiplied by to be that of the rows themselves."""
    return model.spread ** _DEGREE.get(model.loss, 0)


def _last_layer(model):
    return slice(model.n_parameters - model.weights[-1].size - model.biases[-1].size, None)
