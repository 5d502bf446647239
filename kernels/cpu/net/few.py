"""Inference where it is little work, straight from the flat parameters.

Bringing the weights into panels reads and writes all of them: for a few rows, or a small net, that takes longer than
the products. So here the tile reads W as it lies, row-major, and a block of rows goes through the whole net at a time.
"""
from ... import activations as codes
from ..jit import inlined, loop_entry, outlined
from ..tile.epilogues import activate, store_tile
from ..tile.gemm import plain_tile
from ..tile.loss_rows import softmax_row
from ..vector.panels import panel_width
from ..vector.pointers import at, lanes, load_first, put, reinterpret, step, store
from ..vector.simd import ROWS
from .network import input_number, input_vector

FEW_ROWS = 32                            # rows of a block, a multiple of ROWS


@loop_entry
def infer_few(parameters, sizes, activations, data, rows, scratch, out):
    """out (rows, outputs) = the net's outputs for the first `rows` rows of `data`.

    parameters : the flat layout; sizes int64 (layers + 1,), activations int64 (layers,)
    scratch : (3 ROWS P + 2 FEW_ROWS · widest layer,) of the parameters' dtype
    """
    width, n_out, last = panel_width(at(parameters, 0)), sizes[sizes.size - 1], activations.size - 1
    tile = at(scratch, 0)
    half = (scratch.size - 3 * ROWS * width) // 2
    for first in range(0, rows, FEW_ROWS):
        here = min(FEW_ROWS, rows - first)
        y = step(tile, 3 * ROWS * width)
        other = step(y, half)
        x = _input(data, first * sizes[0], here * sizes[0], other)
        start = 0
        for layer in range(last + 1):
            k, n = sizes[layer], sizes[layer + 1]
            target = at(out, first * n_out) if layer == last else y
            w, b = at(parameters, start), at(parameters, start + k * n)
            _layer(x, here, k, w, n, b, activations[layer], target, tile)
            x, y, other = target, other, target
            start += (k + 1) * n
        if activations[last] == codes.SOFTMAX:
            for r in range(first, first + here):
                softmax_row(at(out, r * n_out), width, n_out, at(out, r * n_out))


@inlined
def _input(data, start, count, scratch):
    """Numbers start .. start + count - 1 of X, scaled: where they lie if they are what the net takes, or a copy."""
    if data.itemsize > 1 and data.scale == 1.0:
        return reinterpret(at(data.x, start * data.itemsize), scratch)
    complete = count - count % lanes(scratch)
    for i in range(0, complete, lanes(scratch)):
        store(scratch, i, input_vector(data, start, i, lanes(scratch), scratch))
    for i in range(complete, count):
        put(scratch, i, input_number(data, start, i, scratch))
    return scratch


@outlined
def _layer(x, rows, n_in, w, n_out, b, activation, y, tile):
    """y = f(x W + b) for `rows` rows, everything row-major; tile, slopes and a bias stand in `tile`."""
    width = panel_width(x)
    slopes, bias = step(tile, ROWS * width), step(tile, 2 * ROWS * width)
    for c in range(0, n_out, width):
        columns = n_out - c
        for v in range(0, min(width, columns), lanes(x)):
            store(bias, v, load_first(b, c + v, columns - v))
        for r in range(0, rows, ROWS):
            here = min(ROWS, rows - r)
            plain_tile(step(x, r * n_in), n_in, here, 1, step(w, c), n_out, columns, n_in, False, tile)
            activate(activation, tile, bias, 0, here, columns, tile, slopes)
            store_tile(tile, here, columns, step(y, r * n_out + c), n_out)
