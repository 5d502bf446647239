"""The kernels in vectorised NumPy: the mathematics, the oracle of every test and the baseline of every benchmark.

The contract (operands, shapes, codes) stands in `fastmlp.kernels`. Read `training` first, then `dense`,
`losses`, `activations` and `rules`. This package imports nothing of ours, so that what it checks cannot
mislead it; all arithmetic is in the operands' dtype, except sums of losses, which run in float64.
"""
import warnings

from .dense import dense_backward, dense_forward
from .inference import forward, gather
from .losses import pointwise_loss, sigmoid_cross_entropy, softmax_cross_entropy, squared_error
from .masks import dropout, philox
from .perceptron import perceptron_batch, perceptron_epoch, perceptron_online, shuffle
from .rules import update
from .training import (
    apply_gradients,
    batch_gradient,
    evaluate,
    prepare,
    read_optimizer,
    read_parameters,
    train_epoch,
    write_optimizer,
    write_parameters,
)

_NEW_NAMES = {"softmax_xent": "softmax_cross_entropy", "sigmoid_xent": "sigmoid_cross_entropy"}
READS_IN_PLACE = True            # of x nothing but the rows of the order

__all__ = [
    "apply_gradients", "batch_gradient", "dense_backward", "dense_forward", "dropout", "evaluate", "forward", "gather",
    "perceptron_batch", "perceptron_epoch", "perceptron_online", "philox", "pointwise_loss", "prepare",
    "read_optimizer", "read_parameters", "shuffle", "sigmoid_cross_entropy", "softmax_cross_entropy", "squared_error",
    "train_epoch",    "update", "write_optimizer", "write_parameters",
]


def __getattr__(name):
    """Old names of operations, for one more release."""
    if name not in _NEW_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"{__name__}.{name} is now {_NEW_NAMES[name]}", DeprecationWarning, stacklevel=2)
    return globals()[_NEW_NAMES[name]]
