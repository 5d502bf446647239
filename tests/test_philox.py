"""Philox4x32-10 against the published vectors, and the dropout masks drawn from it."""
import numpy as np
import pytest

from fastmlp.kernels import reference

# kat_vectors of Random123 (Salmon et al., SC 2011): counter, key, words.
KNOWN_ANSWERS = (
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
)


def words(text):
    return [np.uint32(int(word, 16)) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_known_answers(package, counter, key, answer):
    assert [int(word) for word in package.philox(*words(counter), *words(key))] == words(answer)


def mask(package, shape, rate, seed, step=0, layer=0, dtype=np.float32):
    y = np.full(shape, np.nan, dtype)
    package.dropout(np.ones(shape, dtype), rate, seed, step, layer, y)
    return y


def test_reference_mask_by_its_definition():
    shape, rate, seed, step, layer = (5, 11), 0.3, 0x7EDCBA9876543210, 12, 2
    y = mask(reference, shape, rate, seed, step, layer)
    for r, c in np.ndindex(shape):
        word = reference.philox(c, r // 4, layer, step, seed & 0xFFFFFFFF, seed >> 32)[r % 4]
        assert (y[r, c] != 0) == (word >= int(rate * 2 ** 32))


@pytest.mark.parametrize("shape", [(1, 1), (3, 4), (7, 5), (9, 33), (33, 257)])
@pytest.mark.parametrize("seed", [0, 1, 2 ** 32, 2 ** 63 - 1])
def test_same_mask_in_every_package(package, shape, seed):
    for step, layer, rate in ((0, 0, 0.5), (1, 0, 0.1), (2 ** 31, 3, 0.9)):
        for dtype in (np.float32, np.float64):
            ours, expected = (mask(p, shape, rate, seed, step, layer, dtype) for p in (package, reference))
            np.testing.assert_array_equal(ours != 0, expected != 0)


@pytest.mark.parametrize("rate", [0.1, 0.4, 0.5, 0.9])
def test_rate(package, rate):
    """Within five standard deviations of a binomial; what is kept is scaled so that the mean stays 1."""
    y = mask(package, (500, 400), rate, seed=123)
    kept = np.count_nonzero(y)
    assert abs(kept - y.size * (1 - rate)) < 5 * (y.size * rate * (1 - rate)) ** 0.5
    np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=1e-6)
    columns = np.count_nonzero(y, axis=0)
    assert np.abs(columns - 500 * (1 - rate)).max() < 6 * (500 * rate * (1 - rate)) ** 0.5


def test_masks_are_independent(package):
    """Another seed, step, layer or row gives another mask: two of them agree in half of the places."""
    shape = (100, 200)
    first = mask(package, shape, 0.5, seed=1) != 0
    others = [mask(package, shape, 0.5, **place) != 0 for place in (
        {"seed": 2}, {"seed": 1 + 2 ** 32}, {"seed": 1, "step": 1}, {"seed": 1, "layer": 1})]
    neighbours = [np.roll(first, shift, axis) for shift in (1, 2, 3, 4) for axis in (0, 1)]
    for other in others + neighbours:
        assert abs(np.mean(first == other) - 0.5) < 5 * 0.5 / first.size ** 0.5


def test_a_row_of_a_longer_batch_is_the_same(package):
    """A mask depends on nothing but its place."""
    np.testing.assert_array_equal(mask(package, (40, 37), 0.5, seed=9)[:7], mask(package, (7, 37), 0.5, seed=9))
    np.testing.assert_array_equal(mask(package, (7, 37), 0.5, seed=9)[:, :10], mask(package, (7, 10), 0.5, seed=9))


def test_dropped_is_zero_whatever_it_was(package):
    x = np.full((20, 30), np.inf)
    y = np.full_like(x, np.nan)
    package.dropout(x, 0.5, 1, 0, 0, y)
    assert set(np.unique(y)) == {0.0, np.inf}
