"""Rosenblatt's perceptron: a threshold unit that learns from its mistakes, one at a time or a pass at a time.

Online: for each row in turn, if yᵢ (θᵀxᵢ + b) ≤ 0 then θ ← θ + yᵢ xᵢ and b ← b + yᵢ.
Batch: once per pass, θ and b move by 1/N of the sum of yᵢ (xᵢ, 1) over all such rows.
Both start at 0. Labels y are ±1 inside, and any two values outside.
"""
import logging
from dataclasses import dataclass

import numpy as np

from .. import checks
from .. import device as devices
from ..input.labels import label_index, target_array
from ..input.rows import read_features
from .streams import Streams

__all__ = ["ThresholdUnit", "train_perceptron"]

log = logging.getLogger("fastmlp")
MODES = ("online", "batch")


@dataclass(frozen=True, eq=False, repr=False)
class ThresholdUnit:
    """What `train_perceptron` found: sign(θᵀx + b), with sign(0) = 1.

    Attributes
    ----------
    theta : (k,) float32 or float64
    bias : float
    classes : (2,) the two labels in sorted order: the second where θᵀx + b ≥ 0, else the first
    converged : bool
        Whether a whole pass met no mistake, so that the unit separates the data.
    history : dict
        ``"mistakes"`` and ``"updates"``, one number per pass. Online, every mistake is an update; batch, a
        pass that met mistakes ends with one update.
    feature_names : tuple of str, or None
        The columns of the data frame it was trained on.
    """

    theta: np.ndarray
    bias: float
    classes: np.ndarray
    converged: bool
    history: dict
    feature_names: tuple | None = None
    scale = 1.0  # inputs count as they are

    @property
    def sizes(self):
        """(k, 1): inputs and outputs, as of an `MLP` without hidden layers."""
        return len(self.theta), 1

    def decision_function(self, X):
        """θᵀx + b of every row.

        Parameters
        ----------
        X : (n, k) array of numbers or data frame

        Returns
        -------
        (n,) array of theta's dtype

        Raises
        ------
        ValueError if X does not have the k features of the training data.
        """
        x, _ = read_features(X, "X", self.theta.dtype, net=self)
        return x.astype(self.theta.dtype, copy=False) @ self.theta + self.theta.dtype.type(self.bias)

    def predict(self, X):
        """The label of every row: ``classes[1]`` where θᵀx + b ≥ 0, else ``classes[0]``; X as `decision_function`."""
        return self.classes[(self.decision_function(X) >= 0).astype(np.intp)]

    def __repr__(self):
        outcome = "converged" if self.converged else "not converged"
        return f"ThresholdUnit({len(self.theta)} features, {outcome} after {len(self.history['mistakes'])} passes)"


def train_perceptron(X, y, *, mode="online", max_epochs=1000, shuffle=False, seed=None, device="auto",
                     dtype="float32"):
    """Find a hyperplane between two classes by the perceptron rule.

    Stops after the first pass without a mistake, which comes if the classes can be separated at all and
    `max_epochs` allows it; otherwise the unit is what the last pass left. Ctrl-C ends training early.

    Parameters
    ----------
    X : (n, k) array of numbers or data frame, finite; 8-bit images count 0 to 255
    y : (n,) labels of any two values
    mode : "online" or "batch"
        Correct at every mistake, or once per pass by the mean over all rows.
    max_epochs : int
        The most passes over the data.
    shuffle : bool
        Visit the rows in a new random order in every pass (online only: a batch pass sums over all rows).
    seed : int, optional
        Of the shuffled orders; None draws one.
    device : str
        As in `fastmlp.train`.
    dtype : "float32" or "float64"

    Returns
    -------
    ThresholdUnit

    Raises
    ------
    ValueError or TypeError
        Names the argument, what was allowed and what was got; y must hold exactly two different labels.

    Examples
    --------
    NAND is linearly separable:

    >>> X, y = [[0, 0], [0, 1], [1, 0], [1, 1]], ["yes", "yes", "yes", "no"]
    >>> unit = fastmlp.train_perceptron(X, y)
    >>> unit
    ThresholdUnit(2 features, converged after 9 passes)
    >>> print(*unit.predict(X))
    yes yes yes no
    >>> unit.history["mistakes"]
    [2, 3, 3, 2, 2, 3, 2, 1, 0]
    """
    checks.choice("mode", mode, MODES)
    max_epochs = checks.integer("max_epochs", max_epochs)
    if not isinstance(shuffle, bool | np.bool_):
        raise TypeError(f"shuffle must be True or False, got {shuffle!r}")
    if shuffle and mode == "batch":
        raise ValueError("shuffle=True needs mode='online': a batch pass sums over all rows, whatever their order")
    rng = Streams(None if seed is None else checks.integer("seed", seed, minimum=0)).order
    dtype = checks.dtype(dtype)
    x, names = read_features(X, "X", dtype)
    classes, signs = _two_classes(y, len(x), dtype)
    x = x.astype(dtype, copy=False)
    kernels = devices.kernels(device)

    theta, bias, delta = np.zeros(x.shape[1], dtype), np.zeros(1, dtype), np.zeros(x.shape[1] + 1, dtype)
    rows = np.empty_like(x) if shuffle else x
    history = {"mistakes": [], "updates": []}
    try:
        while len(history["mistakes"]) < max_epochs and history["mistakes"][-1:] != [0]:
            if mode == "batch":
                mistakes = kernels.perceptron_batch(x, signs, theta, bias, delta)
                updates = min(mistakes, 1)
            else:
                order = rng.permutation(len(x)) if shuffle else slice(None)
                if shuffle:
                    kernels.gather(x, order, 1.0, rows)
                mistakes = updates = kernels.perceptron_online(rows, signs[order], theta, bias)
            history["mistakes"].append(int(mistakes))
            history["updates"].append(int(updates))
    except KeyboardInterrupt:
        del history["mistakes"][len(history["updates"]):]
        log.warning("interrupted after %d passes; the unit stands as they left it", len(history["mistakes"]))

    with np.errstate(all="ignore"):
        finite = np.isfinite(x @ theta + bias).all()
    if not finite:  # a NaN score counts as no mistake
        raise ValueError(f"X holds values up to {np.abs(x).max():.3g}, too large for sums in {dtype}: scale X")
    return ThresholdUnit(theta, float(bias[0]), classes, history["mistakes"][-1:] == [0], history, names)


def _two_classes(y, n, dtype):
    """The two labels in y, sorted, and y as -1 and 1 in their order."""
    values = target_array(y, "y")
    if values.size != n:
        raise ValueError(f"X and y must have as many rows, got {n} and {len(values)}"
                         + (f" by {values.shape[1]}" if values.ndim > 1 else ""))
    classes = np.unique(values)
    if len(classes) != 2:
        shown = ", ".join(map(repr, classes[:5].tolist())) + (", ..." if len(classes) > 5 else "")
        raise ValueError(f"y must hold exactly two different labels, got {len(classes)}: {shown}")
    signs = 2 * label_index(values.reshape(-1), classes, "y") - 1
    return classes, signs.astype(dtype)
