"""The CPU kernels: Numba, with explicit vectors. Operations, shapes and meanings: `kernels`.

`simd` the vector vocabulary · `gemm` the tile · `dense`, `losses`, `perceptron`, `update`, `philox`, `gather`
operations on plain arrays · `layout`, `network`, `epoch` a training step on panels · `threads`, `jit` how it all
runs · `training` the calls that `fastmlp` makes.
"""
from .dense import dense_backward, dense_forward
from .gather import gather
from .losses import pointwise_loss, sigmoid_xent, softmax_xent, squared_error
from .perceptron import perceptron_batch, perceptron_epoch, perceptron_online
from .philox import dropout, philox
from .training import (
    evaluate,
    forward,
    needs_compiling,
    prepare,
    read_optimizer,
    read_parameters,
    train_epoch,
    warm_up,
    write_optimizer,
    write_parameters,
)
from .update import update

__all__ = [
    "dense_backward", "dense_forward", "dropout", "evaluate", "forward", "gather", "needs_compiling",
    "perceptron_batch", "perceptron_epoch", "perceptron_online", "philox", "pointwise_loss", "prepare",
    "read_optimizer", "read_parameters", "sigmoid_xent", "softmax_xent", "squared_error", "train_epoch", "update",
    "warm_up", "write_optimizer", "write_parameters",
]
