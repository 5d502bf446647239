"""The perceptron's two passes over the data (Rosenblatt 1958). Reference twins: `kernels.reference.perceptron`."""
from .jit import entry, inlined
from .simd import at, constant, fma, get, lanes, load_first, put, store_first, sum_lanes


@inlined
def _score(x, theta, k, bias):
    """θᵀx + b."""
    total = load_first(x, 0, 0)
    for j in range(0, k, lanes(x)):
        total = fma(load_first(x, j, k - j), load_first(theta, j, k - j), total)
    return sum_lanes(total) + bias


@inlined
def _add(x, y, k, theta):
    """θ ← θ + y x."""
    for j in range(0, k, lanes(x)):
        store_first(theta, j, fma(load_first(x, j, k - j), y, load_first(theta, j, k - j)), k - j)


@entry
def perceptron_online(x, y, theta, bias):
    """One pass in order: where yᵢ (θᵀxᵢ + b) ≤ 0, θ ← θ + yᵢ xᵢ and b ← b + yᵢ.

    x : (m, k), y : (m,) of ±1, theta : (k,), bias : (1,), float32 or float64, C-contiguous; theta and bias are
    changed in place. Returns the number of updates. Raises ValueError for shapes that do not fit together.
    """
    m, k = x.shape
    if y.shape[0] != m or theta.shape[0] != k or bias.shape[0] != 1:
        raise ValueError("perceptron_online: needs x (m, k), y (m,), theta (k,), bias (1,)")
    p, b = at(theta, 0), at(bias, 0)
    updates = 0
    for i in range(m):
        sign = get(at(y, 0), i)
        if sign * _score(at(x, i * k), p, k, get(b, 0)) <= 0:
            _add(at(x, i * k), sign, k, p)
            put(b, 0, get(b, 0) + sign)
            updates += 1
    return updates


@entry
def perceptron_batch(x, y, theta, bias, delta):
    """One pass: Δ = Σ over rows with yᵢ (θᵀxᵢ + b) ≤ 0 of yᵢ (xᵢ, 1), then (θ, b) ← (θ, b) + Δ / m.

    x : (m, k), y : (m,) of ±1, theta : (k,), bias : (1,), delta : (k + 1,) scratch that receives Δ, float32 or
    float64, C-contiguous. Returns the number of mistakes. Raises ValueError for shapes that do not fit together.
    """
    m, k = x.shape
    if y.shape[0] != m or theta.shape[0] != k or bias.shape[0] != 1 or delta.shape[0] != k + 1:
        raise ValueError("perceptron_batch: needs x (m, k), y (m,), theta (k,), bias (1,), delta (k + 1,)")
    p, d, b = at(theta, 0), at(delta, 0), get(at(bias, 0), 0)
    for j in range(k + 1):
        put(d, j, constant(0.0, d))
    mistakes = 0
    for i in range(m):
        sign = get(at(y, 0), i)
        if sign * _score(at(x, i * k), p, k, b) <= 0:
            _add(at(x, i * k), sign, k, d)
            put(d, k, get(d, k) + sign)
            mistakes += 1
    if mistakes > 0:
        _add(d, constant(1.0, d) / m, k, p)
        put(at(bias, 0), 0, b + get(d, k) / m)
    return mistakes
