"""Rows by index, scaled on the way: how uint8 images become a batch. Reference twin: `kernels.reference.inference`."""
from ..jit import operation
from ..vector.pointers import at, constant, get, put
from .operands import apart, contiguous, indices, output


@operation
def gather(x, rows, scale, out):
    """out = x[rows] * scale, in out's dtype.

    x : (any, k) uint8 or out's dtype, rows : int64 (m,) indices into x, out : (m, k) float32 or float64, all
    C-contiguous; out is written. Raises ValueError for shapes that do not fit together or an index out of range.
    Cost: a flop a number; reads and writes m k numbers. Source: standard.
    Training does the same for a row at a time, straight into panels (`network.gather_row`).
    """
    indices(rows, "gather: rows")
    output(out, 2, "gather: out")
    k = x.shape[1]
    if out.shape[0] != rows.shape[0] or out.shape[1] != k:
        raise ValueError("gather: needs x (any, k), rows (m,), out (m, k)")
    contiguous((x, rows, out))
    if not apart((out,), (x, rows)):
        raise ValueError("gather: out is written and must not share memory with x or rows")
    factor = constant(scale, at(out, 0))
    for i in range(rows.shape[0]):
        row = rows[i]
        if row < 0 or row >= x.shape[0]:
            raise ValueError("gather: rows must lie in 0 .. len(x) - 1")
        source, target = at(x, row * k), at(out, i * k)
        for j in range(k):
            put(target, j, constant(get(source, j), target) * factor)
