"""What `kernels.cpu` makes of zeros in X: which in-features share a tile, and how the rows of a batch are arranged."""
from dataclasses import replace

import cases
import numpy as np
import pytest

from fastmlp import datasets
from fastmlp.kernels import cpu
from fastmlp.kernels.cpu.net.zeros import PAIRED_QUADS, has_zeros_to_skip, pair_quads
from fastmlp.kernels.cpu.vector.simd import QUAD


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


@pytest.mark.parametrize(("x", "skips"), [(np.zeros((20, 9)), True), (np.ones((20, 9)), False)])
def test_zeros_to_skip(x, skips):
    assert has_zeros_to_skip(x) == skips


def test_a_batch_is_arranged_by_class():
    """Whatever the data: what is sampled of them may differ where a run is resumed."""
    run = cases.RUNS["sparse_arranged"]
    x, _, *answers = run.data(np.float32)
    order = np.random.default_rng(4).permutation(run.rows)[:run.batch_size]
    expected = order[np.argsort(answers[0][order], kind="stable")]
    assert not np.array_equal(expected, order)
    for data in (x, x + 1):
        state = run.prepare(cpu, np.float32)
        cpu.train_epoch(state, data, *answers, order, np.full(1, 0.01))
        np.testing.assert_array_equal(state.work.arranged[:len(order)], expected)


def test_rows_keep_their_places_under_dropout():
    """Its masks go by the place."""
    run = replace(cases.RUNS["sparse_arranged"], dropout=(0.5, 0.0))
    state = run.prepare(cpu, np.float32)
    run.train(cpu, state, np.float32)
    assert state.work.nonzero.size > 0
    assert state.work.arranged.size == 0
