"""The reference's gradients by central differences in float64: (f(x + h) - f(x - h)) / 2h, off by O(h²)."""
from itertools import pairwise, product

import cases
import numpy as np
import pytest

from fastmlp.kernels import activations as act
from fastmlp.kernels import losses, reference, update_rules

H = 1e-5
TRAINABLE = [act.NAMES.index(name) for name in act.TRAINABLE]


def numerical_gradient(f, x):
    """∂f/∂x for scalar f, element by element; x is put back as it was."""
    gradient = np.empty_like(x)
    for i in np.ndindex(x.shape):
        value = x[i]
        x[i] = value + H
        above = f()
        x[i] = value - H
        below = f()
        x[i] = value
        gradient[i] = (above - below) / (2 * H)
    return gradient


def assert_gradient(gradient, f, x):
    np.testing.assert_allclose(gradient, numerical_gradient(f, x), rtol=1e-6, atol=1e-9)


def random_weights(rng, m, weighted):
    return rng.random(m) * (np.arange(m) != 1) if weighted else np.empty(0)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("labelled", [False, True])
def test_softmax_cross_entropy(rng, labelled, weighted):
    z, dz, weights = 3 * rng.standard_normal((5, 4)), np.empty((5, 4)), random_weights(rng, 5, weighted)
    labels = rng.integers(0, 4, 5) if labelled else cases.NO_LABELS
    targets = np.empty((0, 0)) if labelled else rng.random((5, 4))
    reference.softmax_cross_entropy(z, labels, targets, weights, dz)
    assert_gradient(dz, lambda: reference.softmax_cross_entropy(z, labels, targets, weights, np.empty_like(z)), z)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", [reference.sigmoid_cross_entropy, reference.squared_error])
def test_losses_with_targets(rng, loss, weighted):
    z, dz, weights = 3 * rng.standard_normal((5, 4)), np.empty((5, 4)), random_weights(rng, 5, weighted)
    targets = rng.random((5, 4))
    loss(z, targets, weights, dz)
    assert_gradient(dz, lambda: loss(z, targets, weights, np.empty_like(z)), z)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("code", cases.POINTWISE, ids=lambda code: losses.NAMES[code])
def test_pointwise_losses(rng, code, weighted):
    z, dz, weights = 3 * rng.standard_normal((5, 4)), np.empty((5, 4)), random_weights(rng, 5, weighted)
    targets = rng.poisson(1.0, (5, 4)).astype(float) if code == losses.POISSON else rng.random((5, 4))
    parameter = cases.POINTWISE[code]
    reference.pointwise_loss(code, parameter, z, targets, weights, dz)
    assert_gradient(dz, lambda: reference.pointwise_loss(code, parameter, z, targets, weights, np.empty_like(z)), z)


def test_losses_by_their_definition(rng):
    z, t, w = rng.standard_normal((6, 3)), rng.random((6, 3)), rng.random(6)
    p, s = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), 1 / (1 + np.exp(-z))
    dz, labels = np.empty_like(z), np.array([0, 1, 2, 2, 1, 0])
    expected = {
        reference.softmax_cross_entropy(z, cases.NO_LABELS, t, w, dz): -(t * np.log(p)).sum(axis=1),
        reference.softmax_cross_entropy(z, labels, np.empty((0, 0)), w, dz): -np.log(p[range(6), labels]),
        reference.sigmoid_cross_entropy(z, t, w, dz): -(t * np.log(s) + (1 - t) * np.log(1 - s)).mean(axis=1),
        reference.squared_error(z, t, w, dz): ((z - t) ** 2).mean(axis=1),
    }
    e, counts = z - t, rng.poisson(1.0, (6, 3)).astype(float)
    deviance = np.exp(z) - counts - counts * (z - np.log(np.maximum(counts, 1)))
    expected |= {
        reference.pointwise_loss(losses.HUBER, 0.7, z, t, w, dz):
            np.where(abs(e) <= 0.7, e ** 2 / 2, 0.7 * (abs(e) - 0.35)).mean(axis=1),
        reference.pointwise_loss(losses.ABSOLUTE_ERROR, 0.0, z, t, w, dz): abs(e).mean(axis=1),
        reference.pointwise_loss(losses.QUANTILE, 0.9, z, t, w, dz): np.maximum(-0.9 * e, 0.1 * e).mean(axis=1),
        reference.pointwise_loss(losses.POISSON, 0.0, z, counts, w, dz): deviance.mean(axis=1),
    }
    for loss, rows in expected.items():
        assert loss == pytest.approx(w @ rows / w.sum(), rel=1e-14)


@pytest.mark.parametrize("activation", TRAINABLE, ids=act.TRAINABLE)
def test_dense_backward(rng, activation):
    x, w, b, dy = (rng.standard_normal(s) for s in ((5, 4), (4, 3), 3, (5, 3)))
    y, dz, dx, dw, db = (np.empty(s) for s in ((5, 3), (5, 3), (5, 4), (4, 3), 3))

    def output(code=activation):
        reference.dense_forward(x, w, b, code, y)
        return y

    def loss():
        return np.sum(dy * output())

    kept = output(act.IDENTITY if activation in act.NEEDS_Z else activation).copy()
    reference.dense_backward(x, w, kept, dy, activation, dz, dx, dw, db)
    for gradient, array in ((dx, x), (dw, w), (db, b)):
        assert_gradient(gradient, loss, array)


def nets():
    """Every loss with every activation, hidden and (for squared error) at the output; l2, weights and dropout on."""
    for loss, hidden in product((losses.SOFTMAX_CROSS_ENTROPY, losses.SIGMOID_CROSS_ENTROPY, losses.SQUARED_ERROR),
                                TRAINABLE):
        yield loss, hidden, act.IDENTITY
    for output in TRAINABLE:
        yield losses.SQUARED_ERROR, act.TANH, output


def name_of_net(loss, hidden, output):
    return f"{losses.NAMES[loss]}-{act.NAMES[hidden]}-{act.NAMES[output]}"


@pytest.mark.parametrize(("loss", "hidden", "output"), [pytest.param(*net, id=name_of_net(*net)) for net in nets()])
def test_gradient_of_a_net(rng, loss, hidden, output):
    """One step of SGD at rate 1 on the full batch moves the parameters by the gradient."""
    sizes, activations, l2, n = (3, 4, 5, 2), (hidden, hidden, output), 0.1, 7
    parameters = cases.random_parameters(rng, sizes, np.float64)
    x, weights = rng.standard_normal((n, 3)), rng.random(n)
    labels = rng.integers(0, 2, n) if loss == losses.SOFTMAX_CROSS_ENTROPY else cases.NO_LABELS
    targets = np.empty((0, 0)) if loss == losses.SOFTMAX_CROSS_ENTROPY else rng.random((n, 2))

    def first_step():
        """The training loss met before the step, and the parameters after it. Dropout's mask is that of step 0."""
        state = reference.prepare(
            parameters, sizes, activations, dropout=(0.3, 0.0, 0.0), loss=loss, rule=update_rules.SGD,
            hyper=np.zeros(4), l2=l2, batch_size=n, scale=2.0, seed=5, n_threads=None)
        loss_sum, _, weight_sum = reference.train_epoch(state, x, labels, targets, weights, np.arange(n), np.ones(1))
        after = np.empty_like(parameters)
        reference.read_parameters(state, after)
        return loss_sum / weight_sum, after

    is_weight = np.concatenate([np.arange((k + 1) * m) < k * m for k, m in pairwise(sizes)])

    def objective():
        return first_step()[0] + l2 / 2 * np.sum(parameters[is_weight] ** 2)

    assert_gradient(parameters - first_step()[1], objective, parameters)
