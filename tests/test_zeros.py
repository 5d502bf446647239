"""What `kernels.cpu` makes of zeros in X: which in-features share a tile, and how the rows of a batch are arranged."""
from dataclasses import replace

import cases
import numpy as np
import pytest

from fastmlp import datasets
from fastmlp.kernels import cpu
from fastmlp.kernels.cpu.simd import QUAD
from fastmlp.kernels.cpu.zeros import PAIRED_QUADS, has_zeros_to_skip, pair_quads, telling_features


def with_zeros(rows, columns, share=0.8):
    rng = np.random.default_rng(0)
    return rng.random((rows, columns)) * (rng.random((rows, columns)) > share)


@pytest.mark.parametrize("columns", [1, QUAD - 1, QUAD, QUAD + 1, 2 * QUAD, 3 * QUAD, 5 * QUAD - 1, 784,
                                     (PAIRED_QUADS + 3) * QUAD - 1])
def test_every_quad_has_one_place(columns):
    pairs, quads = pair_quads(with_zeros(50, columns)), -(-columns // QUAD)
    assert len(pairs) == -(-quads // 2)
    assert pairs.ravel().tolist().count(quads) == 0
    assert sorted(set(pairs.ravel().tolist())) == list(range(quads))
    assert sum(one == other for one, other in pairs) == quads % 2


def test_quads_that_are_zero_together_are_paired():
    """Quads q and q + 5 are there in the same rows."""
    rows = np.random.default_rng(1).random((300, 5)) < 0.3
    X = np.repeat(np.tile(rows, 2), QUAD, axis=1)
    assert pair_quads(X).tolist() == [[q, q + 5] for q in range(5)]


def test_pairs_leave_less_of_mnist():
    X = datasets.mnist()[0]
    quads = (X[::97].reshape(-1, 784 // QUAD, QUAD) != 0).any(axis=2)
    one, other = pair_quads(X).T
    paired, neighbours = (quads[:, one] | quads[:, other]).mean(), (quads[:, ::2] | quads[:, 1::2]).mean()
    assert paired < 0.95 * neighbours            # 0.81 with quads of 4, 0.92 of 2


def test_telling_features():
    """Each of three causes sets a third of the in-features: one of each third tells all there is."""
    causes = np.random.default_rng(2).random((400, 3)) < 0.4
    told = telling_features(np.repeat(causes, 20, axis=1).astype(np.uint8))
    assert told.size == 0                                    # three bits say it: there are no eight
    noisy = np.repeat(causes, 20, axis=1) ^ (np.random.default_rng(3).random((400, 60)) < 0.1)
    told = telling_features(noisy.astype(np.uint8))
    assert len(set(told.tolist())) == 8
    assert {j // 20 for j in told[:3].tolist()} == {0, 1, 2}


@pytest.mark.parametrize("x", [np.zeros((20, 9)), np.ones((20, 9)), np.ones((1, 1))], ids=["zeros", "ones", "one"])
def test_nothing_to_tell(x):
    assert telling_features(x).size == 0
    assert has_zeros_to_skip(x) == (not x.any())


def gray_keys(x, telling):
    """Bit by bit, the parity of the marks so far."""
    bits = np.bitwise_xor.accumulate(x[:, telling] != 0, axis=1)
    return bits @ (1 << np.arange(len(telling))[::-1])


def test_a_batch_is_arranged_by_its_keys():
    run = cases.RUNS["sparse_arranged"]
    x, _, *answers = run.data(np.float32)
    state = run.prepare(cpu, np.float32)
    order = np.random.default_rng(4).permutation(run.rows)[:run.batch_size]
    cpu.train_epoch(state, x, *answers, order, np.full(1, 0.01))
    telling = state.work.telling
    assert telling.size == 8
    keys = gray_keys(x[order], telling)
    assert len(set(keys.tolist())) > 20
    expected = order[np.argsort(keys, kind="stable")]
    assert not np.array_equal(expected, order)
    np.testing.assert_array_equal(state.work.arranged[:len(order)], expected)


def test_rows_keep_their_places_under_dropout():
    """Its masks go by the place."""
    run = replace(cases.RUNS["sparse_arranged"], dropout=(0.5, 0.0))
    state = run.prepare(cpu, np.float32)
    run.train(cpu, state, np.float32)
    assert state.work.nonzero.size > 0
    assert state.work.telling.size == 0
