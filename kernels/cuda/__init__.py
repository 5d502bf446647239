"""The kernels for NVIDIA GPUs: Numba's @cuda.jit, compiled on first use for the GPU at hand.

The contract (operands, shapes, codes) stands in `fastmlp.kernels`; the mathematics in `fastmlp.kernels.reference`.
Read `dense` first (the products, with what is fused onto them; large ones are cuBLAS's: `large`), then
`losses`, `steps` and `training`; and `narrow`, which trains small nets without launches in between.

`tile`, `tensor_core`, `ptx` a block's part of a product · `scalars`, `philox`, `optimizer` what is done to one number ·
`control`, `data`, `network`, `gradient`, `machine` a training step, whole or in halves, as launches on a GPU ·
`ops`, `loss_ops`, `perceptron` operations on anybody's arrays, by `operands` and `streams` checked and queued ·
`functions` for anybody's own kernels · `cublas`, `shims`, `disk_cache` cuBLAS, Numba and its machine code
"""
from ..renamed import new_name
from .loss_ops import pointwise_loss, sigmoid_cross_entropy, softmax_cross_entropy, squared_error
from .ops import dense_backward, dense_forward, dropout, gather, update
from .ops import philox_words as philox
from .perceptron import perceptron_batch, perceptron_online

# Functions that need CuPy: looked up on the GPU that is current. `on(1)` has them for the second one.
_TRAINING = ("apply_gradients", "batch_gradient", "evaluate", "forward", "needs_compiling", "prepare", "read_optimizer",
             "read_parameters", "train_epoch", "warm_up", "write_optimizer", "write_parameters")


def on(index=None):
    """These kernels on the GPU of that number (None: the one current in CuPy): operations and training functions.

    Raises
    ------
    ImportError without CuPy; RuntimeError of CuPy's if there is no such GPU.
    """
    from .training import on
    return on(index)


def __getattr__(name):
    if name in _TRAINING:
        return getattr(on(), name)
    return globals()[new_name(__name__, name)]


def __dir__():
    return sorted({*globals(), *_TRAINING})


__all__ = [
    "dense_backward", "dense_forward", "dropout", "gather", "perceptron_batch", "perceptron_online",
    "philox", "pointwise_loss", "sigmoid_cross_entropy", "softmax_cross_entropy", "squared_error",
    "update", "on", *_TRAINING,
]
