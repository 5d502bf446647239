"""A net being trained by one of the peers: what a worker opens, checks and times."""
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from time import perf_counter

import numpy as np

from . import peers
from .nets import SEED, mnist

EXACT, LOOSE = 1e-3, 0.1       # of the loss of an untrained net


@dataclass(frozen=True)
class Peer:
    """A row of the table of peers."""

    kind: type
    needs: tuple = ()
    tolerance: float = EXACT     # between the loss of the check and the reference's
    note: str = ""
    own_order: bool = False      # shuffles by itself, and takes the first rows where others take rows from anywhere
    with_rmsprop: str = ""       # a note that holds for nets trained by RMSprop
    with_dropout: str = ""

    def note_on(self, net):
        """What differs from our work on this net."""
        notes = (self.with_rmsprop if net.optimizer == "rmsprop" else "", self.with_dropout if net.dropout else "",
                 self.note)
        return "; ".join(filter(None, notes))


OWN_ORDER = "shuffles by itself, the first rows"
OUTSIDE = "epsilon outside the root of RMSprop"
PEERS = {
    "fastmlp": Peer(peers.Kernels),
    "fastmlp float32": Peer(peers.KernelsOnFloats, note="images as float32"),
    "fastmlp.train": Peer(peers.Api, (), LOOSE, "its own start; " + OWN_ORDER, True),
    "NumPy": Peer(peers.NumPy),
    "scikit-learn": Peer(peers.ScikitLearn, ("sklearn",), np.inf,
                         "its own start; " + OWN_ORDER, True, "Adam, as it has no RMSprop", "no dropout"),
    "torch": Peer(peers.Torch, ("torch",), LOOSE, with_rmsprop=OUTSIDE),
    "torch.compile": Peer(peers.TorchCompile, ("torch",), LOOSE, with_rmsprop=OUTSIDE),
    "JAX": Peer(peers.Jax, ("jax",), with_dropout="its own dropout masks"),
    "Keras": Peer(peers.Keras, ("keras", "jax"), LOOSE, OWN_ORDER, True),
}


def missing(name):
    """Packages that this peer needs and that are not installed."""
    return [package for package in PEERS[name].needs if find_spec(package) is None]


class Training:
    """Opened in a worker."""

    def __init__(self, name, net, n_threads=None):
        self.name, self.net, self.n_threads = name, net, n_threads
        self.restart()

    def restart(self):
        self.peer = PEERS[self.name].kind(self.net, self.n_threads)
        self.rng = np.random.default_rng(SEED)

    def check(self):
        """(mean loss, parameters) of training on the rows of `check_orders`, from the common start."""
        return float(self.peer.train(check_orders(self.net))), np.asarray(self.peer.parameters())

    def round(self):
        """Seconds per epoch, measured on a round's steps over fresh rows; compiled and warm after `check`."""
        orders = self.net.orders(self.rng, self.net.round_steps)
        start = perf_counter()
        loss = self.peer.train(orders)
        seconds = perf_counter() - start
        if not np.isfinite(loss):
            raise FloatingPointError(f"the loss became {loss}")
        return seconds * self.net.rows / sum(map(len, orders))

    def epoch(self):
        """(seconds of an epoch over all rows, accuracy on the test images)."""
        orders = [self.rng.permutation(self.net.rows)]
        start = perf_counter()
        self.peer.train(orders)
        seconds = perf_counter() - start
        x, y = mnist()[2:]
        return seconds, float((self.peer.predict(x) == y).mean())


def check_orders(net):
    """As many steps as a round has, so that compiled peers see the shapes that will be timed."""
    return net.orders(np.random.default_rng(SEED + 1), net.round_steps)


@lru_cache(maxsize=4)
def expected(net):
    """What the reference makes of `check_orders`: (mean loss, parameters)."""
    return Training("NumPy", net).check()


def verify(name, net, found):
    """Raises AssertionError unless (loss, parameters) agree with the reference; returns the loss's deviation."""
    (loss, parameters), (true_loss, true_parameters) = found, expected(net)
    deviation, tolerance = abs(loss - true_loss) / np.log(net.sizes[-1]), PEERS[name].tolerance
    if net.dropout and tolerance == EXACT and name == "JAX":
        tolerance = LOOSE                    # its masks are others
    assert np.isfinite(loss), f"{name}: loss {loss}"
    assert deviation <= tolerance, f"{name}: loss {loss:.4f}, the reference has {true_loss:.4f}"
    if tolerance == EXACT:
        moved = np.linalg.norm(true_parameters - (0 if net.only_gradients else net.start()))
        error = np.linalg.norm(parameters - true_parameters) / moved
        assert error <= 10 * EXACT, f"{name}: parameters differ from the reference's by {error:.1e} of their way"
    return deviation
