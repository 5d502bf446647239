"""The peers on a GPU: the same rows, start, batches and rule as ours, data resident as float32, no work on the host but
what the way of using the library asks for. Each trains whole batches on lists of row numbers, as those in `peers` do.
"""
from dataclasses import dataclass

import numpy as np

from .nets import scaled
from .peers import Jax, layers_of


class Torch:
    """Eager: a call a step."""

    def __init__(self, net):
        import torch
        from torch import nn

        self.torch, self.net = torch, net
        x, labels = net.load()
        self.x, self.y = torch.from_numpy(scaled(x)).cuda(), torch.from_numpy(labels).cuda()
        parts = []
        for layer, (w, b) in enumerate(layers_of(net.start(), net.sizes)):
            linear = nn.Linear(*w.shape)
            linear.weight.data, linear.bias.data = torch.tensor(w.T).contiguous(), torch.tensor(b)
            parts.append(linear)
            if layer < len(net.hidden):
                parts.append(nn.ReLU())
                parts += [nn.Dropout(rate)] if (rate := net.dropout_rates[layer]) else []
        self.model = nn.Sequential(*parts).cuda().train()
        self.optimizer = torch.optim.RMSprop(self.model.parameters(), net.learning_rate, alpha=0.9, eps=1e-7,
                                             capturable=True, foreach=True)
        self.rows = torch.zeros(net.batch_size, dtype=torch.int64, device="cuda")
        self.total = torch.zeros((), device="cuda")
        self.prepare()

    def prepare(self):
        self.loss = self.loss_of

    def loss_of(self, x, y):
        return self.torch.nn.functional.cross_entropy(self.model(x), y)

    def step(self, rows):
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.x[rows], self.y[rows])
        loss.backward()
        self.optimizer.step()
        self.total += loss.detach()

    def train(self, orders):
        for order in orders:
            batches = self.torch.from_numpy(order).cuda().split(self.net.batch_size)
            self.total.zero_()
            for rows in batches:
                self.step(rows)
        return float(self.total) / len(batches)


class TorchCompile(Torch):
    """torch.compile(mode="reduce-overhead"), which captures graphs by itself."""

    def prepare(self):
        import torch._inductor.config as inductor

        inductor.compile_threads = 1
        self.loss = self.torch.compile(self.loss_of, mode="reduce-overhead", fullgraph=True)

    def step(self, rows):
        self.torch.compiler.cudagraph_mark_step_begin()
        super().step(rows)


class TorchGraph(Torch):
    """One step captured by hand, the optimizer with it; a copy of row numbers and a replay for each batch."""

    def prepare(self):
        super().prepare()
        side = self.torch.cuda.Stream()
        side.wait_stream(self.torch.cuda.current_stream())
        with self.torch.cuda.stream(side):
            for _ in range(3):
                Torch.step(self, self.rows)
        self.torch.cuda.current_stream().wait_stream(side)
        self.graph = self.torch.cuda.CUDAGraph()
        self.optimizer.zero_grad(set_to_none=True)
        with self.torch.cuda.graph(self.graph):
            loss = self.loss(self.x[self.rows], self.y[self.rows])
            loss.backward()
            self.optimizer.step()
            self.total += loss.detach()

    def step(self, rows):
        self.rows.copy_(rows)
        self.graph.replay()


class JaxScan(Jax):
    """jit of a lax.scan over all batches of an epoch."""

    def __init__(self, net):
        import jax

        if jax.default_backend() != "gpu":
            raise RuntimeError(f"JAX sees no GPU, only {jax.default_backend()}")
        super().__init__(net)


class CupyCublas:
    """The NumPy baseline on CuPy: cuBLAS and a kernel for every line."""

    def __init__(self, net):
        import cupy

        self.cupy, self.net = cupy, net
        x, labels = net.load()
        self.x, self.y = cupy.asarray(scaled(x)), cupy.asarray(labels)
        self.layers = [(cupy.asarray(w), cupy.asarray(b)) for w, b in layers_of(net.start(), net.sizes)]
        self.means = [(cupy.zeros_like(w), cupy.zeros_like(b)) for w, b in self.layers]

    def step(self, rows):
        cupy, net = self.cupy, self.net
        h, slopes = [self.x[rows]], []
        for layer, (w, b) in enumerate(self.layers):
            z = h[-1] @ w + b
            if layer < len(net.hidden):
                slope = (z > 0).astype(np.float32)
                if rate := net.dropout_rates[layer]:
                    slope *= (cupy.random.random(z.shape, dtype=np.float32) >= rate) / np.float32(1 - rate)
                z = z * slope
                slopes.append(slope)
            h.append(z)
        z = h.pop()
        z -= z.max(axis=1, keepdims=True)
        dz = cupy.exp(z)
        dz /= dz.sum(axis=1, keepdims=True)
        here = cupy.arange(len(rows)), self.y[rows]
        self.total -= cupy.log(dz[here]).mean()
        dz[here] -= 1
        dz /= np.float32(len(rows))
        rho, epsilon = np.float32(net.hyper[0]), np.float32(net.hyper[2])
        for layer in reversed(range(len(self.layers))):
            gradients = h[layer].T @ dz, dz.sum(axis=0)
            if layer:
                dz = (dz @ self.layers[layer][0].T) * slopes[layer - 1]
            for w, mean, g in zip(self.layers[layer], self.means[layer], gradients, strict=True):
                mean *= rho
                mean += (1 - rho) * g * g
                w -= np.float32(net.learning_rate) * g / cupy.sqrt(mean + epsilon)

    def train(self, orders):
        for order in orders:
            self.total = self.cupy.zeros((), np.float32)
            batches = self.cupy.asarray(order).reshape(-1, self.net.batch_size)
            for rows in batches:
                self.step(rows)
        return float(self.total) / len(batches)


@dataclass(frozen=True)
class Peer:
    kind: type
    needs: str
    quick: bool                  # takes part at every batch size, not at the lecture's alone
    note: str = ""


OUTSIDE = "epsilon outside the root of RMSprop"
PEERS = {
    "torch eager": Peer(Torch, "torch", False, OUTSIDE),
    "torch graph": Peer(TorchGraph, "torch", True, OUTSIDE),
    "JAX scan": Peer(JaxScan, "jax", True, "its own dropout masks"),
    "CuPy + cuBLAS": Peer(CupyCublas, "cupy", False, "its own dropout masks"),
    "torch compile": Peer(TorchCompile, "torch", False, OUTSIDE),
}
