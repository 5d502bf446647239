"""The flat parameter array: W of the first layer in row-major order, its b, the next W, ..."""
from itertools import pairwise


def layer_spans(sizes):
    """[(span of W, span of b), ...] in the flat array; sizes (s0, ..., sL) are the widths from input to output."""
    spans, start = [], 0
    for fan_in, fan_out in pairwise(sizes):
        middle = start + fan_in * fan_out
        spans.append((slice(start, middle), slice(middle, middle + fan_out)))
        start = middle + fan_out
    return spans


def layer_views(flat, sizes):
    """[(W, b), ...] as views into flat."""
    return [(flat[weights].reshape(shape), flat[biases])
            for (weights, biases), shape in zip(layer_spans(sizes), pairwise(sizes), strict=True)]
