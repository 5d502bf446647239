"""The net's outputs: forward through every layer, a block of rows at a time."""
import numpy as np

from .dense import dense_forward
from .layout import layer_views

BLOCK_ROWS = 1024  # enough for BLAS to run at full speed, little enough for hidden layers to stay in the cache


def gather(x, rows, scale, out):
    """out = x[rows] * scale, in out's dtype."""
    load(x[rows], scale, out)


def load(x, scale, out):
    np.multiply(x, scale, out=out, dtype=out.dtype)


def forward(parameters, sizes, activations, x, scale, n_threads, out):
    """out = f_L(... f_1(scale x W₁ + b₁) ... W_L + b_L). BLAS chooses its own threads: n_threads is not used."""
    layers = layer_views(parameters, sizes)
    buffers = [np.empty((min(BLOCK_ROWS, len(x)), size), parameters.dtype) for size in sizes[:-1]]
    for start in range(0, len(x), BLOCK_ROWS):
        rows = slice(start, min(start + BLOCK_ROWS, len(x)))
        m = rows.stop - rows.start
        h = buffers[0][:m]
        load(x[rows], scale, h)
        outputs = [buffer[:m] for buffer in buffers[1:]] + [out[rows]]
        for (w, b), activation, y in zip(layers, activations, outputs, strict=True):
            dense_forward(h, w, b, activation, y)
            h = y
