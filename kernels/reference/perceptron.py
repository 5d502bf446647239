"""Rosenblatt's perceptron: it learns from its mistakes, the rows with y (θᵀx + b) ≤ 0 for y = ±1."""
import numpy as np


def perceptron_online(x, y, theta, bias):
    """One pass in order; each mistake moves the boundary at once: θ ← θ + yᵢ xᵢ, b ← b + yᵢ."""
    updates = 0
    for row, answer in zip(x, y, strict=True):
        if answer * (row @ theta + bias[0]) <= 0:
            theta += answer * row
            bias += answer
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
