"""The losses with their gradients, a warp a row; softmax of rows. Formulas: `kernels`; twin: `reference.losses`.

    row_loss  kernel(loss, parameter, z, z_at, n, labels, targets, weights, order, control, sums, times_slope, dz,
                     dz_at, losses, correct)
        losses[r] = lᵣ, not weighted; correct[r]: 1 or 0 (softmax), how many outputs are on their target's side
        (sigmoid); dz = ∂lᵣ/∂z wᵣ / Σ w, times what dz held before where that is slopes. dz may be z.

Sums over a row go lane by lane, in blocks, then butterfly-wise over the warp: an order that depends on n alone.
"""
import functools
import math
from types import SimpleNamespace

from .. import losses as codes
from .control import BATCH_WEIGHT, LABELLED, ROWS, WEIGHTED, index, row_number
from .scalars import functions, is_in
from .shims import cuda, device

WARPS = 4                        # rows of a block
# Terms that a lane adds in one run; a longer sum is one of such blocks, as in `cpu.tile.gemm`: a million classes are as
# accurate as a thousand. A power of two.
SUM_BLOCK = 1024
ALL = 0xFFFFFFFF


@device
def ends_block(j):
    """Whether a sum over every 32nd index has added SUM_BLOCK terms, or a multiple of that, once it is at j."""
    return (j & (32 * SUM_BLOCK - 1)) >= 32 * (SUM_BLOCK - 1)


@device
def warp_sum(value):
    for d in (16, 8, 4, 2, 1):
        value += cuda.shfl_xor_sync(ALL, value, d)
    return value


@device
def warp_largest(value, position):
    """The largest value of the warp and the first position that has it."""
    for d in (16, 8, 4, 2, 1):
        other, other_position = cuda.shfl_xor_sync(ALL, value, d), cuda.shfl_xor_sync(ALL, position, d)
        if other > value or (other == value and other_position < position):
            value, position = other, other_position
    return value, position


@functools.cache
def kernels(dtype):
    zero, one, half, lowest = dtype(0), dtype(1), dtype(0.5), dtype(-math.inf)
    softmax, element_of = codes.SOFTMAX_CROSS_ENTROPY, functions(dtype).loss
    counts_outputs = is_in(codes.TABLE.codes(lambda record: record.correct == "outputs"))

    @device
    def largest(z, at, n, lane):
        """The row's largest number and where it first stands."""
        top, position = lowest, n
        for j in range(lane, n, 32):
            if z[index(at + j)] > top:
                top, position = z[index(at + j)], j
        return warp_largest(top, position)

    @device
    def exponentials(z, at, n, lane, top):
        total, part = zero, zero
        for j in range(lane, n, 32):
            part += math.exp(z[index(at + j)] - top)
            if ends_block(j):
                total, part = total + part, zero
        return warp_sum(total + part)

    @device
    def put(dz, at, value, times_slope):
        here = index(at)
        dz[here] = value * dz[here] if times_slope != 0 else value

    @device
    def softmax_label_row(z, at, n, lane, label, scale, times_slope, dz, dz_at):
        top, position = largest(z, at, n, lane)
        score = z[index(at + label)] - top
        total = exponentials(z, at, n, lane, top)
        cuda.syncwarp()                                    # dz may be z: everybody has read z[label]
        share = scale / total
        for j in range(lane, n, 32):
            value = math.exp(z[index(at + j)] - top) * share
            put(dz, dz_at + j, value - scale if j == label else value, times_slope)
        return math.log(total) - score, 1 if position == label else 0

    @device
    def softmax_target_row(z, at, n, lane, t, t_at, scale, times_slope, dz, dz_at):
        top, position = largest(z, at, n, lane)
        _, label = largest(t, t_at, n, lane)
        mass, dot, some_mass, some_dot = zero, zero, zero, zero
        for j in range(lane, n, 32):
            if t[index(t_at + j)] != zero:                        # t = 0 gives 0 even for a logit of -inf
                some_mass += t[index(t_at + j)]
                some_dot += t[index(t_at + j)] * (z[index(at + j)] - top)
            if ends_block(j):
                mass, dot, some_mass, some_dot = mass + some_mass, dot + some_dot, zero, zero
        mass, dot = warp_sum(mass + some_mass), warp_sum(dot + some_dot)
        total = exponentials(z, at, n, lane, top)
        share = mass / total
        for j in range(lane, n, 32):
            value = (math.exp(z[index(at + j)] - top) * share - t[index(t_at + j)]) * scale
            put(dz, dz_at + j, value, times_slope)
        return mass * math.log(total) - dot, 1 if position == label else 0

    @device
    def mean_over_outputs(loss, parameter, z, at, n, lane, t, t_at, scale, times_slope, dz, dz_at):
        total, part, correct, scale, counts = zero, zero, 0, scale / dtype(n), counts_outputs(loss)
        for j in range(lane, n, 32):
            value, target = z[index(at + j)], t[index(t_at + j)]
            element, slope = element_of(loss, parameter, value, target)
            part += element
            if counts and (value > zero) == (target > half):
                correct += 1
            put(dz, dz_at + j, slope * scale, times_slope)
            if ends_block(j):
                total, part = total + part, zero
        return warp_sum(total + part) / dtype(n), warp_sum(correct)

    @device
    def loss_of_row(r, lane, loss, parameter, z, at, n, labels, targets, weights, order, control, sums, times_slope, dz,
                    to, losses, correct):
        """What `row_loss` does for row r of the step, by one warp; the row of z begins at `at`, that of dz at `to`."""
        row = row_number(control, order, r)
        weight_sum = dtype(sums[BATCH_WEIGHT])
        weight = weights[index(row)] if control[WEIGHTED] != 0 else one
        scale = weight / weight_sum if weight_sum > zero else zero
        if loss != softmax:
            value, good = mean_over_outputs(loss, parameter, z, at, n, lane, targets, row * n, scale, times_slope, dz,
                                            to)
        elif control[LABELLED] != 0:
            value, good = softmax_label_row(z, at, n, lane, labels[index(row)], scale, times_slope, dz, to)
        else:
            value, good = softmax_target_row(z, at, n, lane, targets, row * n, scale, times_slope, dz, to)
        if lane == 0:
            losses[index(r)] = value
            correct[index(r)] = good

    @cuda.jit(launch_bounds=32 * WARPS)
    def row_loss(loss, parameter, z, z_at, n, labels, targets, weights, order, control, sums, times_slope, dz, dz_at,
                 losses, correct):
        lane, r = cuda.threadIdx.x & 31, cuda.blockIdx.x * WARPS + (cuda.threadIdx.x >> 5)
        if r < control[ROWS]:
            loss_of_row(r, lane, loss, parameter, z, z_at + r * n, n, labels, targets, weights, order, control, sums,
                        times_slope, dz, dz_at + r * n, losses, correct)

    @cuda.jit(launch_bounds=32 * WARPS)
    def softmax_rows(z, z_at, m, n, y, y_at):
        """y = softmax of each row of z; y may be z."""
        lane, r = cuda.threadIdx.x & 31, cuda.blockIdx.x * WARPS + (cuda.threadIdx.x >> 5)
        if r >= m:
            return
        at = z_at + r * n
        top, _ = largest(z, at, n, lane)
        share = one / exponentials(z, at, n, lane, top)
        for j in range(lane, n, 32):
            y[index(y_at + r * n + j)] = math.exp(z[index(at + j)] - top) * share

    return SimpleNamespace(loss_of_row=loss_of_row, row_loss=row_loss, softmax=softmax_rows, exponentials=exponentials,
                           largest=largest)
