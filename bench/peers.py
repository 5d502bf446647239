"""Who trains: each as people who know the library well would write it, on the same rows, from the same start.

A peer is built from a `Net`, trains on lists of row numbers and gives its parameters in our flat layout. Differences in
the work are in its `note`, which stands in the tables.
"""
import os
from importlib import import_module

import numpy as np

from fastmlp.kernels.flat import views

from .nets import SEED, scaled

EMPTY = np.empty((0, 0), np.float32), np.empty(0, np.float32)      # no soft targets, no sample weights


def layers_of(flat, sizes):
    """[(W (in, out), b), ...] in the flat layout."""
    return list(zip(*views(flat, sizes), strict=True))


def flat_of(layers):
    return np.concatenate([np.asarray(part, np.float32).ravel() for layer in layers for part in layer])


class Kernels:
    """A kernel package called directly; images as uint8 unless `floats`."""

    package, floats = "cpu", False

    def __init__(self, net, n_threads=None):
        self.kernels = import_module(f"fastmlp.kernels.{self.package}")
        x, self.labels = net.load()
        self.x, scale = (scaled(x), 1.0) if self.floats else (x, net.scale)
        if hasattr(self.kernels, "warm_up"):
            self.kernels.warm_up(np.float32)             # compiles, or loads from disk; `bench_startup` measures it
        self.net, self.state = net, net.prepare(self.kernels, n_threads, scale)

    def train(self, orders):
        for order in orders:
            rates = np.full(-(-len(order) // self.net.batch_size), self.net.learning_rate)
            loss, _, weight = self.kernels.train_epoch(self.state, self.x, self.labels, *EMPTY, order, rates)
        return loss / weight

    def parameters(self):
        flat = self.net.start()
        if self.net.only_gradients:
            self.kernels.read_optimizer(self.state, flat, flat[:0])
        else:
            self.kernels.read_parameters(self.state, flat)
        return flat

    def predict(self, x):
        out = np.empty((len(x), self.net.sizes[-1]), np.float32)
        self.kernels.forward(self.parameters(), self.net.sizes, self.net.activation_codes, x, self.net.scale, None, out)
        return out.argmax(axis=1)


class KernelsOnFloats(Kernels):
    floats = True


class NumPy(Kernels):
    package, floats = "reference", True


class Api:
    """fastmlp.train itself; shuffles the first rows by itself."""

    def __init__(self, net, n_threads=None):
        import fastmlp

        self.net, self.n_threads, self.model = net, n_threads, None
        self.x, self.y = net.load()
        self.optimizer = {"rmsprop": fastmlp.RMSprop, "adam": fastmlp.Adam}[net.optimizer](net.learning_rate)

    def train(self, orders):
        import fastmlp

        n, net = max(map(len, orders)), self.net
        shape = {"hidden": net.hidden, "activation": net.activation, "dropout": net.dropout_rates}
        options = {} if self.model else shape
        self.model = fastmlp.train(self.x[:n], self.y[:n], optimizer=self.optimizer, epochs=len(orders), seed=SEED,
                                   batch_size=net.batch_size, n_threads=self.n_threads, model=self.model, **options)
        return self.model.history["loss"][-1]

    def parameters(self):
        return self.model.parameters

    def predict(self, x):
        return self.model.predict(x)


class ScikitLearn:
    def __init__(self, net, n_threads=None):
        from sklearn.neural_network import MLPClassifier

        x, self.y = net.load()
        self.x, self.classes = scaled(x), np.arange(net.sizes[-1])
        self.model = MLPClassifier(net.hidden, activation=net.activation, solver="adam", alpha=0, random_state=SEED,
                                   batch_size=net.batch_size, learning_rate_init=net.learning_rate)

    def train(self, orders):
        for order in orders:
            self.model.partial_fit(self.x[:len(order)], self.y[:len(order)], classes=self.classes)
        return self.model.loss_

    def parameters(self):
        return flat_of(zip(self.model.coefs_, self.model.intercepts_, strict=True))

    def predict(self, x):
        return self.model.predict(scaled(x))


class Torch:
    compiled = False

    def __init__(self, net, n_threads=None):
        import torch
        from torch import nn

        torch.manual_seed(SEED)
        self.net = net
        x, labels = net.load()
        self.x, self.y = torch.from_numpy(scaled(x)), torch.from_numpy(labels)
        parts = []
        for layer, (w, b) in enumerate(layers_of(net.start(), net.sizes)):
            linear = nn.Linear(*w.shape)
            linear.weight.data, linear.bias.data = torch.tensor(w.T).contiguous(), torch.tensor(b)
            parts.append(linear)
            if layer < len(net.hidden):
                parts.append({"relu": nn.ReLU, "tanh": nn.Tanh}[net.activation]())
                parts += [nn.Dropout(rate)] if (rate := net.dropout_rates[layer]) else []
        self.model = nn.Sequential(*parts)
        if net.only_gradients:
            self.optimizer = None
        elif net.optimizer == "rmsprop":
            self.optimizer = torch.optim.RMSprop(self.model.parameters(), net.learning_rate, alpha=0.9, eps=1e-7)
        else:
            self.optimizer = torch.optim.Adam(self.model.parameters(), net.learning_rate, eps=1e-7, fused=True)
        self.loss = self.loss_of
        if self.compiled:
            import torch._inductor.config as inductor

            # A pool of compiler processes costs more than it brings for two small graphs.
            inductor.compile_threads = 1
            self.loss = torch.compile(self.loss_of, fullgraph=True)

    def loss_of(self, x, y):
        from torch.nn.functional import cross_entropy

        return cross_entropy(self.model(x), y)

    def train(self, orders):
        import torch

        self.model.train()
        for order in orders:
            total = torch.zeros(())
            for rows in torch.from_numpy(order).split(self.net.batch_size):
                if self.optimizer:
                    self.optimizer.zero_grad()
                loss = self.loss(self.x[rows], self.y[rows])
                loss.backward()                                  # adds to the gradients that are there
                if self.optimizer:
                    self.optimizer.step()
                total += loss.detach() * len(rows)
        return float(total) / len(order)

    def parameters(self):
        import torch

        linears = [part for part in self.model if isinstance(part, torch.nn.Linear)]
        wanted = [(linear.weight, linear.bias) for linear in linears]
        if self.net.only_gradients:
            wanted = [(weight.grad, bias.grad) for weight, bias in wanted]
        return flat_of((weight.detach().numpy().T, bias.detach().numpy()) for weight, bias in wanted)

    def predict(self, x):
        import torch

        self.model.eval()
        with torch.inference_mode():
            return self.model(torch.from_numpy(scaled(x))).argmax(axis=1).numpy()


class TorchCompile(Torch):
    compiled = True


class Jax:
    """jit of a lax.scan over all batches of an epoch."""

    def __init__(self, net, n_threads=None):
        import jax
        import jax.numpy as jnp

        self.net = net
        jax.config.update("jax_enable_x64", False)       # a kernel bench in the same worker may have wanted it
        x, labels = net.load()
        self.x, self.y = jnp.asarray(scaled(x)), jnp.asarray(labels, jnp.int32)
        parameters = [(jnp.asarray(w), jnp.asarray(b)) for w, b in layers_of(net.start(), net.sizes)]
        zeros = jax.tree.map(jnp.zeros_like, parameters)
        self.state = parameters, zeros, jax.tree.map(jnp.copy, zeros), jnp.zeros((), jnp.int32), jax.random.key(SEED)
        self.epoch, self.logits = jax.jit(self.scan, donate_argnums=0), jax.jit(self.forward)

    def forward(self, parameters, x, key=None):
        import jax

        activation = {"relu": jax.nn.relu, "tanh": jax.numpy.tanh}[self.net.activation]
        for (w, b), rate in zip(parameters, (*self.net.dropout_rates, None), strict=True):
            x = x @ w + b
            if rate is not None:
                x = activation(x)
            if rate and key is not None:
                key, mask = jax.random.split(key)
                x = jax.numpy.where(jax.random.bernoulli(mask, 1 - rate, x.shape), x / (1 - rate), 0)
        return x

    def loss(self, parameters, x, y, key):
        import jax

        logits = self.forward(parameters, x, key)
        return (jax.nn.logsumexp(logits, axis=1) - logits[jax.numpy.arange(len(y)), y]).mean()

    def update(self, w, g, s1, s2, step):
        import jax.numpy as jnp

        first, second, epsilon, _ = map(float, self.net.hyper)
        if self.net.only_gradients:
            return w, s1 + g, s2
        if self.net.optimizer == "rmsprop":
            s1 = first * s1 + (1 - first) * g * g
            return w - self.net.learning_rate * g / jnp.sqrt(s1 + epsilon), s1, s2
        s1, s2 = first * s1 + (1 - first) * g, second * s2 + (1 - second) * g * g
        rate = self.net.learning_rate / (1 - first ** step)
        return w - rate * s1 / (jnp.sqrt(s2 / (1 - second ** step)) + epsilon), s1, s2

    def scan(self, state, x, y, order):
        import jax

        def step(state, rows):
            parameters, s1, s2, count, key = state
            key, mask = jax.random.split(key)
            loss, gradients = jax.value_and_grad(self.loss)(parameters, x[rows], y[rows], mask)
            new = jax.tree.map(lambda *operands: self.update(*operands, count + 1), parameters, gradients, s1, s2)
            parameters, s1, s2 = jax.tree.transpose(jax.tree.structure(gradients), jax.tree.structure((0, 0, 0)), new)
            return (parameters, s1, s2, count + 1, key), loss

        return jax.lax.scan(step, state, order)

    def train(self, orders):
        """Whole batches in one scan; the last, shorter one by itself."""
        for order in orders:
            whole = len(order) - len(order) % self.net.batch_size
            total = 0.0
            for rows, batch in ((order[:whole], self.net.batch_size), (order[whole:], len(order) - whole)):
                if len(rows):
                    self.state, mean = self.epoch(self.state, self.x, self.y, rows.reshape(-1, batch).astype(np.int32))
                    total += mean.sum() * batch
        return float(total) / len(order)

    def parameters(self):
        return flat_of(self.state[1 if self.net.only_gradients else 0])

    def predict(self, x):
        return np.asarray(self.logits(self.state[0], scaled(x)).argmax(axis=1))


class Keras:
    """Sequential, compile, fit, as in the lecture; the backend is JAX unless KERAS_BACKEND says otherwise."""

    def __init__(self, net, n_threads=None):
        os.environ.setdefault("KERAS_BACKEND", "jax")
        import keras

        keras.utils.set_random_seed(SEED)
        self.net = net
        x, self.y = net.load()
        self.x = scaled(x)
        layers = [keras.Input((net.sizes[0],))]
        for width, rate in zip(net.hidden, net.dropout_rates, strict=True):
            layers += [keras.layers.Dense(width, activation=net.activation)]
            layers += [keras.layers.Dropout(rate)] if rate else []
        self.model = keras.Sequential([*layers, keras.layers.Dense(net.sizes[-1])])
        self.model.set_weights([part for layer in layers_of(net.start(), net.sizes) for part in layer])
        optimizer = {"rmsprop": keras.optimizers.RMSprop, "adam": keras.optimizers.Adam}[net.optimizer]
        self.model.compile(optimizer=optimizer(net.learning_rate),
                           loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    def train(self, orders):
        n = max(map(len, orders))
        history = self.model.fit(self.x[:n], self.y[:n], batch_size=self.net.batch_size, epochs=len(orders), verbose=0)
        return history.history["loss"][-1]

    def parameters(self):
        weights = self.model.get_weights()
        return flat_of(zip(weights[::2], weights[1::2], strict=True))

    def predict(self, x):
        return self.model.predict(scaled(x), batch_size=1024, verbose=0).argmax(axis=1)
