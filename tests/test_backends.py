"""cross_validate by other engines than threads: the same bits by joblib's processes and by a Dask cluster that loses a
worker on the way."""
import logging
import os
import time
from pathlib import Path

import numpy as np
import pytest
from toy import QUICK, blobs

import fastmlp

GRID = {"hidden": [4, (8, 4)], "learning_rate": [0.003, 0.03]}
OPTIONS = {name: value for name, value in QUICK.items() if name != "hidden"}


def same(ours, local):
    assert ours.configurations == local.configurations
    for name in set(local.scores) - {"seconds"}:
        np.testing.assert_array_equal(ours.scores[name], local.scores[name], err_msg=name)
    assert (ours.best, ours.seed, ours.interrupted) == (local.best, local.seed, False)


def validated(backend, **options):
    X, y = blobs(900)
    names = np.array(["ant", "bee", "cicada"])[y]
    return fastmlp.cross_validate(X, names, 3, GRID, backend=backend, **{**OPTIONS, "seed": 3, **options})


@pytest.mark.parametrize("device", ["reference", "cpu"])
def test_joblib(device):
    pytest.importorskip("joblib", reason="needs joblib")
    same(validated("loky", n_threads=2, device=device), validated(None, device=device))


class Slow:
    """A callback that takes its time, notes who trains, and ends the first worker that comes to it."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, model, numbers):
        time.sleep(0.02)
        (Path(self.folder) / str(os.getpid())).touch()
        try:
            (Path(self.folder) / "killed").mkdir()
        except FileExistsError:
            return
        os._exit(9)


@pytest.fixture(scope="module")
def client():
    distributed = pytest.importorskip("distributed", reason="needs distributed (extra: dask)")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # a worker is killed: it will be said at length
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, \
            distributed.Client(cluster) as client:
        yield client


def test_dask_with_a_worker_lost(client, tmp_path):
    ours = validated(client, callbacks=[Slow(str(tmp_path))])
    workers = {path.name for path in tmp_path.iterdir()} - {"killed"}
    assert len(workers) >= 2
    assert (tmp_path / "killed").exists()
    assert str(os.getpid()) not in workers
    same(ours, validated(None))


def test_dask_passes_errors_on(client):
    def fails(model, numbers):
        raise LookupError("not here")
    with pytest.raises(LookupError, match="not here"):
        validated(client, callbacks=[fails])


def test_refuses_what_is_no_backend():
    X, y = blobs(60)
    with pytest.raises(TypeError, match=r"backend must be None .* or a distributed.Client, got 3"):
        fastmlp.cross_validate(X, y, 3, backend=3, **QUICK)
    pytest.importorskip("joblib", reason="needs joblib")
    with pytest.raises(ValueError, match=r"backend='loki' is not a joblib backend: it has .*loky"):
        fastmlp.cross_validate(X, y, 3, backend="loki", **QUICK)
