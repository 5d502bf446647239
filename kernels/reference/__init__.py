"""The kernels in vectorised NumPy: the mathematics, the oracle of every test and the baseline of every benchmark.

The contract (operands, shapes, codes) stands in `fastmlp.kernels`. Read `training` first, then `dense`,
`losses`, `activations` and `rules`. This package imports nothing of ours, so that what it checks cannot
mislead it; all arithmetic is in the operands' dtype, except sums of losses, which run in float64.
"""
import warnings

from . import dense, inference, losses, masks, perceptron, rules, training
from .operands import operation

dense_forward = operation(dense.dense_forward, "y")
dense_backward = operation(dense.dense_backward, "dz", "dx", "dw", "db", may_be=[("dz", "dy")])
softmax_cross_entropy, sigmoid_cross_entropy, squared_error, pointwise_loss = (
    operation(loss, "dz", may_be=[("dz", "z")])
    for loss in (losses.softmax_cross_entropy, losses.sigmoid_cross_entropy, losses.squared_error,
                 losses.pointwise_loss))
perceptron_online = operation(perceptron.perceptron_online, "theta", "bias")
perceptron_batch = operation(perceptron.perceptron_batch, "theta", "bias", "delta")
perceptron_epoch = operation(perceptron.perceptron_epoch, "theta", "bias", "shrunk", "totals")
shuffle = operation(perceptron.shuffle, "rows")
dropout, philox = operation(masks.dropout, "y", may_be=[("y", "x")]), operation(masks.philox)
gather, forward = operation(inference.gather, "out"), operation(inference.forward, "out")
update = operation(rules.update, "w", "s1", "s2")
prepare, train_epoch, evaluate = map(operation, (training.prepare, training.train_epoch, training.evaluate))
batch_gradient, apply_gradients = map(operation, (training.batch_gradient, training.apply_gradients))
read_parameters, write_parameters = map(operation, (training.read_parameters, training.write_parameters))
read_optimizer, write_optimizer = operation(training.read_optimizer, "s1", "s2"), operation(training.write_optimizer)

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
