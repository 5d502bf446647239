"""Rosenblatt's perceptron: it learns from its mistakes, the rows with y (θᵀx + b) ≤ 0 for y = ±1."""
import numpy as np


def perceptron_online(x, y, theta, bias):
    """One pass in order; each mistake moves the boundary at once: θ ← θ + yᵢ xᵢ, b ← b + yᵢ."""
    updates = 0
    for row, label in zip(x, y, strict=True):
        if label * (row @ theta + bias[0]) <= 0:
            theta += label * row
            bias += label
            updates += 1
    return updates


def perceptron_batch(x, y, theta, bias, delta):
    """One step along the mean of all mistakes: (θ, b) ← (θ, b) + 1/m Σ_mistakes yᵢ (xᵢ, 1)."""
    mistakes = y * (x @ theta + bias[0]) <= 0
    pull = np.where(mistakes, y, y.dtype.type(0))
    np.matmul(pull, x, out=delta[:-1])
    delta[-1] = pull.sum()
    if len(x):
        theta += delta[:-1] / len(x)
        bias += delta[-1] / len(x)
    return int(np.count_nonzero(mistakes))


def shuffle(rows, seed):
    """Fisher and Yates' shuffle in place, by the numbers of Marsaglia's xorshift32 cut to 31 bits."""
    state = seed or 1
    for i in range(len(rows) - 1):
        state ^= state << 13 & 0xFFFFFFFF
        state ^= state >> 17
        state ^= state << 5 & 0xFFFFFFFF
        j = i + (state & 0x7FFFFFFF) % (len(rows) - i)
        rows[i], rows[j] = rows[j], rows[i]


def perceptron_epoch(x, rows, labels, weights, positive, negative, l2, l1, intercept, steps, active, theta, bias,
                     shrunk, totals):
    """K perceptrons, one against the rest each, through `rows` in order; those not `active` are left as they are."""
    learning = np.flatnonzero(active)
    for step, row in enumerate(rows, steps + 1):
        theta_norms = (theta[learning].astype(np.float64) ** 2).sum(axis=1) if l2 or l1 else 0
        theta_sums = np.abs(theta[learning].astype(np.float64)).sum(axis=1) if l2 or l1 else 0
        signs = np.where(labels[row] == learning, 1, -1)
        margins = signs * (theta[learning].astype(np.float64) @ x[row].astype(np.float64) + bias[learning])
        mistakes = margins <= 0
        totals[learning, 0] += np.where(mistakes, -margins, 0)
        totals[learning, 1] += 0.5 * theta_norms
        totals[learning, 2] += theta_sums
        weight = weights[row] if weights.size else 1.0
        moves = np.where(mistakes, signs * weight * np.where(signs > 0, positive[learning], negative[learning]), 0)
        theta[learning] = theta[learning] * max(0.0, 1.0 - l2) + moves[:, None] * x[row]
        bias[learning] += intercept * moves
        if l1:
            cut(theta, learning, step * l1, shrunk)


def cut(theta, learning, limit, shrunk):
    """Each weight moves to zero by as much of `limit` as it has not moved yet (Tsuruoka, Tsujii & Ananiadou 2009)."""
    for k in learning:
        before = theta[k].copy()
        theta[k] = np.where(before > 0, np.maximum(0, before - (limit + shrunk[k])),
                            np.minimum(0, before + (limit - shrunk[k])))
        shrunk[k] += theta[k] - before
