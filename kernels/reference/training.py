"""Training a multi-layer perceptron by stochastic gradient descent: the textbook.

For each batch of rows, x of shape (m, s₀):
    forward    h₀ = x;  zₗ = hₗ₋₁ Wₗ + bₗ;  yₗ = fₗ(zₗ);  hₗ = dropout(yₗ)
    loss       of the output y_L, with its gradient dy_L
    backward   dzₗ = dyₗ ⊙ f'ₗ;  dWₗ = hₗ₋₁ᵀ dzₗ;  dbₗ = Σ_rows dzₗ;  dhₗ₋₁ = dzₗ Wₗᵀ;  dyₗ₋₁ = dropout(dhₗ₋₁)
    update     dWₗ ← dWₗ + (l2 + alpha / Σ w) Wₗ, then one optimizer step on every Wₗ and bₗ
In code l counts from 0, so layers[l] reads h[l] and writes z[l], y[l] and h[l + 1].
"""
import signal
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np

from .activations import activate, needs_z
from .codes import name_of
from .dense import dense_backward
from .inference import BLOCK_ROWS, forward, gather
from .layout import layer_spans, layer_views
from .losses import NAMES as LOSSES
from .losses import correct_rows, loss_and_gradient, sum_of_weights
from .masks import drop, kept
from .rules import slots_of, update


def prepare(parameters, sizes, activations, *, dropout, loss, rule, hyper, l2, batch_size, scale, seed, n_threads,
            alpha=0.0, loss_parameter=0.0):
    """Every buffer that training needs, allocated once. BLAS chooses its own threads: n_threads is not used."""
    dtype = parameters.dtype
    name_of(LOSSES, loss, "loss")

    def batch_buffers(widths):
        return [np.empty((batch_size, width), dtype) for width in widths]

    parameters = parameters.copy()
    gradients = np.empty_like(parameters)
    s1, s2 = (np.zeros(parameters.size if slots_of(rule) > slot else 0, dtype) for slot in (0, 1))
    y = batch_buffers(sizes[1:])
    # z and y share a buffer unless the slope needs z; y and h share one unless dropout stands between them.
    z = [np.empty_like(yl) if needs_z(code) else yl for code, yl in zip(activations, y, strict=True)]
    h = batch_buffers(sizes[:1]) + [np.empty_like(yl) if rate else yl for rate, yl in zip(dropout, y, strict=True)]
    hyper = np.asarray(hyper, dtype=np.float64)
    return SimpleNamespace(
        step=0, failed_step=0,
        sizes=tuple(sizes), activations=tuple(activations), dropout=tuple(dropout), loss=loss, rule=rule,
        hyper_weights=hyper, hyper_biases=np.append(hyper[:3], 0.0), l2=float(l2), alpha=float(alpha),
        loss_parameter=float(loss_parameter),
        batch_size=batch_size, scale=scale, seed=seed,
        parameters=parameters, gradients=gradients, s1=s1, s2=s2,
        layers=layer_views(parameters, sizes), layer_gradients=layer_views(gradients, sizes),
        h=h, z=z, y=y, dy=batch_buffers(sizes[1:]), no_dx=np.empty((0, 0), dtype),
    )


def train_epoch(state, x, labels, targets, weights, order, rates):
    totals = np.zeros(3)
    with interrupts_between_steps() as interrupted:
        for i, learning_rate in enumerate(rates):
            rows = order[i * state.batch_size:(i + 1) * state.batch_size]
            totals += train_step(state, x, rows, *taken(rows, labels, targets, weights), learning_rate)
            if not state.failed_step and not np.isfinite(totals[0]):
                state.failed_step = state.step
            if interrupted:
                raise KeyboardInterrupt
    return tuple(totals.tolist())


def train_step(state, x, rows, labels, targets, weights, learning_rate):
    """One batch: forward, loss, backward, update. Returns the batch's totals, met before the update."""
    totals = backpropagate(state, x, rows, labels, targets, weights)
    weight_sum = totals[2]
    optimizer_step(state, learning_rate, state.l2 + (state.alpha / weight_sum if weight_sum else 0.0))
    return totals


def backpropagate(state, x, rows, labels, targets, weights):
    """One batch's gradient into state.gradients; returns its totals."""
    m, n_layers = len(rows), len(state.layers)
    h, z, y, dy = ([buffer[:m] for buffer in buffers] for buffers in (state.h, state.z, state.y, state.dy))
    masks = [None] * n_layers

    gather(x, rows, state.scale, h[0])
    for l, ((w, b), activation, rate) in enumerate(zip(state.layers, state.activations, state.dropout, strict=True)):
        np.matmul(h[l], w, out=z[l])
        z[l] += b
        activate(activation, z[l], y[l])
        if rate:
            masks[l] = kept(y[l].shape, rate, state.seed, state.step, l)
            drop(y[l], masks[l], rate, h[l + 1])

    loss = loss_and_gradient(state.loss, state.loss_parameter, y[-1], labels, targets, weights, dy[-1])

    for l in reversed(range(n_layers)):
        if state.dropout[l]:
            drop(dy[l], masks[l], state.dropout[l], dy[l])
        w, (dw, db) = state.layers[l][0], state.layer_gradients[l]
        dx = dy[l - 1] if l > 0 else state.no_dx
        dense_backward(h[l], w, z[l], dy[l], state.activations[l], dy[l], dx, dw, db)

    weight_sum = sum_of_weights(weights, m)
    return loss * weight_sum, correct_rows(state.loss, y[-1], labels, targets), weight_sum


def optimizer_step(state, learning_rate, l2):
    """Weights and biases apart: l2 and weight decay are not for biases."""
    state.step += 1
    arrays = state.parameters, state.gradients, state.s1, state.s2
    for weights, biases in layer_spans(state.sizes):
        if l2:
            state.gradients[weights] += l2 * state.parameters[weights]
        for span, hyper in ((weights, state.hyper_weights), (biases, state.hyper_biases)):
            update(state.rule, hyper, learning_rate, state.step, *(array[span] for array in arrays))


def batch_gradient(state, x, labels, targets, weights, rows, share):
    if len(rows) == 0:
        state.gradients[:] = 0
        return 0.0, 0.0, 0.0
    totals = backpropagate(state, x, rows, *taken(rows, labels, targets, weights))
    state.gradients *= share
    return tuple(map(float, totals))


def apply_gradients(state, learning_rate):
    optimizer_step(state, learning_rate, state.l2)


@contextmanager
def interrupts_between_steps():
    """Ctrl-C waits for the end of the step in hand: yields a list that is not empty once it was pressed."""
    interrupted = []
    handler = signal.getsignal(signal.SIGINT)
    # Python delivers signals to the main thread only; a handler that is not callable means they are ignored.
    ours = threading.current_thread() is threading.main_thread() and callable(handler)
    if ours:
        signal.signal(signal.SIGINT, lambda *signal_and_frame: interrupted.append(signal_and_frame))
    try:
        yield interrupted
    finally:
        if ours:
            signal.signal(signal.SIGINT, handler)


def evaluate(state, x, labels, targets, weights):
    totals = np.zeros(3)
    for start in range(0, len(x), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        block_labels, block_targets, block_weights = taken(rows, labels, targets, weights)
        block = x[rows]
        y = np.empty((len(block), state.sizes[-1]), state.parameters.dtype)
        forward(state.parameters, state.sizes, state.activations, block, state.scale, None, y)
        correct = correct_rows(state.loss, y, block_labels, block_targets)
        weight_sum = sum_of_weights(block_weights, len(block))
        loss = loss_and_gradient(state.loss, state.loss_parameter, y, block_labels, block_targets, block_weights, y)
        totals += loss * weight_sum, correct, weight_sum
    return tuple(totals.tolist())


def taken(rows, labels, targets, weights):
    """These rows of whichever arrays are given; the others are empty."""
    return (array[rows] if array.size else array for array in (labels, targets, weights))


def read_parameters(state, parameters):
    np.copyto(parameters, state.parameters)


def write_parameters(state, parameters):
    np.copyto(state.parameters, parameters)


def read_optimizer(state, s1, s2):
    np.copyto(s1, state.s1)
    np.copyto(s2, state.s2)


def write_optimizer(state, step, s1, s2):
    state.step = step
    np.copyto(state.s1, s1)
    np.copyto(state.s2, s2)
