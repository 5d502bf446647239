"""Training of narrow nets in one persistent kernel: one launch is many steps, and the weights stay in shared memory.

A step of the graph is 2 L + 3 launches for L layers, each of which waits for the one before; a narrow net leaves most
of the GPU idle through all of them. Here one block does the whole step, on one multiprocessor:

    gather; forward layer by layer; row losses; backward; gradients       for every block of rows that fits
    the optimizer on every weight; `steps`' bookkeeping

Shared memory holds, as the net's dtype and one behind the other: weights; their gradients; every layer's input and the
net's output; every layer's slopes, then dz. The bias is one more row of W, and so every input has one more column, of
ones. Rows are of odd length: 32 threads that read down a column then meet 32 different banks. The optimizer's slots
stay in the GPU's memory: a thread reads and writes its own, once a step.

Whether it pays (`choose`) is arithmetic, not measured yet: no GPU was at hand. A launch in a graph takes about 2 µs:
1 to 1.5 from one node to the next, and its own first reads from the L2. A multiprocessor reads 32 numbers a cycle from
shared memory, and a thread 4 for 4 multiply-adds: 32 multiply-adds a cycle, 0.11 TFLOP/s at 1.7 GHz, of which edges
and waiting may leave half. Gather, row losses and bookkeeping wait as long as 2 launches, or 4 µs. So it pays while

    FLOP of the step / 50 GFLOP/s + 4 µs  <=  (2 L + 3) 2 µs,     FLOP <= (2 L + 1) 100,000

which is 4-32-16-4 at batches up to 165 and 64-32-10 at batches up to 35; half of that in float64, of whose numbers
shared memory gives 16 a cycle.

Every sum has a fixed order, that of rows or of inputs, whatever block of rows it is in: the same bits in every run.
"""
import functools
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .. import activations as codes
from . import losses, network, optimizer
from .control import ROWS, STEP, index, row_number
from .machine import Launch
from .philox import dropped, keep_threshold
from .scalars import functions
from .shims import cuda, device
from .steps import THREADS, WARPS, double
from .steps import kernels as step_kernels

WIDEST = 128                     # of hidden layers and outputs
# Few enough that Ctrl-C is prompt: where `choose` is followed, 512 steps take about 2 L + 3 ms at most.
STEPS = 512
LAUNCH_FLOPS = 100_000           # what a multiprocessor computes in float32 while a graph launches a kernel
SHARED_BYTES = 48 * 1024         # what every GPU gives a block that does not ask for more
# A layer's row in the table: where its weights lie in shared memory and in the flat array; where its input, output and
# dz; how long a row of its input, of its output, and of its weights and dz is.
(W_AT, FLAT_AT, X_AT, Y_AT, DZ_AT, X_ROW, Y_ROW, DZ_ROW, N_IN, N_OUT, ACTIVATION, THRESHOLD, SHIFT_IN,
 SHIFT_OUT) = range(14)
# What `product` does with the numbers that it finds: overwrite them, add to them, multiply them by its own.
OVERWRITE, ADD, MULTIPLY = range(3)


@dataclass(frozen=True)
class Plan:
    """How a net and its batches lie in shared memory."""

    rows: int                    # of a batch at a time
    weights: int                 # elements of all layers' weights, and of their gradients


def odd(count):
    """The length of a row of so many numbers."""
    return count | 1


def capacity(dtype):
    """Elements of shared memory, next to the sums of the warps."""
    return (SHARED_BYTES - 8 * WARPS) // np.dtype(dtype).itemsize


def plan(sizes, batch, dtype):
    """The `Plan` of a net that fits, or None. A block of rows has at least one for every warp."""
    if max(sizes[1:]) > WIDEST:
        return None
    weights = sum((n_in + 1) * odd(n_out) for n_in, n_out in pairwise(sizes))
    per_row = sum(odd(n + 1) for n in sizes) + sum(odd(n) for n in sizes[1:])
    fit = (capacity(dtype) - 2 * weights) // per_row
    if fit < min(batch, WARPS):
        return None
    return Plan(-(-batch // -(-batch // fit)), weights)


def choose(sizes, batch, dtype):
    """The `Plan` of a net whose step one multiprocessor computes sooner than a graph launches it, or None."""
    words = network.step_flops(sizes, batch) * np.dtype(dtype).itemsize / 4
    return plan(sizes, batch, dtype) if words <= (2 * len(sizes) - 1) * LAUNCH_FLOPS else None


def shift_of(columns):
    """log2 of the threads side by side in a product of so many columns, each with two of them."""
    return max(0, (-(-columns // 2) - 1).bit_length())


def table_of(layers, plan):
    """The table of a net's layers (`network.Layer`)."""
    table, w_at, x_at = [], 0, 2 * plan.weights
    dz_at = x_at + plan.rows * (odd(layers[0].n_in + 1) + sum(odd(layer.n_out + 1) for layer in layers))
    for layer in layers:
        x_row, y_row, dz_row = odd(layer.n_in + 1), odd(layer.n_out + 1), odd(layer.n_out)
        y_at = x_at + plan.rows * x_row
        table.append((w_at, layer.w_at, x_at, y_at, dz_at, x_row, y_row, dz_row, layer.n_in, layer.n_out,
                      layer.activation, keep_threshold(layer.rate), shift_of(layer.n_in), shift_of(layer.n_out)))
        w_at, x_at, dz_at = w_at + (layer.n_in + 1) * dz_row, y_at, dz_at + plan.rows * dz_row
    return np.array(table, np.int64)


def launch(state, data):
    """The launch of up to STEPS training steps, after `steps.finish_step` has begun an epoch."""
    recipe, work, dtype, plan = state.recipe, state.work, state.dtype, state.plan
    factors = state.machine.upload(np.array([1 / (1 - layer.rate) for layer in work.layers], dtype))
    table = state.machine.upload(table_of(work.layers, plan))
    return Launch(kernel(dtype), 1, THREADS, (
        STEPS, table, len(work.layers), plan.rows, plan.weights, factors, data.x, dtype(recipe.scale), data.labels,
        data.targets, data.weights, state.order, state.all_constants, recipe.rule, recipe.l2, recipe.alpha, recipe.loss,
         dtype(recipe.parameter), network.correct_unit(recipe.loss, state.sizes[-1]), recipe.seed,
        state.parameters, state.s1, state.s2, work.losses, work.correct, state.control, state.sums, state.constants))


@device
def spread(shift):
    """This thread's first row and column of a matrix, and how far apart its rows and its columns lie."""
    t, across = cuda.threadIdx.x, 1 << shift
    return t >> shift, t & (across - 1), THREADS >> shift, across


@functools.cache
def kernel(dtype):
    zero, one, elements, identity = dtype(0), dtype(1), capacity(dtype), codes.IDENTITY
    with_slope, rules = functions(dtype).with_slope, optimizer.define(dtype)
    in_registers, move = rules.in_registers, rules.move
    loss_of_row, step = losses.kernels(dtype).loss_of_row, step_kernels(dtype)
    advance, weigh_rows, set_constants = step.advance, step.weigh_rows, step.set_constants

    @device
    def product(a_at, a_row, a_step, b_at, b_step, b_column, depth, rows, columns, shift, what, c_at, c_row, shared):
        """C (rows, columns) = A B, all in shared memory; before the next barrier a thread sees its own part of C alone.

        A(i, p) = shared[a_at + i a_row + p a_step], B(p, j) = shared[b_at + p b_step + j b_column]. Two rows and two
        columns a thread at a time; beyond the edge, its first row or column once more.
        """
        first_i, first_j, down, across = spread(shift)
        a_step, b_step = index(a_step), index(b_step)
        for i in range(first_i, rows, 2 * down):
            other_i = i + down if i + down < rows else i
            for j in range(first_j, columns, 2 * across):
                other_j = j + across if j + across < columns else j
                c00, c01 = index(c_at + i * c_row + j), index(c_at + i * c_row + other_j)
                c10, c11 = index(c_at + other_i * c_row + j), index(c_at + other_i * c_row + other_j)
                s00 = s01 = s10 = s11 = zero
                if what == ADD:
                    s00, s01, s10, s11 = shared[c00], shared[c01], shared[c10], shared[c11]
                a0, a1 = index(a_at + i * a_row), index(a_at + other_i * a_row)
                b0, b1 = index(b_at + j * b_column), index(b_at + other_j * b_column)
                left = index(depth)
                while left > index(0):                      # a range would cost more than the products
                    u0, u1, v0, v1 = shared[a0], shared[a1], shared[b0], shared[b1]
                    s00 += u0 * v0
                    s01 += u0 * v1
                    s10 += u1 * v0
                    s11 += u1 * v1
                    a0, a1, b0, b1 = a0 + a_step, a1 + a_step, b0 + b_step, b1 + b_step
                    left -= index(1)
                if what == MULTIPLY:
                    s00, s01, s10, s11 = s00 * shared[c00], s01 * shared[c01], s10 * shared[c10], s11 * shared[c11]
                shared[c00], shared[c01], shared[c10], shared[c11] = s00, s01, s10, s11

    @device
    def copy_weights(table, layers, back, w, shared):
        """The weights into shared memory, or back, by the threads that move them."""
        for layer in range(layers):
            n_out, row, at, flat = table[layer, N_OUT], table[layer, DZ_ROW], table[layer, W_AT], table[layer, FLAT_AT]
            first_i, first_j, down, across = spread(table[layer, SHIFT_OUT])
            for i in range(first_i, table[layer, N_IN] + 1, down):
                for j in range(first_j, n_out, across):
                    here, there = index(at + i * row + j), index(flat + i * n_out + j)
                    if back:
                        w[there] = shared[here]
                    else:
                        shared[here] = w[there]

    @device
    def put_ones(table, layers, block_rows, shared):
        """The column behind every layer's input, which meets the bias."""
        for layer in range(layers):
            at, row = table[layer, X_AT] + table[layer, N_IN], table[layer, X_ROW]
            for r in range(cuda.threadIdx.x, block_rows, THREADS):
                shared[index(at + r * row)] = one

    @device
    def gather(table, x, scale, order, control, first, m, shared):
        """The block's rows of x, scaled, as the first layer's input."""
        k, at, row = table[0, N_IN], table[0, X_AT], table[0, X_ROW]
        first_r, first_c, down, across = spread(table[0, SHIFT_IN])
        for r in range(first_r, m, down):
            source = row_number(control, order, first + r) * k
            for c in range(first_c, k, across):
                shared[index(at + r * row + c)] = dtype(x[index(source + c)]) * scale

    @device
    def forward(table, layer, factor, step, seed, first, m, shared):
        """y = dropout(f(x W + b)) and its slope, by the thread that has summed up z."""
        n, threshold, activation = table[layer, N_OUT], table[layer, THRESHOLD], table[layer, ACTIVATION]
        y_at, y_row, dz_at, dz_row = table[layer, Y_AT], table[layer, Y_ROW], table[layer, DZ_AT], table[layer, DZ_ROW]
        shift = table[layer, SHIFT_OUT]
        product(table[layer, X_AT], table[layer, X_ROW], 1, table[layer, W_AT], dz_row, 1, table[layer, N_IN] + 1, m, n,
                shift, OVERWRITE, y_at, y_row, shared)
        first_r, first_c, down, across = spread(shift)
        for r in range(first_r, m, down):
            for c in range(first_c, n, across):
                here = index(y_at + r * y_row + c)
                value, slope = with_slope(activation, shared[here])
                value, slope = dropped(value, slope, factor, threshold, first + r, c, layer, step, seed)
                shared[here] = value
                shared[index(dz_at + r * dz_row + c)] = slope

    @device
    def backward(table, layer, m, shared):
        """dz of the layer before: dz Wᵀ times the slopes that lie there."""
        row = table[layer, DZ_ROW]
        product(table[layer, DZ_AT], row, 1, table[layer, W_AT], 1, row, table[layer, N_OUT], m, table[layer, N_IN],
                table[layer, SHIFT_IN], MULTIPLY, table[layer - 1, DZ_AT], table[layer - 1, DZ_ROW], shared)

    @device
    def gradient(table, layer, gradients_at, m, shared):
        """Adds xᵀ dz to the gradients of the weights and of the bias."""
        row = table[layer, DZ_ROW]
        product(table[layer, X_AT], 1, table[layer, X_ROW], table[layer, DZ_AT], row, 1, m, table[layer, N_IN] + 1,
                table[layer, N_OUT], table[layer, SHIFT_OUT], ADD, table[layer, W_AT] + gradients_at, row, shared)

    @device
    def move_weights(table, layers, gradients_at, rule, constants, s1, s2, shared):
        """The optimizer, and zero for the next step's gradients, by the thread that has summed them up."""
        step = in_registers(constants)
        for layer in range(layers):
            n_in, n_out, row = table[layer, N_IN], table[layer, N_OUT], table[layer, DZ_ROW]
            first_i, first_j, down, across = spread(table[layer, SHIFT_OUT])
            for i in range(first_i, n_in + 1, down):
                for j in range(first_j, n_out, across):
                    at = index(table[layer, W_AT] + i * row + j)
                    slope_at = index(table[layer, W_AT] + gradients_at + i * row + j)
                    move(rule, step, shared[slope_at], i < n_in, shared, at, s1, s2,
                         index(table[layer, FLAT_AT] + i * n_out + j))
                    shared[slope_at] = zero

    @cuda.jit(launch_bounds=THREADS)
    def train_narrow(steps, table, layers, block_rows, gradients_at, factors, x, scale, labels, targets, weights, order,
                     all_constants, rule, l2, alpha, loss, parameter, correct_unit, seed, w, s1, s2, losses, correct,
                     control, sums, constants):
        shared = cuda.shared.array(elements, dtype)
        partial = cuda.shared.array(WARPS, double)
        if control[ROWS] == 0:
            return
        t, last = cuda.threadIdx.x, layers - 1
        z_at, z_row, dz_at, dz_row = table[last, Y_AT], table[last, Y_ROW], table[last, DZ_AT], table[last, DZ_ROW]
        times_slope = 1 if table[last, ACTIVATION] != identity else 0
        copy_weights(table, layers, False, w, shared)
        for i in range(t, gradients_at, THREADS):
            shared[index(gradients_at + i)] = zero
        put_ones(table, layers, block_rows, shared)
        for _ in range(steps):
            rows = control[ROWS]
            if rows == 0:
                break
            for first in range(0, rows, block_rows):
                m = min(block_rows, rows - first)
                gather(table, x, scale, order, control, first, m, shared)
                cuda.syncthreads()
                for layer in range(layers):
                    forward(table, layer, factors[layer], control[STEP], seed, first, m, shared)
                    cuda.syncthreads()
                for r in range(t >> 5, m, WARPS):
                    loss_of_row(first + r, t & 31, loss, parameter, shared, z_at + r * z_row, table[last, N_OUT],
                                labels, targets, weights, order, control, sums, times_slope, shared,
                                dz_at + r * dz_row, losses, correct)
                cuda.syncthreads()
                for layer in range(last, 0, -1):
                    backward(table, layer, m, shared)
                    cuda.syncthreads()
                for layer in range(layers):
                    gradient(table, layer, gradients_at, m, shared)
                cuda.syncthreads()
            move_weights(table, layers, gradients_at, rule, constants, s1, s2, shared)
            advance(0, weights, order, losses, correct, correct_unit, control, sums, partial)
            weigh_rows(weights, order, l2, alpha, control, sums, constants, partial)
            set_constants(all_constants, control, constants)
        copy_weights(table, layers, True, w, shared)

    return train_narrow
