"""The single operations, as users plug them into their own code. Contract: `kernels`; the losses: `loss_ops`.

Arrays lie on the GPU (CuPy, PyTorch, Numba, anything with a CUDA array interface), in C order; NumPy arrays work as
well, but are copied there and back at every call. Outputs are written in place. Kinds, dtypes, shapes and overlaps are
checked before anything runs.

Every operation takes stream= (`streams`), and returns as soon as its kernels are in that stream's queue.
"""
import functools

import numpy as np

from .. import activations as codes
from .. import update_rules
from ..catalogue import StepConstants
from . import large, optimizer, philox, steps
from .control import LISTED, one_batch
from .dense import ELEMENTWISE, choose_tile, local_gradient
from .dense import kernels as dense_kernels
from .operands import check, inside, integer, is_given, one_of
from .philox import keep_threshold
from .shims import cuda
from .streams import Queue, constant, is_on_gpu, type_of

TRAINABLE = codes.TABLE.codes(lambda record: record.trainable)


def blocks(count, size):
    return -(-count // size)


def dense_forward(x, w, b, activation, y=None, *, stream=None):
    """y = f(x W + b), which is returned, in one pass over y; large products on the GPU are cuBLAS's (`large`).

    x (m, k), w (k, n), b (n,), y (m, n), all float32 or all float64, in C order; y is allocated if left out, as an
    array of x's kind. activation: an elementwise code of `kernels.activations`. Raises TypeError and ValueError
    for operands that do not fit.
    Cost: 2 m n k flops; m k + k n + m n numbers at least. Source: standard; tiles: `tile`.
    """
    operands = "x (m, k), w (k, n), b (n,)"
    one_of("dense_forward", "activation", activation, codes.ELEMENTWISE,
           "a code of kernels.activations.ELEMENTWISE")
    if y is None:
        check("dense_forward", operands, x, w, b)
        y = Queue(stream).new((x.shape[0], w.shape[1]), x)
    sizes, queue, dtype = check("dense_forward", f"{operands} -> y (m, n)", x, w, b, y), Queue(stream), type_of(x)
    m, k, n = sizes["m"], sizes["k"], sizes["n"]
    if m * n == 0:
        return y
    control, finish = constant(*one_batch(m)), (constant(0.0, dtype=dtype), 0, 0, dtype(1), 0, 0, 0)
    if large.handed_over(m, k, n) and is_on_gpu(y):
        out = queue.written(y)
        queue.multiply(large.Product(queue.read(x), 0, False, queue.read(w), 0, False, out, 0, m, k, n))
        queue.run(large.kernels(dtype).finish_forward, blocks(m * n, large.THREADS), large.THREADS, queue.read(b), 0,
                  control, n, activation, out, 0, *finish)
        return y
    tile = choose_tile(dtype, m, n)
    queue.run(dense_kernels(dtype, tile).forward, tile.count(m, n), tile.threads, queue.read(x), 0, queue.read(w), 0,
              queue.read(b), 0, control, k, n, activation, queue.written(y), 0, *finish)
    return y


def dense_backward(x, w, y, dy, activation, dz, dx, dw, db, *, stream=None):
    """dz = dy ⊙ f'(z), dx = dz Wᵀ, dw = xᵀ dz, db = Σ_rows dz; large products on the GPU are cuBLAS's (`large`).

    x, dx (m, k), w, dw (k, n), y, dy, dz (m, n), db (n,), all float32 or all float64, in C order; dz may be dy; dx may
    be (0, 0) or None. activation: a trainable code; for those of `NEEDS_Z`, as GELU, y is z = x W + b. Raises as
    `dense_forward`.
    Cost: 4 m n k flops (2 m n k without dx). Source: standard; tiles: `tile`.
    """
    sizes = check("dense_backward", "x (m, k), w (k, n), y (m, n), dy (m, n) -> dz (m, n), dx (m, k)?, dw (k, n), "
                  "db (n,)", x, w, y, dy, dz, dx, dw, db, may_be=(("dz", "dy"), ("dy", "dz")))
    one_of("dense_backward", "activation", activation, TRAINABLE, "a trainable code of kernels.activations")
    queue, dtype, wanted = Queue(stream), type_of(x), is_given(dx)
    m, k, n = sizes["m"], sizes["k"], sizes["n"]
    control = constant(*one_batch(m))
    if m * n:
        queue.run(local_gradient(dtype), blocks(m * n, ELEMENTWISE), ELEMENTWISE, queue.read(y), queue.read(dy),
                  activation, m * n, queue.written(dz))
    gradient, handed_over = queue.read(dz), large.handed_over(m, k, n)
    if handed_over and is_on_gpu(dw):
        queue.multiply(large.Product(queue.read(x), 0, True, gradient, 0, False, queue.written(dw), 0, k, m, n))
        queue.run(large.kernels(dtype).column_sums, blocks(n, large.COLUMNS), large.SUMMING, gradient, 0, control, n,
                  queue.written(db), 0)
    elif n:
        tile = choose_tile(dtype, k + 1, n)
        queue.run(dense_kernels(dtype, tile).weight_gradient, tile.count(k + 1, n), tile.threads, queue.read(x),
                  gradient, control, k, n, queue.written(dw), queue.written(db))
    if wanted and handed_over and is_on_gpu(dx):
        queue.multiply(large.Product(gradient, 0, False, queue.read(w), 0, True, queue.written(dx), 0, m, n, k))
    elif wanted:
        tile = choose_tile(dtype, m, k)
        queue.run(dense_kernels(dtype, tile).input_gradient, tile.count(m, k), tile.threads, gradient, 0,
                  queue.read(w), 0, control, k, n, 0, queue.written(dx), 0)


@functools.cache
def update_kernel(dtype):
    step = optimizer.define(dtype).step

    @cuda.jit
    def update(rule, count, rate, first, second, epsilon, decay, corrected_rate, root, rest_of_first, rest_of_second,
               w, g, s1, s2):
        i = cuda.blockIdx.x * ELEMENTWISE + cuda.threadIdx.x
        if i < count:
            step(rule, StepConstants(rate, first, second, epsilon, decay, corrected_rate, root, rest_of_first,
                                     rest_of_second), g[i], w, i, s1, s2, i)

    return update


def update(rule, hyper, learning_rate, step, w, g, s1, s2, *, stream=None):
    """One optimizer step on flat arrays, in place. Rules and sources: `kernels.update_rules`.

    hyper: 4 numbers; step: 1 for the first; w, g, s1, s2 (count,), all float32 or all float64; slots that the rule does
    not use may be (0,) or None. w and slots are changed. Raises TypeError and ValueError for operands that do not fit.
    Cost: a few flops a number; 3 + 2 slots numbers each.
    """
    one_of("update", "rule", rule, range(len(update_rules.NAMES)), "a code of kernels.update_rules")
    integer("update", "step", step, 1)
    if np.shape(hyper) != (4,):
        raise ValueError(f"update: hyper must have 4 numbers, got shape {np.shape(hyper)}")
    count = check("update", "g (count,) -> w (count,), s1 (count,)?, s2 (count,)?", g, w, s1, s2)["count"]
    if count == 0:
        return
    if not all(is_given(slot) for slot in (s1, s2)[:update_rules.SLOTS[rule]]):
        raise ValueError("update: w, g and the slots that the rule uses must have the same length")
    queue, dtype = Queue(stream), type_of(w)
    constants = map(dtype, update_rules.step_constants(rule, hyper, learning_rate, step))
    slots = [queue.written(slot) if is_given(slot) else constant(0.0, dtype=dtype) for slot in (s1, s2)]
    queue.run(update_kernel(dtype), blocks(count, ELEMENTWISE), ELEMENTWISE, rule, count, *constants,
              queue.written(w), queue.read(g), *slots)


def dropout(x, rate, seed, step, layer, y=None, *, stream=None):
    """y = x / (1 - rate) where kept, else 0, which is returned; masks as in the other packages.

    x, y (m, n), both float32 or both float64, in C order; y may be x, and is allocated if left out, as an array of x's
    kind. 0 <= rate < 1; seed, step and layer select the mask. Raises TypeError and ValueError for operands
    that do not fit.
    Cost: ten rounds of Philox a number; 2 m n numbers. Source: Srivastava et al. 2014, inverted; words: `philox`.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: rate must be at least 0 and below 1, got {rate!r}")
    for name, value in (("seed", seed), ("step", step), ("layer", layer)):
        integer("dropout", name, value, 0)
    check("dropout", "x (m, n)", x)
    queue = Queue(stream)
    y = queue.new(tuple(x.shape), x) if y is None else y
    sizes = check("dropout", "x (m, n) -> y (m, n)", x, y, may_be=(("y", "x"),))
    m, n, dtype = sizes["m"], sizes["n"], type_of(x)
    if m * n:
        queue.run(philox.drop, blocks(m * n, philox.THREADS), philox.THREADS, queue.read(x), m, n,
                  dtype(1 / (1 - rate)), keep_threshold(rate), seed, step, layer, queue.written(y))
    return y


def philox_words(c0, c1, c2, c3, k0, k1, *, stream=None):
    """Four uint32 numbers of Philox4x32-10 for one counter (c0, c1, c2, c3) and key (k0, k1), all below 2³².

    Cost: 20 products of 32-bit words. Source: Salmon et al., SC 2011.
    """
    queue = Queue(stream)
    out = queue.empty(4, np.uint64)
    queue.run(philox.four_words, 1, 1, *(int(word) for word in (c0, c1, c2, c3, k0, k1)), out)
    return tuple(queue.download(out).astype(np.uint32))


def gather(x, rows, scale, out, *, stream=None):
    """out = x[rows] * scale, in out's dtype.

    x (any, k) uint8 or out's dtype, rows (m,) int64, out (m, k) float32 or float64, all in C order. Raises TypeError
    and ValueError for operands that do not fit, and for NumPy rows beyond x; rows on the GPU are not looked at, which
    would make the call wait: it is the caller who knows that they lie in 0 .. len(x) - 1.
    Cost: a flop a number; reads and writes m k numbers.
    """
    sizes = check("gather", "x uint8 or float (any, k), rows int64 (m,) -> out (m, k)", x, rows, out)
    m, k, queue, dtype = sizes["m"], sizes["k"], Queue(stream), type_of(out)
    if not is_on_gpu(rows):
        inside("gather", "rows", rows, x.shape[0], queue)
    if m * k:
        control = one_batch(m)
        control[LISTED] = 1
        queue.run(steps.kernels(dtype).gather, blocks(m * k, steps.THREADS), steps.THREADS, queue.read(x),
                  queue.read(rows), constant(*control), k, dtype(scale), queue.written(out), 0)
