"""The losses with their gradients, a warp a row; softmax of rows. Formulas: `kernels`; twin: `reference.losses`.

    row_loss  kernel(loss, parameter, z, z_at, n, labels, targets, weights, order, control, sums, times_slope, dz,
                     dz_at, losses, right)
        losses[r] = lᵣ, not weighted; right[r]: 1 or 0 (softmax), how many outputs are on the right side (sigmoid);
        dz = ∂lᵣ/∂z wᵣ / Σ w, times what dz held before where that is slopes. dz may be z.

Sums over a row go lane by lane, then butterfly-wise over the warp: an order that depends on n alone.
"""
import functools
import math
from types import SimpleNamespace

from .. import losses as codes
from .control import BATCH_WEIGHT, LABELLED, ROWS, WEIGHTED, row_number
from .scalars import functions, literals_in
from .shims import cuda, device

WARPS = 4                        # rows of a block
ALL = 0xFFFFFFFF


@device
def warp_sum(value):
    for d in (16, 8, 4, 2, 1):
        value += cuda.shfl_xor_sync(ALL, value, d)
    return value


@device
def warp_largest(value, place):
    """The largest value of the warp and the first place that has it."""
    for d in (16, 8, 4, 2, 1):
        other, other_place = cuda.shfl_xor_sync(ALL, value, d), cuda.shfl_xor_sync(ALL, place, d)
        if other > value or (other == value and other_place < place):
            value, place = other, other_place
    return value, place


@functools.cache
def kernels(dtype):
    jit, sigmoid = literals_in(dtype), functions(dtype).sigmoid
    softmax_cross_entropy, sigmoid_cross_entropy = codes.SOFTMAX_CROSS_ENTROPY, codes.SIGMOID_CROSS_ENTROPY
    squared_error = codes.SQUARED_ERROR
    zero, one, two, lowest = dtype(0), dtype(1), dtype(2), dtype(-math.inf)

    @device
    def largest(z, at, n, lane):
        """The row's largest number and where it first stands."""
        top, place = lowest, n
        for j in range(lane, n, 32):
            if z[at + j] > top:
                top, place = z[at + j], j
        return warp_largest(top, place)

    @device
    def exponentials(z, at, n, lane, top):
        total = zero
        for j in range(lane, n, 32):
            total += math.exp(z[at + j] - top)
        return warp_sum(total)

    @device
    def put(dz, at, value, times_slope):
        dz[at] = value * dz[at] if times_slope != 0 else value

    @device
    def softmax_label_row(z, at, n, lane, label, scale, times_slope, dz, dz_at):
        top, place = largest(z, at, n, lane)
        score = z[at + label] - top
        total = exponentials(z, at, n, lane, top)
        cuda.syncwarp()                                    # dz may be z: everybody has read z[label]
        share = scale / total
        for j in range(lane, n, 32):
            value = math.exp(z[at + j] - top) * share
            put(dz, dz_at + j, value - scale if j == label else value, times_slope)
        return math.log(total) - score, 1 if place == label else 0

    @device
    def softmax_target_row(z, at, n, lane, t, t_at, scale, times_slope, dz, dz_at):
        top, place = largest(z, at, n, lane)
        _, answer = largest(t, t_at, n, lane)
        mass, dot = zero, zero
        for j in range(lane, n, 32):
            if t[t_at + j] != zero:                        # t = 0 gives 0 even for a logit of -inf
                mass += t[t_at + j]
                dot += t[t_at + j] * (z[at + j] - top)
        mass, dot = warp_sum(mass), warp_sum(dot)
        total = exponentials(z, at, n, lane, top)
        share = mass / total
        for j in range(lane, n, 32):
            value = (math.exp(z[at + j] - top) * share - t[t_at + j]) * scale
            put(dz, dz_at + j, value, times_slope)
        return mass * math.log(total) - dot, 1 if place == answer else 0

    @jit
    def sigmoid_row(z, at, n, lane, t, t_at, scale, times_slope, dz, dz_at):
        loss, right = 0.0 * scale, 0
        for j in range(lane, n, 32):
            value, target = z[at + j], t[t_at + j]
            larger = 0.0 if value < 0.0 else value         # NaN stays
            loss += larger - value * target + math.log1p(math.exp(-abs(value)))
            right += 1 if (value > 0.0) == (target > 0.5) else 0
            put(dz, dz_at + j, (sigmoid(value) - target) * scale, times_slope)
        return warp_sum(loss), warp_sum(right)

    @device
    def squared_row(z, at, n, lane, t, t_at, scale, times_slope, dz, dz_at):
        loss = zero
        for j in range(lane, n, 32):
            difference = z[at + j] - t[t_at + j]
            loss += difference * difference
            put(dz, dz_at + j, two * difference * scale, times_slope)
        return warp_sum(loss), 0

    @jit
    def pointwise_row(loss, parameter, z, at, n, lane, t, t_at, scale, times_slope, dz, dz_at):
        """Huber, absolute, quantile and Poisson loss; comparisons leave NaN as it is."""
        above, below, total = 1.0 + 0.0 * parameter, -1.0 + 0.0 * parameter, 0.0 * parameter
        if loss == codes.QUANTILE:
            above, below = 1.0 - parameter, -parameter
        for j in range(lane, n, 32):
            value, target = z[at + j], t[t_at + j]
            e = value - target
            if loss == codes.POISSON:
                slope = math.exp(value) - target
                part = slope
                if target > 0.0:
                    part -= target * (value - math.log(target))
            elif loss == codes.HUBER:
                slope = parameter if e > parameter else -parameter if e < -parameter else e
                part = slope * (e - 0.5 * slope)
            else:
                slope = above if e > 0.0 else below if e < 0.0 else e
                part = slope * e
            total += part
            put(dz, dz_at + j, slope * scale, times_slope)
        return warp_sum(total), 0

    @device
    def loss_of_row(r, lane, loss, parameter, z, at, n, labels, targets, weights, order, control, sums, times_slope, dz,
                    to, losses, right):
        """What `row_loss` does for row r of the step, by one warp; the row of z begins at `at`, that of dz at `to`."""
        row = row_number(control, order, r)
        weight_sum = dtype(sums[BATCH_WEIGHT])
        weight = weights[row] if control[WEIGHTED] != 0 else one
        scale = weight / weight_sum if weight_sum > zero else zero
        if loss == softmax_cross_entropy:
            if control[LABELLED] != 0:
                value, good = softmax_label_row(z, at, n, lane, labels[row], scale, times_slope, dz, to)
            else:
                value, good = softmax_target_row(z, at, n, lane, targets, row * n, scale, times_slope, dz, to)
        else:
            scale = scale / dtype(n)
            if loss == sigmoid_cross_entropy:
                value, good = sigmoid_row(z, at, n, lane, targets, row * n, scale, times_slope, dz, to)
            elif loss == squared_error:
                value, good = squared_row(z, at, n, lane, targets, row * n, scale, times_slope, dz, to)
            else:
                value, good = pointwise_row(loss, parameter, z, at, n, lane, targets, row * n, scale, times_slope, dz,
                                            to)
            value = value / dtype(n)
        if lane == 0:
            losses[r] = value
            right[r] = good

    @cuda.jit(launch_bounds=32 * WARPS)
    def row_loss(loss, parameter, z, z_at, n, labels, targets, weights, order, control, sums, times_slope, dz, dz_at,
                 losses, right):
        lane, r = cuda.threadIdx.x & 31, cuda.blockIdx.x * WARPS + (cuda.threadIdx.x >> 5)
        if r < control[ROWS]:
            loss_of_row(r, lane, loss, parameter, z, z_at + r * n, n, labels, targets, weights, order, control, sums,
                        times_slope, dz, dz_at + r * n, losses, right)

    @cuda.jit(launch_bounds=32 * WARPS)
    def softmax(z, z_at, m, n, y, y_at):
        """y = softmax of each row of z; y may be z."""
        lane, r = cuda.threadIdx.x & 31, cuda.blockIdx.x * WARPS + (cuda.threadIdx.x >> 5)
        if r >= m:
            return
        at = z_at + r * n
        top, _ = largest(z, at, n, lane)
        share = one / exponentials(z, at, n, lane, top)
        for j in range(lane, n, 32):
            y[y_at + r * n + j] = math.exp(z[at + j] - top) * share

    return SimpleNamespace(loss_of_row=loss_of_row, row_loss=row_loss, softmax=softmax, exponentials=exponentials,
                           largest=largest)
