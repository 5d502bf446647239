"""Philox4x32-10, a counter-based random generator, and the dropout masks drawn from it.

Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. The random words are
a function of (counter, key) alone, ten rounds of one bijection, so a mask depends on nothing but its position:
    (c0, c1, c2, c3) ← (high(M1 c2) ⊕ c1 ⊕ k0, low(M1 c2), high(M0 c0) ⊕ c3 ⊕ k1, low(M0 c0))
    (k0, k1) ← (k0 + W0, k1 + W1)    between rounds
"""
import numpy as np

M0, M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
W0, W1 = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10
LOW = 0xFFFFFFFF
LOW_WORD, WORD_BITS = np.uint64(LOW), np.uint64(32)


def philox(c0, c1, c2, c3, k0, k1):
    """Four uint32 words; counters may be scalars or arrays that broadcast, the key is two integers."""
    # 32-bit words live in uint64, which holds their full products.
    c0, c1, c2, c3 = (np.asarray(c, dtype=np.uint64) for c in (c0, c1, c2, c3))
    for r in range(ROUNDS):
        key0 = np.uint64((int(k0) + r * W0) & LOW)
        key1 = np.uint64((int(k1) + r * W1) & LOW)
        p0, p1 = M0 * c0, M1 * c2
        c0, c1, c2, c3 = p1 >> WORD_BITS ^ c1 ^ key0, p1 & LOW_WORD, p0 >> WORD_BITS ^ c3 ^ key1, p0 & LOW_WORD
    return tuple(c.astype(np.uint32) for c in (c0, c1, c2, c3))


def dropout(x, rate, seed, step, layer, y=None):
    """y = x / (1 - rate) where kept, else 0; returns y."""
    y = np.empty_like(x) if y is None else y
    drop(x, kept(x.shape, rate, seed, step, layer), rate, y)
    return y


def kept(shape, rate, seed, step, layer):
    """The mask (bool) of a batch: element (r, c) is decided by word r % 4 of counter (c, r // 4, layer, step)."""
    m, n = shape
    seed = int(seed)
    quads = (m + 3) // 4
    words = philox(np.arange(n), np.arange(quads)[:, None], layer, step, seed & LOW, seed >> 32 & LOW)
    threshold = np.uint32(rate * 2 ** 32)
    mask = np.empty((quads, 4, n), dtype=bool)
    for i, word in enumerate(words):
        np.greater_equal(word, threshold, out=mask[:, i])
    return mask.reshape(4 * quads, n)[:m]


def drop(x, mask, rate, y):
    """Linear, so the gradient passes through the very same function. y may be x itself."""
    np.divide(x, 1 - rate, out=y)
    np.copyto(y, 0, where=~mask)
