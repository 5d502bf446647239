"""What y asks of the net, and y as the kernels read it.

A `Task` is decided once, from the training y and the loss; every later y (validation, evaluation, continued
training) is encoded by the same task, so that a label never seen in training is an error that names it.
"""
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import checks
from ..losses import NUMBERS, loss_of
from .arrays import (
    OnGpu,
    as_array,
    in_order,
    is_frame,
    is_on_gpu,
    lost_to_rounding,
    on_device_of,
    on_host,
    own_float,
    to_float,
)

log = logging.getLogger("fastmlp")
NO_LABELS = np.empty(0, np.int64)
_SOFTMAX, _SIGMOID, _SQUARED = "softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error"
_OTHER_LOSS = {_SOFTMAX: "classes", _SIGMOID: "two classes or several yes-or-no targets", _SQUARED: "numbers"}


@dataclass(frozen=True, eq=False)
class Task:
    """The loss and what the net's outputs stand for.

    loss : one of `losses.NAMES`; None for units that cannot be trained
    loss_parameter : δ of the Huber loss, q of the quantile loss, else 0
    outputs : number of output units
    classes : (K,) the labels in sorted order, in their own type; None for multilabel and for numbers
    flat : whether y was one-dimensional numbers, so that predictions are too
    """

    loss: str | None
    outputs: int
    classes: np.ndarray | None = None
    flat: bool = False
    loss_parameter: float = 0.0

    @property
    def kind(self):
        """"classes", "multilabel" or "numbers"."""
        if self.loss in (*NUMBERS, None):
            return "numbers"
        return "multilabel" if self.classes is None else "classes"


def task_of(y, loss, name="y"):
    """The task that `y` and `loss` (one of `losses.NAMES`, "auto" or an instance) describe.

    "auto": strings, integers and booleans of one dimension are class labels (one sigmoid unit for two classes, a
    softmax unit each for more); several columns of 0 and 1 are one-hot rows if every row has exactly one 1
    (softmax), else integers and booleans are multilabel (a sigmoid unit each); all other numbers are values to
    predict (squared error).
    """
    loss, parameter = loss_of(loss)
    array = target_array(y, name)
    numeric = array.dtype.kind in "biuf"
    if array.ndim == 2 and array.shape[1] > 1:
        if loss == "auto":
            loss = _columns_loss(array, name)
        classes = np.arange(array.shape[1]) if loss == _SOFTMAX else None
        return Task(loss, array.shape[1], classes, loss_parameter=parameter)
    if loss in NUMBERS or (loss == "auto" and array.dtype.kind == "f"):
        if not numeric:
            raise ValueError(f"{name} holds labels ({array.dtype}), which loss={loss!r} cannot predict; "
                             "use loss='auto'")
        return Task(_SQUARED if loss == "auto" else loss, 1, flat=array.ndim == 1, loss_parameter=parameter)

    values = array.reshape(-1)
    if loss == _SIGMOID and _are_probabilities(values):
        return Task(_SIGMOID, 1, np.arange(2))
    classes = _different(values)
    if array.dtype.kind == "f" and (classes != np.round(classes)).any():
        raise ValueError(f"{name} holds fractions such as {classes[classes != np.round(classes)][0]}, which are no "
                         f"class labels; for loss={loss!r} pass labels or one column per class, for numbers to "
                         f"predict pass loss={_SQUARED!r}")
    if len(classes) < 2:
        raise ValueError(f"{name} must hold at least two different labels, got only {_show(classes)}: "
                         "a classifier has nothing to tell apart")
    if loss == _SIGMOID and len(classes) > 2:
        raise ValueError(f"{name} holds {len(classes)} different labels ({_show(classes)}); loss={_SIGMOID!r} tells "
                         f"two apart: use loss={_SOFTMAX!r}, or one 0/1 column per label for multilabel")
    if numeric and len(classes) > max(20, len(values) // 2):
        warnings.warn(f"{name} holds {len(classes):,} different integers in {len(values):,} rows and each is taken "
                      f"for a class label; if they are numbers to predict, pass loss={_SQUARED!r}", stacklevel=4)
    if loss == "auto":
        loss = _SIGMOID if len(classes) == 2 else _SOFTMAX
    return Task(loss, 1 if loss == _SIGMOID else len(classes), classes)


def summary(y, loss, name="y"):
    """What `joint_task` has to know of one process's y: its different values (one if it holds numbers), as an array
    shaped like y; the task it asks for by itself if it has several columns."""
    array = target_array(y, name)
    if array.ndim == 2 and array.shape[1] > 1:
        return task_of(array, loss, name)
    loss, _ = loss_of(loss)
    numbers = loss in NUMBERS or (loss == "auto" and array.dtype.kind == "f")
    return (on_host(array[:1]) if numbers else _different(array)).reshape(-1, *array.shape[1:])


def joint_task(summaries, loss, name="y"):
    """The task that the y of several processes, one after the other, ask for together."""
    tasks = [each for each in summaries if isinstance(each, Task)]
    if tasks:
        if len(tasks) < len(summaries) or len({task.outputs for task in tasks}) > 1:
            raise ValueError(f"{name} must have as many columns on every rank, got "
                             f"{[getattr(each, 'outputs', 1) for each in summaries]}")
        # One row that is not one-hot, or no whole number, decides for all: see `_columns_loss`.
        return max(tasks, key=lambda task: (_SOFTMAX, _SIGMOID).index(task.loss) if task.loss in (_SOFTMAX, _SIGMOID)
                   else 2)
    if len({(_kind(values), values.ndim) for values in summaries}) > 1:
        raise ValueError(f"{name} must be of one kind and shape on every rank, got "
                         f"{[f'{_kind(values)} of {values.ndim} dimensions' for values in summaries]}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of so many classes: these are the different labels, not the rows
        joined = np.concatenate(summaries)
        if any((part.astype(joined.dtype).astype(part.dtype) != part).any() for part in summaries):
            raise ValueError(f"{name} must have one dtype on every rank, got "
                             f"{sorted({str(part.dtype) for part in summaries})}, which {joined.dtype} cannot hold")
        return task_of(joined, loss, name)


def encode(y, task, dtype, name="y", wide=False):
    """`y` as the kernels read it, where it is: (labels int64 (n,), targets (n, outputs)), one of them empty.

    wide : whether numbers to predict keep their own precision, for those who subtract from them before they round
    """
    array = target_array(y, name)
    if array.ndim == 1 or array.shape[1] == 1:
        values = array.reshape(-1)
        if task.kind == "classes":
            if task.loss == _SIGMOID and _are_probabilities(values) and _are_zero_one(task.classes):
                return NO_LABELS, in_order(values, dtype).reshape(-1, 1)
            index = label_index(values, task.classes, name)
            if task.loss == _SOFTMAX:
                return index, np.empty((0, 0), dtype)
            return NO_LABELS, index.astype(dtype).reshape(-1, 1)
        array = values.reshape(-1, 1)
    if array.shape[1] != task.outputs:
        wanted = f"shape (rows, {task.outputs})" if task.outputs > 1 else "one value a row"
        raise ValueError(f"{name} must have {wanted} for this net, got shape {array.shape}")
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold numbers for loss={task.loss!r}, got dtype {array.dtype}")
    with np.errstate(over="ignore", under="ignore"):
        if task.loss_parameter > 0 and np.dtype(dtype).type(task.loss_parameter) == 0:
            raise ValueError(f"loss has the parameter {task.loss_parameter}, which is 0 in {np.dtype(dtype)}: pass a "
                             "larger one, or dtype='float64'")
    targets = to_float(array, name, own_float(array, dtype) if wide and task.kind == "numbers" else dtype)
    if task.loss == "poisson" and targets.min() < 0:
        raise ValueError(f"{name} must hold counts, none below 0, for loss='poisson', got {float(targets.min()):.4g}")
    if task.kind != "numbers" and (targets.min() < 0 or targets.max() > 1):
        raise ValueError(f"{name} must hold 0, 1 or probabilities between them for loss={task.loss!r}, "
                         f"got {float(targets.min()):.4g} to {float(targets.max()):.4g}")
    if task.loss == _SOFTMAX:
        sums = targets.sum(axis=1, dtype=np.float64)
        wrong = np.abs(sums - 1) > 1e-3
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(f"{name}: each row must sum to 1 for loss={_SOFTMAX!r} (one-hot or probabilities), "
                             f"got {float(sums[row]):.4g} in row {row}; for several labels a row use loss={_SIGMOID!r}")
    return NO_LABELS, targets


def check_resolution(exact, rounded, name, remedy="pass scaling='robust', which does so, or dtype='float64'"):
    """ValueError if the numbers of a column differ so little that rounding them to the net's dtype loses it."""
    if rounded.dtype == exact.dtype or is_on_gpu(exact):
        return
    mean, rows = exact.mean(axis=0, dtype=np.float64), max(1, (1 << 20) // exact.shape[1])
    errors, squares = np.zeros((2, exact.shape[1]))
    for start in range(0, len(exact), rows):     # no copies of all of them
        part = exact[start:start + rows].astype(np.float64)
        errors += np.square(rounded[start:start + rows] - part).sum(axis=0)
        squares += np.square(part - mean).sum(axis=0)
    error, deviation = np.sqrt(errors / len(exact)), np.sqrt(squares / len(exact))
    lost = lost_to_rounding(error, deviation)
    if lost.any():
        j = int(lost.argmax())
        column = f" in column {j}" if len(lost) > 1 else ""
        raise ValueError(f"{name} varies by {deviation[j]:.3g} around {mean[j]:.8g}{column}, which {rounded.dtype} "
                         f"rounds by {error[j]:.2g}: subtract a constant from {name}, or {remedy}")


def label_index(values, classes, name):
    """Where each of `values` stands in the sorted `classes`; ValueError names those that do not."""
    if _kind(values) != _kind(classes):
        raise ValueError(f"{name} holds {_kind(values)}, but the net's labels are {_show(classes)}")
    known, sought, unseen = on_device_of(classes, values), values, None
    if _kind(values) == "numbers" and values.dtype != classes.dtype:
        # Compared in the labels' own dtype: NumPy would take both to float64, where 2**60 and 2**60 + 1 are one.
        with np.errstate(invalid="ignore", over="ignore"):
            sought = values.astype(classes.dtype)
            unseen = (sought.astype(values.dtype) != values) | ((sought < 0) != (values < 0))
    index = np.minimum(np.searchsorted(known, sought), len(classes) - 1)
    unseen = known[index] != sought if unseen is None else unseen | (known[index] != sought)
    if unseen.any():
        raise ValueError(f"{name} holds labels the net was not trained on: {_show(_different(values[unseen]))}; "
                         f"it knows {_show(classes)}")
    return index.astype(np.int64, copy=False)


def target_array(y, name):
    """y as a one- or two-dimensional array of text or finite numbers; errors name missing entries."""
    if is_frame(y) and len(y.columns) == 1:
        y = y[y.columns[0]]
    array = as_array(as_objects(y), name)
    if array.dtype.kind == "T":
        array = array.astype(object)     # NumPy's own text dtype, which may hold missing entries
    if array.ndim not in (1, 2):
        raise ValueError(f"{name} must have one value or label a row, or one column per target; "
                         f"got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} must have at least one row, got shape {array.shape}")
    if array.dtype.kind == "O":
        array = _from_objects(array, name)
    if array.dtype.kind not in "biufUS":
        raise ValueError(f"{name} must hold labels (text, integers, booleans) or numbers, got dtype {array.dtype}")
    if array.dtype.kind in "US" and array.ndim == 2 and array.shape[1] > 1:
        raise ValueError(f"{name} must be one-dimensional for text labels, got shape {array.shape}")
    if array.dtype.kind == "f":
        finite = np.isfinite(array)
        if not finite.all():
            where = np.unravel_index(int(finite.argmin()), array.shape)
            raise ValueError(f"{name} must be finite, got {array[where].item()} at row {where[0]}; drop rows whose "
                             "label or value is missing")
    return array


def class_row_weights(class_weight, task, labels, targets, rows, total):
    """The weight that `class_weight` ("balanced" or {label: weight}) gives every row, float64 (n,).

    "balanced" counts the classes over `rows` only, the rows trained on, and over those of other processes (`total`).
    """
    if task.kind != "classes":
        raise ValueError(f"class_weight needs one class a row, but loss={task.loss!r} predicts {task.kind}; "
                         "use sample_weight")
    count = len(task.classes)
    shares = targets if targets.size else None  # (n, K) or, with one sigmoid, (n, 1): the share of each class
    labels, shares = on_host(labels), on_host(shares)
    if shares is not None and count == 2 and shares.shape[1] == 1:
        shares = np.hstack([1 - shares, shares])
    if isinstance(class_weight, str):
        checks.choice("class_weight", class_weight, ("balanced",))
        counts = (np.bincount(labels[rows], minlength=count) if shares is None
                  else shares[rows].sum(axis=0, dtype=np.float64))
        counts, n = total(counts), total(len(rows))
        weights = np.divide(n, count * counts, out=np.zeros(count), where=counts > 0)
    elif isinstance(class_weight, dict):
        weights = np.ones(count)
        for label, weight in class_weight.items():
            weight = checks.real(f"class_weight[{label!r}]", weight, minimum=0)
            weights[label_index(target_array([label], "class_weight"), task.classes, "class_weight")] = weight
    else:
        raise TypeError(f"class_weight must be 'balanced' or a dict of label: weight, got {class_weight!r}")
    return weights[labels] if shares is None else shares @ weights


def _columns_loss(array, name):
    zero_one = array.dtype.kind in "biuf" and bool(((array == 0) | (array == 1)).all())
    if zero_one and (array.sum(axis=1, dtype=np.float64) == 1).all():
        loss = _SOFTMAX
    else:
        loss = _SIGMOID if zero_one and array.dtype.kind in "biu" else _SQUARED
    log.info("%s has %d columns and is taken for %s: loss=%r", name, array.shape[1], _OTHER_LOSS[loss], loss)
    return loss


def as_objects(y):
    """A list (or another sequence) as an array of its objects; anything else as it is.

    NumPy would choose a dtype for them: of 1 and "one" it makes '1' and 'one', of a missing label the text 'nan'.
    """
    return np.asarray(y, dtype=object) if isinstance(y, Sequence) and not isinstance(y, str | bytes | OnGpu) else y


def label_array(labels, name):
    """Labels as a one-dimensional array of one kind (text, bytes, booleans, integers, floats); ValueError otherwise."""
    array = target_array(labels, name)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {array.shape}")
    return array


_KINDS = {"text": str, "bytes": bytes, "booleans": bool | np.bool_, "integers": int | np.integer,
          "numbers": float | np.floating}


def _from_objects(array, name):
    """Objects as text, bytes, booleans, integers or floats if all are of one such kind; integers among floats are
    floats."""
    values = [value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value
              for value in array.reshape(-1).tolist()]
    kind_of_type = {kind: next((name for name, types in _KINDS.items() if issubclass(kind, types)), kind.__name__)
                    for kind in set(map(type, values))}
    kinds = set(kind_of_type.values())
    numbers = kinds <= {"integers", "numbers"}
    if not numbers:
        for row, value in enumerate(values):
            if value is None or type(value).__name__ in ("NAType", "NaTType") or \
                    (isinstance(value, float | np.floating) and value != value):
                raise ValueError(f"{name} has no label in row {row // (array.size // len(array))} ({value!r}); "
                                 "drop such rows or give them a label of their own")
    if kinds & {"list", "tuple", "ndarray"}:
        raise ValueError(f"{name} must hold labels of one kind or numbers, one a row or as many columns in every row; "
                         "got rows of different lengths")
    if (len(kinds) > 1 and not numbers) or not kinds <= _KINDS.keys():
        found = ", ".join(sorted(kind.__name__ for kind in kind_of_type))
        raise ValueError(f"{name} must hold labels of one kind (text, integers or booleans) or numbers, got a mix of "
                         f"objects ({found}); convert it first, for instance to text with [str(label) for label in "
                         f"{name}]")
    if numbers:
        return _numbers(values, kinds, name).reshape(array.shape)
    if kinds & {"text", "bytes"}:
        nul = "\0" if kinds == {"text"} else b"\0"
        if any(value.endswith(nul) for value in values):
            raise ValueError(f"{name} holds a label that ends with the character NUL, which NumPy does not keep: "
                             "pass other labels")
    return np.array(values, {"text": np.str_, "bytes": np.bytes_, "booleans": np.bool_}[kinds.pop()]
                    ).reshape(array.shape)


def _numbers(values, kinds, name):
    """Numbers as int64, uint64 where that is not enough, or float64; ValueError for integers that these cannot hold."""
    if "numbers" in kinds:
        lost = [value for value in values if isinstance(value, int | np.integer) and abs(int(value)) > 1 << 53
                and (int(value).bit_length() > 1023 or int(float(value)) != value)]
        if lost:
            raise ValueError(f"{name} holds the integer {lost[0]} among floats, which float64 cannot hold exactly")
        return np.array(values, np.float64)
    for dtype in (np.int64, np.uint64):
        try:
            return np.array(values, dtype)
        except OverflowError:
            continue
    largest = max(values, key=abs)
    raise ValueError(f"{name} holds integers beyond 64 bits ({largest if abs(largest) < 1 << 128 else 'very large'}), "
                     "which no array of numbers holds; as labels, pass them as text: "
                     f"[str(label) for label in {name}]")


def _are_probabilities(values):
    return (values.dtype.kind == "f" and values.min() >= 0 and values.max() <= 1
            and bool((values != values.round()).any()))


def _different(values):
    """The different ones, sorted, in main memory: few where they are labels."""
    return on_host(np.unique(values))


def _are_zero_one(classes):
    return classes.dtype.kind in "biuf" and list(classes) == [0, 1]


def _kind(values):
    return {"U": "text", "S": "bytes"}.get(values.dtype.kind, "numbers")


def _show(values):
    shown = ", ".join(repr(value) for value in values[:6].tolist())
    return f"{shown}, ... ({len(values):,} in all)" if len(values) > 6 else shown
