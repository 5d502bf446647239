"""One line of existing NumPy code made faster: np.maximum(x @ w + b, 0) as one fused kernel.

NumPy makes three passes over the output and three arrays; `dense_forward` adds the bias and applies the activation
while the product is still in registers, and writes y once. Both run on one thread; rounds alternate, and the median
of their ratios is printed.
"""
import time

import numpy as np
from threadpoolctl import threadpool_limits

from fastmlp.kernels.activations import RELU
from fastmlp.kernels.cpu import dense_forward

SHAPES = ((1, 64, 64), (32, 64, 64), (256, 784, 10), (256, 784, 500))


def with_numpy(x, w, b):
    return np.maximum(x @ w + b, 0)


def with_fastmlp(x, w, b):
    return dense_forward(x, w, b, RELU)


def seconds(function, arguments, repeat):
    start = time.perf_counter()
    for _ in range(repeat):
        function(*arguments)
    return (time.perf_counter() - start) / repeat


def gain(m, k, n, rounds=15):
    """(seconds of NumPy, of ours, median of the rounds' ratios)"""
    rng = np.random.default_rng(0)
    arguments = tuple(rng.standard_normal(shape).astype(np.float32) for shape in ((m, k), (k, n), (n,)))
    np.testing.assert_allclose(with_fastmlp(*arguments), with_numpy(*arguments), atol=1e-3)
    repeat = max(1, int(2e-3 / seconds(with_numpy, arguments, 3)))
    times = np.array([[seconds(f, arguments, repeat) for f in (with_numpy, with_fastmlp)] for _ in range(rounds)])
    return *np.median(times, axis=0), np.median(times[:, 0] / times[:, 1])


def main():
    print("x (m, k) @ w (k, n)    NumPy     ours     gain")
    found = {}
    with threadpool_limits(1):
        for m, k, n in SHAPES:
            before, after, found[m, k, n] = gain(m, k, n)
            print(f"({m}, {k}) @ ({k}, {n})".ljust(22) + f"{before * 1e6:6.1f} µs {after * 1e6:6.1f} µs"
                  f"{found[m, k, n]:6.2f}×")
    return found


if __name__ == "__main__":
    main()
