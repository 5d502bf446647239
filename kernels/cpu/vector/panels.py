"""Panels: how many columns lie side by side. The layout they belong to: `tile.gemm`."""
import numpy as np

from ..jit import inlined
from .pointers import lanes
from .simd import VECTOR_BYTES

VECTORS = 2                              # vectors across a panel


@inlined
def panel_width(pointer):
    """P: columns of a panel of this pointer's type."""
    return VECTORS * lanes(pointer)


@inlined
def panels(columns, pointer):
    """Panels that `columns` columns need."""
    return (columns + panel_width(pointer) - 1) // panel_width(pointer)


def python_panel_width(dtype):
    """P outside compiled code."""
    return VECTORS * VECTOR_BYTES // np.dtype(dtype).itemsize


def round_up(count, multiple):
    return -(-count // multiple) * multiple
