"""The perceptron's two passes over the data (Rosenblatt 1958). Reference twins: `kernels.reference.perceptron`."""
from ..jit import inlined, operation
from ..tile.gemm import SUM_BLOCK
from ..vector.pointers import at, broadcast, constant, get, lanes, load_first, put, store_first
from ..vector.simd import absolute, fma, sum_lanes
from .operands import apart, contiguous, indices, operand, output


@inlined
def _score(x, theta, k, bias):
    """θᵀx + b."""
    total = broadcast(0.0, x)
    for first in range(0, k, SUM_BLOCK):
        part = broadcast(0.0, x)
        for j in range(first, min(k, first + SUM_BLOCK), lanes(x)):
            part = fma(load_first(x, j, k - j), load_first(theta, j, k - j), part)
        total = total + part
    return sum_lanes(total) + bias


@inlined
def _add(x, y, k, theta):
    """θ ← θ + y x."""
    for j in range(0, k, lanes(x)):
        store_first(theta, j, fma(load_first(x, j, k - j), y, load_first(theta, j, k - j)), k - j)


@operation
def perceptron_online(x, y, theta, bias):
    """One pass in order: where yᵢ (θᵀxᵢ + b) ≤ 0, θ ← θ + yᵢ xᵢ and b ← b + yᵢ.

    x : (m, k), y : (m,) of ±1, theta : (k,), bias : (1,), float32 or float64, C-contiguous; theta and bias are
    changed in place. Returns the number of updates. Raises ValueError for shapes that do not fit together.
    Cost: 2 m k flops and 2 k for each update; reads x once. Source: Rosenblatt 1958.
    """
    operand(x, 2, "perceptron_online: x")
    operand(y, 1, "perceptron_online: y")
    output(theta, 1, "perceptron_online: theta")
    output(bias, 1, "perceptron_online: bias")
    m, k = x.shape
    if y.shape[0] != m or theta.shape[0] != k or bias.shape[0] != 1:
        raise ValueError("perceptron_online: needs x (m, k), y (m,), theta (k,), bias (1,)")
    contiguous((x, y, theta, bias))
    if not apart((theta, bias), (x, y)):
        raise ValueError("perceptron_online: theta and bias are written and must not share memory with x, y or each "
                         "other")
    p, b = at(theta, 0), at(bias, 0)
    updates = 0
    for i in range(m):
        sign = get(at(y, 0), i)
        if sign * _score(at(x, i * k), p, k, get(b, 0)) <= 0:
            _add(at(x, i * k), sign, k, p)
            put(b, 0, get(b, 0) + sign)
            updates += 1
    return updates


@operation
def perceptron_batch(x, y, theta, bias, delta):
    """One pass: Δ = Σ over rows with yᵢ (θᵀxᵢ + b) ≤ 0 of yᵢ (xᵢ, 1), then (θ, b) ← (θ, b) + Δ / m.

    x : (m, k), y : (m,) of ±1, theta : (k,), bias : (1,), delta : (k + 1,) scratch that receives Δ, float32 or
    float64, C-contiguous. Returns the number of mistakes. Raises ValueError for shapes that do not fit together.
    Cost: 2 m k flops and 2 k for each mistake; reads x once. Source: Rosenblatt 1958, all mistakes of a pass at once.
    """
    operand(x, 2, "perceptron_batch: x")
    operand(y, 1, "perceptron_batch: y")
    output(theta, 1, "perceptron_batch: theta")
    output(bias, 1, "perceptron_batch: bias")
    output(delta, 1, "perceptron_batch: delta")
    m, k = x.shape
    if y.shape[0] != m or theta.shape[0] != k or bias.shape[0] != 1 or delta.shape[0] != k + 1:
        raise ValueError("perceptron_batch: needs x (m, k), y (m,), theta (k,), bias (1,), delta (k + 1,)")
    contiguous((x, y, theta, bias, delta))
    if not apart((theta, bias, delta), (x, y)):
        raise ValueError("perceptron_batch: theta, bias and delta are written and must not share memory with x, y or "
                         "each other")
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


@inlined
def _norms(theta, k):
    """½ Σ θ² and Σ |θ|."""
    squares, sizes = broadcast(0.0, theta), broadcast(0.0, theta)
    for first in range(0, k, SUM_BLOCK):
        some_squares, some_sizes = broadcast(0.0, theta), broadcast(0.0, theta)
        for j in range(first, min(k, first + SUM_BLOCK), lanes(theta)):
            value = load_first(theta, j, k - j)
            some_squares = fma(value, value, some_squares)
            some_sizes = some_sizes + absolute(value)
        squares, sizes = squares + some_squares, sizes + some_sizes
    return 0.5 * float(sum_lanes(squares)), float(sum_lanes(sizes))


@inlined
def _shrink(theta, factor, k):
    for j in range(0, k, lanes(theta)):
        store_first(theta, j, load_first(theta, j, k - j) * factor, k - j)


@inlined
def _cut(theta, k, limit, shrunk):
    """Each weight moves to zero by as much of `limit` as it has not moved yet."""
    for j in range(k):
        before, done = get(theta, j), get(shrunk, j)
        after = before
        if before > 0:
            after = max(constant(0.0, theta), before - (limit + done))
        elif before < 0:
            after = min(constant(0.0, theta), before + (limit - done))
        put(theta, j, after)
        put(shrunk, j, done + (after - before))


@operation
def shuffle(rows, seed):
    """Fisher and Yates' shuffle of rows (m,) int64 in place, by Marsaglia's xorshift32 from `seed`, 32 bits.

    It is scikit-learn's order of rows in `SGDClassifier` and `Perceptron` (the numbers are cut to 31 bits; seed 0
    counts as 1), so that the same random_state visits them alike.
    Cost: one number and one exchange a row. Source: Marsaglia 2003, "Xorshift RNGs".
    """
    indices(rows, "shuffle: rows")
    contiguous((rows,))
    m, state = rows.shape[0], seed if seed != 0 else 1
    for i in range(m - 1):
        state ^= (state << 13) & 0xFFFFFFFF
        state ^= state >> 17
        state ^= (state << 5) & 0xFFFFFFFF
        j = i + (state & 0x7FFFFFFF) % (m - i)
        rows[i], rows[j] = rows[j], rows[i]


@operation(doubles=("positive", "negative", "totals"))
def perceptron_epoch(x, rows, labels, weights, positive, negative, l2, l1, intercept, steps, active, theta, bias,
                     shrunk, totals):
    """K perceptrons, one against the rest each, through the rows `rows` in order; every row is read once for all.

    x : (any, k), C-order; rows : int64 (m,); labels : int64 (any,) class indices; weights : (any,) or (0,) for ones;
    positive, negative : float64 (K,) how far a mistake moves unit c on a row of class c, and on any other;
    l2 : every step θ ← (1 - l2) θ; l1 : every step each θⱼ may be moved by a further l1 towards 0 (cumulative
    penalty, Tsuruoka, Tsujii & Ananiadou 2009, section 3.2); intercept : factor of the bias' moves;
    steps : steps done before, for l1; active : bool (K,); theta : (K, k), bias : (K,), changed; shrunk : (K, k) what
    l1 has taken so far, or (0, 0) if l1 is 0; totals : float64 (K, 3), to which Σ max(0, -yz), Σ ½ ‖θ‖² and Σ ‖θ‖₁
    are added (the last two only with l1 or l2). x, weights, theta, bias and shrunk are float32 or float64,
    C-contiguous. Raises ValueError for shapes that do not fit together.
    Cost: 2 m k K flops and 2 k for each mistake; reads the rows once. Source: Rosenblatt 1958.
    """
    operand(x, 2, "perceptron_epoch: x")
    indices(rows, "perceptron_epoch: rows")
    indices(labels, "perceptron_epoch: labels")
    operand(weights, 1, "perceptron_epoch: weights")
    operand(positive, 1, "perceptron_epoch: positive")
    operand(negative, 1, "perceptron_epoch: negative")
    output(theta, 2, "perceptron_epoch: theta")
    output(bias, 1, "perceptron_epoch: bias")
    output(shrunk, 2, "perceptron_epoch: shrunk")
    output(totals, 2, "perceptron_epoch: totals")
    units, k = theta.shape
    if x.shape[1] != k or labels.shape[0] != x.shape[0] or positive.shape[0] != units or negative.shape[0] != units:
        raise ValueError("perceptron_epoch: needs x (any, k), labels (any,), theta (K, k), positive, negative (K,)")
    if bias.shape[0] != units or active.shape[0] != units or totals.shape[0] != units or totals.shape[1] != 3:
        raise ValueError("perceptron_epoch: needs bias (K,), active (K,), totals (K, 3)")
    if (weights.size > 0 and weights.shape[0] != x.shape[0]) or (l1 != 0 and shrunk.shape != theta.shape):
        raise ValueError("perceptron_epoch: needs weights (any,) or (0,), and shrunk (K, k) for l1")
    contiguous((x, rows, labels, weights, positive, negative, active, theta, bias, shrunk, totals))
    if not apart((theta, bias, shrunk, totals), (x, rows, labels, weights, positive, negative, active)):
        raise ValueError("perceptron_epoch: theta, bias, shrunk and totals are written and must not share memory with "
                         "anything else")
    penalised, kept = l2 != 0 or l1 != 0, constant(max(0.0, 1.0 - l2), at(theta, 0))
    for i in range(rows.shape[0]):
        row = rows[i]
        if row < 0 or row >= x.shape[0]:
            raise ValueError("perceptron_epoch: rows must lie in 0 .. len(x) - 1")
        here, weight = at(x, row * k), weights[row] if weights.size > 0 else 1.0
        for c in range(units):
            if not active[c]:
                continue
            p = at(theta, c * k)
            if penalised:
                square, size = _norms(p, k)
                totals[c, 1] += square
                totals[c, 2] += size
            sign, pull = (1.0, positive[c]) if labels[row] == c else (-1.0, negative[c])
            margin = sign * _score(here, p, k, bias[c])
            if l2 != 0:
                _shrink(p, kept, k)
            if not margin > 0:                                 # NaN is a mistake, and is seen
                totals[c, 0] -= margin
                move = sign * pull * weight
                _add(here, constant(move, p), k, p)
                bias[c] += intercept * move
            if l1 != 0:
                _cut(p, k, constant((steps + i + 1) * l1, p), at(shrunk, c * k))
