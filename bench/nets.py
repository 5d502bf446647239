"""What the benches train: the lecture's labs, a tabular net, two tiny ones; their data, start and arithmetic."""
import functools
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from fastmlp.kernels import activations as act
from fastmlp.kernels import losses, update_rules

SEED = 2024
TEACHER_WIDTH = 16


@dataclass(frozen=True)
class Net:
    """One row of the table: everybody trains this, on these rows, in these batches, by this rule."""

    name: str
    sizes: tuple
    rows: int
    data: str = "normal"             # or "mnist"
    activation: str = "relu"         # of the hidden layers; the output is softmax with cross-entropy
    dropout: tuple = ()
    optimizer: str = "rmsprop"
    batch_size: int = 256
    learning_rate: float = 1e-3
    round_steps: int = 32            # optimizer steps of a timed round, on rows drawn afresh from all rows
    accuracy: float = 0.0            # on the test set: what `time to accuracy` waits for

    def __str__(self):
        """784-500-300-10, dropout 0.4, batch 256, rmsprop"""
        words = ["-".join(map(str, self.sizes)) + (f" {self.activation}" if self.activation != "relu" else "")]
        words += [f"dropout {max(self.dropout)}"] if self.dropout else []
        return ", ".join([*words, f"batch {self.batch_size}", self.optimizer])

    @property
    def hidden(self):
        return self.sizes[1:-1]

    @property
    def dropout_rates(self):
        return self.dropout or (0.0,) * len(self.hidden)

    @property
    def rule(self):
        return update_rules.NAMES.index(self.optimizer)

    @property
    def hyper(self):
        """Keras's defaults: rho 0.9; beta 0.9, 0.999; epsilon 1e-7."""
        return np.array({"rmsprop": (0.9, 0, 1e-7, 0), "adam": (0.9, 0.999, 1e-7, 0), "gradient": (0, 0, 0, 0)}
                        [self.optimizer])

    @property
    def only_gradients(self):
        """Loss and gradient of each batch, the gradients summed; the weights stay."""
        return self.optimizer == "gradient"

    @property
    def activation_codes(self):
        return (act.NAMES.index(self.activation),) * len(self.hidden) + (act.IDENTITY,)

    @property
    def step_flops(self):
        """Multiplications and additions of a step's three products; the first layer needs no dx."""
        products = sum(6 * n_in * n_out for n_in, n_out in pairwise(self.sizes)) - 2 * self.sizes[0] * self.sizes[1]
        return self.batch_size * products

    @property
    def steps(self):
        """Optimizer steps of a whole epoch."""
        return -(-self.rows // self.batch_size)

    def orders(self, rng, steps):
        """Rows to visit, an array for each epoch (or part of one), `steps` whole batches in all."""
        per_epoch = self.rows // self.batch_size
        counts = [per_epoch] * (steps // per_epoch) + ([steps % per_epoch] if steps % per_epoch else [])
        return [rng.permutation(self.rows)[:count * self.batch_size] for count in counts]

    def start(self):
        """Glorot-uniform weights and zero biases in the flat layout: where everybody starts."""
        rng, parts = np.random.default_rng(SEED), []
        for n_in, n_out in pairwise(self.sizes):
            limit = (6 / (n_in + n_out)) ** 0.5
            parts += [rng.uniform(-limit, limit, n_in * n_out), np.zeros(n_out)]
        return np.concatenate(parts).astype(np.float32)

    def load(self):
        """x uint8 (MNIST) or float32, labels int64."""
        return mnist()[:2] if self.data == "mnist" else normal_data(self.rows, self.sizes[0], self.sizes[-1])

    @property
    def scale(self):
        return 1 / 255 if self.data == "mnist" else 1.0

    def prepare(self, package, n_threads=None, scale=1.0):
        """The training state of a kernel package."""
        return package.prepare(
            self.start(), self.sizes, self.activation_codes, dropout=(*self.dropout_rates, 0.0),
            loss=losses.SOFTMAX_CROSS_ENTROPY, rule=self.rule, hyper=self.hyper, l2=0.0, batch_size=self.batch_size,
            scale=scale, seed=SEED, n_threads=n_threads)


@functools.lru_cache(maxsize=1)
def mnist():
    import fastmlp

    x, y, x_test, y_test = fastmlp.datasets.mnist()
    return x, y.astype(np.int64), x_test, y_test.astype(np.int64)


@functools.lru_cache(maxsize=1)
def normal_data(rows, features, classes):
    """Dense normal inputs; labels by a small random net, so that there is something to learn."""
    rng = np.random.default_rng(SEED)
    x = rng.standard_normal((rows, features), np.float32)
    inner = rng.standard_normal((features, TEACHER_WIDTH), np.float32) / features ** 0.5
    outer = rng.standard_normal((TEACHER_WIDTH, classes), np.float32)
    return x, (np.tanh(x @ inner) @ outer).argmax(axis=1)


def scaled(x):
    """Images as people who use other libraries hold them: float32, divided by 255."""
    return x.astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else x


LAB_1 = Net("lab 1", (784, 10, 10), 60_000, "mnist", round_steps=60, accuracy=0.9)
LAB_2 = Net("lab 2", (784, 500, 10), 60_000, "mnist", round_steps=24, accuracy=0.96)
LAB_4 = Net("lab 4", (784, 500, 300, 10), 60_000, "mnist", dropout=(0.4, 0.4), round_steps=16,
            accuracy=0.96)
LABS = (LAB_1, LAB_2, LAB_4)
DENSE = replace(LAB_2, name="lab 2 dense", data="normal", accuracy=0.0)
TABULAR = Net("tabular", (54, 256, 256, 7), 100_000, optimizer="adam", round_steps=40)
TINY = Net("tiny", (4, 32, 16, 4), 10_000, activation="tanh", optimizer="adam",
           batch_size=10_000, round_steps=20)
SMALLEST = Net("smallest", (24, 8, 2), 20_000, activation="tanh", optimizer="adam", batch_size=200,
               round_steps=200)
GRADIENT = replace(SMALLEST, name="value and gradient", optimizer="gradient", learning_rate=1.0)
NETS = (*LABS, DENSE, TABULAR, TINY, SMALLEST, GRADIENT)
