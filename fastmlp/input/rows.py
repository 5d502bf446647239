"""User input, validated once on entry, and the rows the kernels read.

X goes through `arrays`, y through `labels`; here both together: lengths, weights, the scale of images, the split.
"""
import logging
import warnings
from dataclasses import dataclass

import numpy as np

from ..checks import affordable
from . import scaling
from .arrays import as_array, feature_matrix, is_frame, on_host, take, to_float
from .labels import Task, check_resolution, class_row_weights, encode, task_of
from .stored import parts, train_in_windows

log = logging.getLogger("fastmlp")


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of data in the order the kernels take their arrays.

    x : (n, features) uint8 or the training dtype, C-order, NumPy's or CuPy's; or `stored.StoredRows`, read in
        windows
    labels : (n,) int64 class indices, or empty; these and targets may be CuPy's, too
    targets : (n, outputs) in the training dtype, or empty
    weights : (n,) in the training dtype, or empty for all ones
    """

    x: np.ndarray
    labels: np.ndarray
    targets: np.ndarray
    weights: np.ndarray

    def __iter__(self):
        return iter((self.x, self.labels, self.targets, self.weights))

    def __len__(self):
        return len(self.x)

    def take(self, rows):
        return Rows(*(take(array, rows) if array.size else array for array in self))

    def take_labels(self, rows):
        """Labels, targets and weights of these rows."""
        return tuple(take(array, rows) if array.size else array for array in (self.labels, self.targets, self.weights))

    def class_indices(self):
        """(n,) the class index of each row (its likeliest class); for tasks of one class a row only."""
        if self.labels.size:
            return self.labels
        if self.targets.shape[1] == 1:
            return (self.targets[:, 0] > 0.5).astype(np.int64)
        return self.targets.argmax(axis=1)


@dataclass(frozen=True, eq=False)
class Dataset:
    """What X and y became on entry: `rows`, what they require of the net (`task`), the columns' names or None, and what
    the net multiplies its input by."""

    rows: Rows
    task: Task
    feature_names: tuple | None
    scale: float


def read_data(X, y, sample_weight, loss, dtype, model=None, window_rows=None, wide=False):
    """The `Dataset` that a new net, or `model` further, is trained on.

    wide : whether X and numbers to predict keep their own precision until they are scaled
    """
    wide = wide or scales(model)
    x, feature_names = read_features(X, "X", dtype, model, train_in_windows(X, "X", dtype, window_rows), wide)
    task = task_of(y, loss) if model is None else model.task
    scale = input_scale(x) if model is None else model.scale
    return Dataset(read_rows(x, y, sample_weight, task, dtype, wide=wide, trained=True), task, feature_names, scale)


def scales(net):
    """Whether the net scales its input itself, and so reads it in its own precision."""
    return getattr(net, "scaling", None) is not None


def read_features(X, name, dtype, net=None, stored=None, wide=False):
    """X as the kernels read it, and its columns' names; checked against what `net` (an MLP) expects if given.

    stored : X as `StoredRows` if it is read where it is
    wide : whether it keeps its own precision; where `net` scales, it does
    """
    if stored is None:
        x, names = feature_matrix(X, name, dtype, wide or scales(net), trained=net is None)
    else:
        x, names = stored, tuple(map(str, X.columns)) if is_frame(X) else None
    if net is None:
        return x, names
    if names is not None and net.feature_names is not None and names != net.feature_names:
        raise ValueError(_wrong_columns(name, names, net.feature_names))
    if x.shape[1] != net.sizes[0]:
        raise ValueError(f"{name} has {x.shape[1]} features, but the net takes {net.sizes[0]}")
    if net.scale != 1 and x.dtype != np.uint8 and stored is None and x.min() >= 0 and 0 < x.max() <= 1:
        warnings.warn(f"{name} lies between 0 and 1, but this net was trained on 8-bit images and multiplies its "
                      f"input by {net.scale:.4g} itself: pass the images as they are", stacklevel=4)
    return x, names


def read_rows(x, y, sample_weight, task, dtype, names=("X", "y", "sample_weight"), wide=False, trained=False):
    """`Rows` from a checked x and the user's y and sample weights.

    wide : whether numbers to predict keep their own precision; trained : whether a net is trained on them
    """
    labels, targets = encode(y, task, dtype, names[1], wide or trained)
    if trained and not wide and task.kind == "numbers":
        rounded = to_float(targets, names[1], dtype)
        check_resolution(targets, rounded, names[1])
        targets = rounded
    if len(x) != len(labels) + len(targets):
        raise ValueError(f"{names[0]} and {names[1]} must have as many rows, got {len(x)} and "
                         f"{len(labels) + len(targets)}")
    return Rows(x, labels, targets, row_weights(sample_weight, len(x), dtype, names[2]))


def row_weights(weights, n, dtype, name):
    """Sample weights in `dtype`: (n,), finite, none negative, not all zero; empty for None."""
    if weights is None:
        return np.empty(0, dtype)
    array = as_array(weights, name)
    if array.shape != (n,) or array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be one number for each of the {n} rows, got shape {array.shape} of dtype "
                         f"{array.dtype}")
    if array.min() < 0:
        raise ValueError(f"{name} must not be negative, got {array.min():.4g} in row {int(array.argmin())}")
    array = weights_in(array, dtype, name)
    if not array.any():
        raise ValueError(f"{name} must not be zero for every row: nothing would be learnt")
    return array


def finished_rows(rows, net, *, weights=None, smoothing=0.0):
    """`rows` as they are trained on or evaluated: what stands between the user's X and y and the kernels, in one place.

    net : the MLP whose input scaling, offset and spread of y apply
    weights : (n,) instead of the rows' own: `weights_by_class`
    smoothing : ε of label smoothing: targets are drawn towards even odds
    """
    labels, targets = smoothed(rows, net.task, smoothing) if smoothing else (rows.labels, rows.targets)
    weights = rows.weights if weights is None else weights
    return Rows(scaling.scaled_input(net, rows.x), labels, scaling.scaled_targets(net, targets), weights)


def weights_in(weights, dtype, name):
    """Weights in `dtype`; ValueError for those that it cannot hold to three digits, or whose sum would be infinite."""
    limits = np.finfo(dtype)
    rounded = to_float(weights, name, dtype)
    for wrong, what in (((weights > 0) & (rounded < limits.tiny * 2.0 ** -14), "small"),
                        (rounded > np.finfo(np.float64).max * 2.0 ** -60, "large")):
        if wrong.any():
            raise ValueError(f"{name} holds {weights[wrong][0]:.3g} at position {int(wrong.argmax())}, too {what} for "
                             f"dtype {np.dtype(dtype)}; only the ratios of weights count: multiply all by one number"
                             + (", or pass dtype='float64'" if dtype == np.float32 else ""))
    return rounded


def weights_by_class(rows, class_weight, task, train_rows, total=lambda counts: counts):
    """(n,) the rows' weights, multiplied by those of their classes if `class_weight` is given.

    total : gives the sum over all processes of what each has counted
    """
    if class_weight is None:
        return rows.weights
    weights = class_row_weights(class_weight, task, rows.labels, rows.targets, train_rows, total)
    name = "class_weight (by row)"
    if rows.weights.size:
        weights, name = weights * rows.weights, "class_weight times sample_weight"
    weights = weights_in(weights, rows.weights.dtype, name)
    if not total(int(np.count_nonzero(weights[train_rows]))):
        raise ValueError("class_weight leaves every row with weight 0: nothing would be learnt")
    return weights


def smoothed(rows, task, smoothing):
    """(no labels, targets) of these rows with label smoothing: (1 - ε) target + ε / K, where one sigmoid stands for
    K = 2."""
    outputs, dtype = task.outputs, rows.targets.dtype
    if rows.labels.size:
        affordable(len(rows) * outputs * dtype.itemsize,
                   f"label_smoothing: a share of each of {outputs:,} classes for {len(rows):,} rows needs",
                   "pass label_smoothing=0")
        targets = np.full((len(rows), outputs), smoothing / outputs, dtype)
        targets[np.arange(len(rows)), on_host(rows.labels)] = 1 - smoothing + smoothing / outputs
    else:
        odds = 2 if task.loss == "sigmoid_cross_entropy" else outputs
        targets = rows.targets * dtype.type(1 - smoothing) + dtype.type(smoothing / odds)
    return np.empty(0, np.int64), targets


def input_scale(x):
    """What the net multiplies its input by: 1/255 for 8-bit images, 1 for everything else.

    uint8 columns of nothing but 0 and 1 (masks, dummies) are not image intensities: they are left as they are.
    """
    if x.dtype != np.uint8:
        return 1.0
    scale = 1 / 255 if any(part.max() > 1 for part in parts(x)) else 1.0
    log.info("X is uint8: the first layer multiplies it by %s, and the scale is saved with the model",
             "1/255" if scale < 1 else "1 (its values are 0 and 1)")
    return scale


def split(n, fraction, classes, rng):
    """Shuffle n rows and set a `fraction` of them aside: (training rows, validation rows), both int64.

    With `classes` (n,), class indices, every class gives its share, and keeps at least one row for training.
    """
    held_out = round(n * fraction)
    if not 0 < held_out < n:
        raise ValueError(f"validation_fraction={fraction} of {n} rows leaves {held_out} for validation and "
                         f"{n - held_out} for training; both need at least one")
    order = rng.permutation(n)
    if classes is not None:
        order = order[np.argsort(classes[order], kind="stable")]
    # Rows at even distances along the classes: each class, and all together, give their share to within one row.
    position = np.arange(n)
    chosen = (position + 1) * held_out // n > position * held_out // n
    if classes is not None:
        first = np.unique(classes[order], return_index=True)[1]
        chosen[first[np.logical_and.reduceat(chosen, first)]] = False
        if not chosen.any():
            raise ValueError(f"validation_fraction={fraction} leaves no row for validation, since every class keeps "
                             "one for training; pass a larger fraction or validation_data")
    return order[~chosen], order[chosen]


def folds(n, k, classes, rng):
    """Shuffle n rows and deal them to k folds: (n,) int64, the fold of each row, from 0.

    The sizes differ by one row at most, and with `classes` (n,), class indices, so do those of every class.
    """
    if k > n:
        raise ValueError(f"k={k} folds need at least as many rows, got {n}")
    order = rng.permutation(n)
    if classes is not None:
        order = order[np.argsort(classes[order], kind="stable")]
        rarest = np.bincount(classes)
        rarest = rarest[rarest > 0].min()
        if rarest < k:
            warnings.warn(f"the rarest class of y has {rarest} rows, fewer than the k={k} folds: some are evaluated "
                          "without it", stacklevel=3)
    fold = np.empty(n, np.int64)
    fold[order] = np.arange(n) % k
    return fold


def validation_pair(validation_data):
    """(Xv, yv, weights or None) from the user's validation_data."""
    if is_frame(validation_data) or isinstance(validation_data, np.ndarray | str | dict):
        raise TypeError("validation_data must be (X, y) or (X, y, sample_weight), "
                        f"got a {type(validation_data).__name__}")
    try:
        parts = tuple(validation_data)
    except TypeError:
        parts = ()
    if len(parts) not in (2, 3):
        raise TypeError("validation_data must be (X, y) or (X, y, sample_weight), got "
                        f"{type(validation_data).__name__} of {len(parts)} parts")
    return (*parts, None)[:3]


def _wrong_columns(name, got, wanted):
    missing, extra = [n for n in wanted if n not in got], [n for n in got if n not in wanted]
    if not missing and not extra:
        return f"{name} has the net's columns in another order; use {name}[list(model.feature_names)]"
    text = f"{name} does not have the columns the net was trained on"
    text += f"; missing: {missing[:5]}" if missing else ""
    return text + (f"; not known: {extra[:5]}" if extra else "")
