"""What the machine can do at this moment: fused multiply-adds from registers, and bytes copied.

Measured in each round beside the kernels, so that a fraction of it means something where neighbours come and go.
"""
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np

from fastmlp.kernels.cpu.jit import entry
from fastmlp.kernels.cpu.vector.pointers import at, lanes, load, store
from fastmlp.kernels.cpu.vector.simd import VECTOR_BYTES, fma

# Independent sums: latency 4 on 2 to 3 units needs up to 12; with both factors these fill AVX2's 16 registers.
CHAINS = 14
FMA_REPEATS = 400_000            # 1 to 3 ms
COPY_SECONDS = 2e-3
FIRST_GUESS = 1e10               # bytes/s


@entry
def fma_chains(factors, repeats, out):
    """out = CHAINS sums of s ← a s + b, `repeats` times, nothing loaded or stored in between."""
    p, q = at(factors, 0), at(out, 0)
    n = lanes(p)
    a, b = load(p, 0), load(p, n)
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = b
    t0 = t1 = t2 = t3 = t4 = t5 = t6 = a
    for _ in range(repeats):
        s0, s1, s2, s3 = fma(a, s0, b), fma(a, s1, b), fma(a, s2, b), fma(a, s3, b)
        s4, s5, s6, t0 = fma(a, s4, b), fma(a, s5, b), fma(a, s6, b), fma(a, t0, b)
        t1, t2, t3, t4 = fma(a, t1, b), fma(a, t2, b), fma(a, t3, b), fma(a, t4, b)
        t5, t6 = fma(a, t5, b), fma(a, t6, b)
    store(q, 0, s0 + s1 + s2 + s3 + s4 + s5 + s6 + t0 + t1 + t2 + t3 + t4 + t5 + t6)


@entry
def copy_back_and_forth(x, y, repeats):
    """y ← x, x ← y, ...: `repeats` copies, a vector at a time."""
    p, q = at(x, 0), at(y, 0)
    for r in range(repeats):
        if r % 2 == 0:
            for i in range(0, x.size, lanes(p)):
                store(q, i, load(p, i))
        else:
            for i in range(0, x.size, lanes(p)):
                store(p, i, load(q, i))


class Ceiling:
    """FLOP/s of `threads` cores in a dtype, or bytes/s of copies that read and write `traffic` bytes in all."""

    def __init__(self, threads, dtype="float32", traffic=0):
        self.threads, self.dtype, self.traffic = threads, np.dtype(dtype), traffic
        self.pool = ThreadPoolExecutor(threads)
        self.lanes = VECTOR_BYTES // self.dtype.itemsize
        # Start values whose sums stay finite: s ← s/2 + 1 tends to 2.
        self.factors = np.repeat([0.5, 1.0], self.lanes).astype(dtype)
        if traffic:
            whole = max(64, traffic // 2 // threads // 64 * 64)
            self.arrays = [np.zeros((2, whole // self.dtype.itemsize), dtype) for _ in range(threads)]
            self.repeats = 1 + int(COPY_SECONDS * FIRST_GUESS / traffic)
        for _ in range(3):
            self.round()                     # compilation, first touch of the arrays, threads

    def on_every_thread(self, work, arguments):
        start = perf_counter()
        list(self.pool.map(lambda thread: work(*arguments(thread)), range(self.threads)))
        return perf_counter() - start

    def round(self):
        """FLOP/s or bytes/s of all threads together."""
        if not self.traffic:
            seconds = self.on_every_thread(
                fma_chains, lambda _: (self.factors, FMA_REPEATS, np.empty(self.lanes, self.dtype)))
            return self.threads * FMA_REPEATS * CHAINS * 2 * self.lanes / seconds
        seconds = self.on_every_thread(copy_back_and_forth, lambda thread: (*self.arrays[thread], self.repeats))
        moved = sum(pair.nbytes for pair in self.arrays) * self.repeats
        return moved / seconds
