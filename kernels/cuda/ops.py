"""The single operations, as people plug them into their own code. Contract: `kernels`.

Arrays lie on the GPU (CuPy, PyTorch, Numba, anything with a CUDA array interface), in C order; NumPy arrays work as
well, but are copied there and back at every call. Outputs are written in place. A call that returns a number waits for
it.
"""
import functools

import numpy as np

from .. import losses as loss_codes
from .. import update_rules
from . import losses, philox, steps
from .control import LISTED, one_batch
from .dense import ELEMENTWISE, choose_tile, local_gradient
from .dense import kernels as dense_kernels
from .philox import keep_threshold
from .scalars import functions
from .shims import cuda


def blocks(count, size):
    return -(-count // size)


def type_of(array):
    return np.dtype(str(array.dtype).removeprefix("torch.")).type


def flat(array):
    """The array as the kernels take it; one element in place of none, which the driver cannot allocate."""
    return array.reshape(-1) if 0 not in tuple(array.shape) else np.zeros(1, type_of(array))


def given(array):
    """An input as the kernels take it. Numba would copy a NumPy array back after the kernel, which must not happen to
    one that is read-only, nor to one that an output shares its memory with."""
    array = flat(array)
    return cuda.to_device(array) if isinstance(array, np.ndarray) else array


def new(shape, like):
    """An array for an output that was left out: NumPy's for NumPy's, else on the GPU."""
    if isinstance(like, np.ndarray):
        return np.empty(shape, like.dtype)
    import cupy

    return cupy.empty(shape, type_of(like))


def is_given(array):
    """Whether labels, targets or weights are there: None and an empty array mean that they are not."""
    return array is not None and 0 not in tuple(array.shape)


def dense_forward(x, w, b, activation, y=None):
    """y (m, n) = f(x W + b), which is returned."""
    (m, k), n, dtype = x.shape, w.shape[1], type_of(x)
    y = new((m, n), x) if y is None else y
    if m * n == 0:
        return y
    tile = choose_tile(dtype, m, n)
    grid = blocks(n, tile.columns), blocks(m, tile.rows)
    dense_kernels(dtype, tile).forward[grid, tile.threads](
        given(x), 0, given(w), 0, given(b), 0, given(one_batch(m)), k, n, activation, flat(y), 0,
        given(np.zeros(1, dtype)), 0, 0, dtype(1), 0, 0, 0)
    return y


def dense_backward(x, w, y, dy, activation, dz, dx, dw, db):
    """dz = dy ⊙ f'(z), dx = dz Wᵀ, dw = xᵀ dz, db = Σ_rows dz."""
    (m, k), n, dtype = x.shape, w.shape[1], type_of(x)
    if n == 0:
        if dx.size:
            dx[...] = 0
        return
    control = given(one_batch(m))
    if m:
        local_gradient(dtype)[blocks(m * n, ELEMENTWISE), ELEMENTWISE](given(y), given(dy), activation, m * n, flat(dz))
    gradient = given(dz)
    tile = choose_tile(dtype, k + 1, n)
    grid = blocks(n, tile.columns), blocks(k + 1, tile.rows)
    dense_kernels(dtype, tile).weight_gradient[grid, tile.threads](given(x), gradient, control, k, n, flat(dw), db)
    if 0 not in tuple(dx.shape):
        tile = choose_tile(dtype, m, k)
        grid = blocks(k, tile.columns), blocks(m, tile.rows)
        dense_kernels(dtype, tile).input_gradient[grid, tile.threads](gradient, 0, given(w), 0, control, k, n, 0,
                                                                      flat(dx), 0)


def softmax_xent(z, labels, targets, weights, dz):
    """loss = Σᵢ wᵢ lᵢ / Σᵢ wᵢ of the softmax cross-entropy, dz its gradient."""
    return _loss(loss_codes.SOFTMAX_XENT, z, labels, targets, weights, dz)


def sigmoid_xent(z, targets, weights, dz):
    """The mean binary cross-entropy of sigmoid outputs, dz its gradient."""
    return _loss(loss_codes.SIGMOID_XENT, z, None, targets, weights, dz)


def squared_error(z, targets, weights, dz):
    """The mean squared error, dz its gradient."""
    return _loss(loss_codes.SQUARED_ERROR, z, None, targets, weights, dz)


def pointwise_loss(loss, parameter, z, targets, weights, dz):
    """The mean of one of the pointwise losses (Huber, absolute, Poisson, quantile), dz its gradient."""
    return _loss(loss, z, None, targets, weights, dz, parameter)


def _loss(loss, z, labels, targets, weights, dz, parameter=0.0):
    m, n = z.shape
    if m == 0:
        return 0.0
    dtype = type_of(z)
    labelled, weighted = is_given(labels), is_given(weights)
    nothing = np.zeros(1, dtype)
    labels = labels if labelled else np.zeros(1, np.int64)
    targets = targets if is_given(targets) else nothing
    weights = weights if weighted else nothing
    control = cuda.to_device(one_batch(m, labelled, weighted))
    sums, order = cuda.to_device(np.zeros(4)), cuda.to_device(np.zeros(1, np.int64))
    values, right = cuda.device_array(m, dtype), cuda.device_array(m, np.int64)
    weights = given(weights)
    steps.sum_weights[1, steps.THREADS](weights, order, control, sums)
    losses.kernels(dtype).row_loss[blocks(m, losses.WARPS), 32 * losses.WARPS](
        loss, dtype(parameter), given(z), 0, n, given(labels), given(targets), weights, order, control, sums, 0,
        flat(dz), 0, values, right)
    steps.add_totals[1, steps.THREADS](weights, order, values, right, 0.0, control, sums)
    total, _, weight, _ = sums.copy_to_host()
    return float(total / weight) if weight > 0 else 0.0


@functools.cache
def update_kernel(dtype):
    apply_rule = functions(dtype).apply_rule
    sgd, adam, adam_eps, zero = update_rules.SGD, update_rules.ADAM, update_rules.ADAM_EPS, dtype(0)

    @cuda.jit
    def update(rule, count, c0, c1, c2, c3, c4, c5, c6, c7, c8, w, g, s1, s2):
        i = cuda.blockIdx.x * ELEMENTWISE + cuda.threadIdx.x
        if i < count:
            first = s1[i] if rule != sgd else zero
            second = s2[i] if adam <= rule <= adam_eps else zero
            weight, first, second = apply_rule(rule, w[i], g[i], first, second, (c0, c1, c2, c3, c4, c5, c6, c7, c8))
            w[i] = weight
            if rule != sgd:
                s1[i] = first
            if adam <= rule <= adam_eps:
                s2[i] = second

    return update


def update(rule, hyper, learning_rate, step, w, g, s1, s2):
    """One optimizer step on flat arrays, in place. Rules: `kernels.update_rules`."""
    count, dtype = w.shape[0], type_of(w)
    if count == 0:
        return
    constants = map(dtype, STEP_CONSTANTS(rule, [float(h) for h in hyper], float(learning_rate), step))
    update_kernel(dtype)[blocks(count, ELEMENTWISE), ELEMENTWISE](rule, count, *constants, w, given(g), flat(s1),
                                                                  flat(s2))


# The host's own: plain Python.
STEP_CONSTANTS = update_rules.define(lambda function: function, None, None).step_constants


def dropout(x, rate, seed, step, layer, y=None):
    """y = x / (1 - rate) where kept, else 0, which is returned; masks as in the other packages."""
    m, n = x.shape
    y = new((m, n), x) if y is None else y
    if m * n:
        dtype = type_of(x)
        philox.drop[blocks(m * n, philox.THREADS), philox.THREADS](
            given(x), m, n, dtype(1 / (1 - rate)), keep_threshold(rate), seed, step, layer, flat(y))
    return y


def philox_words(c0, c1, c2, c3, k0, k1):
    """Four uint32 numbers of Philox4x32-10 for one counter and key."""
    out = np.zeros(4, np.uint64)
    philox.four_words[1, 1](*(int(word) for word in (c0, c1, c2, c3, k0, k1)), out)
    return tuple(out.astype(np.uint32))


def gather(x, rows, scale, out):
    """out (m, k) = x[rows] * scale, in out's dtype; x uint8 or out's dtype."""
    m, k = out.shape
    if m * k:
        control, dtype = one_batch(m), type_of(out)
        control[LISTED] = 1
        steps.kernels(dtype).gather[blocks(m * k, steps.THREADS), steps.THREADS](
            given(x), given(rows), given(control), k, dtype(scale), flat(out), 0)
