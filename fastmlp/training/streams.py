"""Random numbers of a training: each use has a stream of its own, which no other program draws from the same seed.

A generator that users make themselves, ``numpy.random.default_rng(seed)``, draws from the seed without a key. Streams
here have keys, so data drawn with a seed and a net trained with the same one have nothing in common.
"""
from functools import cached_property

import numpy as np

_KEY = 0x666D6C70                # "fmlp": no child of a seed, numbered from 0, has it


class Streams:
    """The random numbers of a training with this seed, an integer of at least 0. Each stream is made when first used.

    split : which rows are set aside, for validation or as folds; order : of the rows, epoch by epoch;
    start : the first weights; dropout : the seed of the masks
    """

    def __init__(self, seed):
        self._seed = seed

    def _stream(self, use):
        return np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=(_KEY, use)))

    @cached_property
    def split(self):
        return self._stream(0)

    @cached_property
    def order(self):
        return self._stream(1)

    @cached_property
    def start(self):
        return self._stream(2)

    @cached_property
    def dropout(self):
        return self._stream(3)


def member_seeds(seed, n):
    """Seeds of n trainings, below 2**63: of 100,000 two are the same once in two thousand million draws.

    seed : an integer of at least 0; None for seeds that nobody can foresee
    """
    return (np.random.SeedSequence(seed).generate_state(n, np.uint64) >> np.uint64(1)).tolist()
