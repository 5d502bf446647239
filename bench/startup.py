"""One start of one library in a fresh process: `python -m bench.startup NAME NET` prints its moments as JSON.

Nothing is imported before the clock runs but what Python needs itself.
"""
import sys
import time
from importlib import import_module

MODULES = {"fastmlp.train": "fastmlp", "NumPy": "numpy", "scikit-learn": "sklearn.neural_network", "torch": "torch",
           "torch.compile": "torch", "JAX": "jax", "Keras": "keras"}


def peak_bytes():
    """Most memory this process has had resident."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def timed(work, *arguments):
    start = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - start, result


def main(name, net_name):
    import_seconds, _ = timed(import_module, MODULES[name])
    import json

    import numpy as np

    from .nets import LABS, mnist
    from .training import PEERS

    net = next(net for net in LABS if net.name == net_name)
    x_test = mnist()[2]
    rng = np.random.default_rng(0)

    def first_train():
        peer = PEERS[name].kind(net)
        peer.train(net.orders(rng, net.round_steps))
        return peer

    first, peer = timed(first_train)
    second, _ = timed(peer.train, net.orders(rng, net.round_steps))
    predict, _ = timed(peer.predict, x_test[:1])
    predict_again, _ = timed(peer.predict, x_test[:1])
    if PEERS[name].own_order:
        peer.train([rng.permutation(net.rows)])          # so that it has met all rows, as the others have
    print(json.dumps({"import": import_seconds, "first train": first, "same again": second, "first predict": predict,
                      "predict again": predict_again, "peak bytes": peak_bytes()}))


if __name__ == "__main__":
    if "keras" in MODULES.get(sys.argv[1], ""):
        import os

        os.environ.setdefault("KERAS_BACKEND", "jax")
    main(*sys.argv[1:])
