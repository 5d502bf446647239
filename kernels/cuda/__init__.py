"""The kernels for NVIDIA GPUs: Numba's @cuda.jit, compiled on first use for the GPU at hand.

The contract (operands, shapes, codes) stands in `fastmlp.kernels`; the mathematics in `fastmlp.kernels.reference`.
Read `dense` first (the products, with what is fused onto them), then `losses`, `steps` and `training`.
"""
from .ops import (
    dense_backward,
    dense_forward,
    dropout,
    gather,
    pointwise_loss,
    sigmoid_xent,
    softmax_xent,
    squared_error,
    update,
)
from .ops import philox_words as philox
from .perceptron import perceptron_batch, perceptron_online

__all__ = [
    "dense_backward", "dense_forward", "dropout", "gather", "perceptron_batch", "perceptron_online", "philox",
    "pointwise_loss", "sigmoid_xent", "softmax_xent", "squared_error", "update",
]
