"""Random numbers of a training: each use has a stream of its own, which no other program draws from the same seed.

A generator that people make themselves, ``numpy.random.default_rng(seed)``, draws from the seed without a key. Streams
here have keys, so data drawn with a seed and a net trained with the same one have nothing in common.
"""
from typing import NamedTuple

import numpy as np

_KEY = 0x666D6C70                # "fmlp": nobody who spawns children of a seed, numbered from 0, meets it


class Streams(NamedTuple):
    """split : which rows are set aside, for validation or as folds; order : of the rows, epoch by epoch;
    start : the first weights; dropout : the seed of the masks."""

    split: np.random.Generator
    order: np.random.Generator
    start: np.random.Generator
    dropout: np.random.Generator


def streams(seed):
    """The `Streams` of a training with this seed, an integer of at least 0."""
    return Streams(*(np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_KEY, use)))
                     for use in range(len(Streams._fields))))


def member_seeds(seed, n):
    """Seeds of n trainings, below 2**63: of 100,000 two are the same once in two thousand million draws.

    seed : an integer of at least 0; None for seeds that nobody can foresee
    """
    return (np.random.SeedSequence(seed).generate_state(n, np.uint64) >> np.uint64(1)).tolist()
