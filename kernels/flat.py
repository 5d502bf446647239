"""The flat layout of a net's parameters and of an optimizer's slots: W of the first layer in row-major order, its b,
the next W, ... (`kernels.reference.layout` is its independent twin.)
"""
from itertools import pairwise


def n_parameters(sizes):
    """How many numbers a net of these layer sizes has."""
    return sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))


def layer_spans(sizes):
    """((n_in, n_out), where W begins, where b begins) for each layer."""
    start = 0
    for n_in, n_out in pairwise(sizes):
        yield (n_in, n_out), start, start + n_in * n_out
        start += (n_in + 1) * n_out


def views(flat, sizes):
    """((W of every layer), (b of every layer)), views shaped (n_in, n_out) and (n_out,)."""
    layers = [(flat[w:b].reshape(shape), flat[b:b + shape[1]]) for shape, w, b in layer_spans(sizes)]
    return tuple(w for w, _ in layers), tuple(b for _, b in layers)
