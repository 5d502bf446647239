"""Our loss in somebody else's model: softmax regression on sparse rows, with a training loop of one's own.

The rows are MNIST images in CSR form (four pixels of five are 0). The loop is compiled here and calls
`fastmlp.kernels.cpu.softmax_cross_entropy` for the loss and its gradient with respect to the logits; what sparse rows
make of that gradient is its own business.
"""
import numba
import numpy as np

import fastmlp
from fastmlp.kernels.cpu import softmax_cross_entropy


def csr(images):
    """values, columns and row starts of the pixels that are not 0."""
    rows, columns = np.nonzero(images)
    starts = np.zeros(len(images) + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=len(images)), out=starts[1:])
    return (images[rows, columns] / np.float32(255)).astype(np.float32), columns, starts


@numba.njit(cache=True)
def logits(values, columns, starts, rows, w, b, z):
    for i, row in enumerate(rows):
        z[i] = b
        for k in range(starts[row], starts[row + 1]):
            z[i] += values[k] * w[columns[k]]


@numba.njit(cache=True)
def train(values, columns, starts, labels, order, batch, rate, w, b):
    """One epoch of plain gradient descent; returns the mean loss."""
    total = 0.0
    z = np.empty((batch, len(b)), w.dtype)
    for first in range(0, len(order) - batch + 1, batch):
        rows = order[first:first + batch]
        logits(values, columns, starts, rows, w, b, z)
        total += softmax_cross_entropy(z, labels[rows], None, None, z)          # the gradient takes the logits' place
        for i, row in enumerate(rows):
            b -= rate * z[i]
            for k in range(starts[row], starts[row + 1]):
                w[columns[k]] -= rate * values[k] * z[i]
    return total / (len(order) // batch)


def main(rows=20_000, epochs=5):
    images, labels, test_images, test_labels = fastmlp.datasets.mnist()
    labels = labels[:rows].astype(np.int64)
    training, test = csr(images[:rows]), csr(test_images)
    w, b = np.zeros((784, 10), np.float32), np.zeros(10, np.float32)
    rng, z = np.random.default_rng(0), np.empty((len(test_labels), 10), np.float32)
    for epoch in range(1, epochs + 1):
        loss = train(*training, labels, rng.permutation(rows), 64, np.float32(0.3), w, b)
        logits(*test, np.arange(len(test_labels)), w, b, z)
        accuracy = (z.argmax(axis=1) == test_labels).mean()
        print(f"epoch {epoch}: loss {loss:.4f}, test accuracy {accuracy:.4f}")
    return accuracy


if __name__ == "__main__":
    main()
