"""Training by several MPI ranks: what one process would train, the same bits on every rank, errors instead of hangs."""
import pickle
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cases
import mpi_worker
import numpy as np
import pytest
from toy import PATIENCE

import fastmlp

# The launcher that comes with a Python package of MPI lies beside this Python.
MPIEXEC = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
pytestmark = [pytest.mark.skipif(find_spec("mpi4py") is None, reason="needs mpi4py (extra: mpi)"),
              pytest.mark.skipif(MPIEXEC is None, reason="needs mpiexec, for instance from pip install mpich")]
PLAIN = [(name, device) for name in mpi_worker.CASES for device in ("reference", "cpu")]


def launch(ranks, what, folder, seconds=PATIENCE):
    return subprocess.run([MPIEXEC, "-n", str(ranks), sys.executable, mpi_worker.__file__, str(folder), what],
                          text=True, capture_output=True, timeout=seconds, check=False)


@pytest.fixture(scope="module", params=[2, 4])
def results(request, tmp_path_factory):
    """What each rank has, of 2 and of 4 (on fewer cores than that, if need be)."""
    folder = tmp_path_factory.mktemp("ranks")
    run = launch(request.param, "equal", folder)
    assert run.returncode == 0, run.stderr
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(request.param)]


@pytest.fixture(scope="module")
def alone():
    return {case: mpi_worker.outcome(mpi_worker.train(*case, 0, 1, None)) for case in PLAIN}


def same_bits(one, other):
    np.testing.assert_array_equal(one["parameters"], other["parameters"])
    assert one["history"].keys() == other["history"].keys()
    for name, column in one["history"].items():
        np.testing.assert_array_equal(column, other["history"][name], err_msg=name)  # NaN equals NaN
    assert (one["best"], one["seed"], one["scale"], one["loss"]) == \
        (other["best"], other["seed"], other["scale"], other["loss"])
    np.testing.assert_array_equal(one["classes"], other["classes"])


def test_all_ranks_end_with_the_same_bits(results):
    for other in results[1:]:
        assert other.keys() == results[0].keys()
        for name, result in results[0].items():
            same_bits(result, other[name])


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_what_one_process_would_train(results, alone, case):
    ours, whole = results[0][case], alone[case]
    tolerance = cases.RUN_TOLERANCE[ours["parameters"].dtype.type]
    assert cases.error(ours["parameters"], whole["parameters"]) <= tolerance
    assert (ours["loss"], ours["scale"], ours["best"]) == (whole["loss"], whole["scale"], whole["best"])
    np.testing.assert_array_equal(ours["classes"], whole["classes"])
    assert ours["history"].keys() == whole["history"].keys()
    for name, column in whole["history"].items():
        np.testing.assert_allclose(ours["history"][name], column, rtol=10 * tolerance, err_msg=name)


def test_repeated_to_the_same_bits(results):
    same_bits(results[0]["again"], results[0]["labels", "cpu"])


def test_dropout_learns(results):
    loss = results[0]["dropout"]["history"]["loss"]
    assert loss[-1] < 0.8 * loss[0]


def test_a_callback_of_one_rank_stops_all(results):
    assert [len(each["stopped"]["history"]["loss"]) for each in results] == [2] * len(results)


def test_continued_training(results):
    before, after = (len(results[0][name]["history"]["loss"]) for name in (("labels", "reference"), "further"))
    assert after == before + 2


SAID = {
    "a hole": "X must be finite, got nan at row 5, column 3",
    "one more column": "the number of columns of X must be the same on all ranks, got 20 on rank 0 and 21 on rank 1",
    "numbers among labels": "y must be of one kind and shape on every rank",
    "no such option": "activation must be one of",
    "another option": "batch_size must be the same on all ranks, got '16' on rank 0 and '8' on rank 1",
    "another seed": "seed must be the same on all ranks, got 0 on rank 0 and 1 on rank 1",
    "no validation": "whether there is validation must be the same on all ranks, got True on rank 0 and False",
    "floats": "whether X is uint8 must be the same on all ranks",
    "one checkpoint": "whether checkpoint is given must be the same on all ranks, got True on rank 0 and False",
    "scaled windows": "scaling='robust' (and preset='tabular') needs X in memory",
    "divergence": "DivergedError: training diverged in epoch 1",
}


@pytest.fixture(scope="module")
def in_windows(tmp_path_factory):
    """(what came of it, rows visited in each step, rows owned) of each of 2 ranks."""
    folder = tmp_path_factory.mktemp("windows")
    run = launch(2, "windows", folder)
    assert run.returncode == 0, run.stderr
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(2)]


def test_windows_give_all_ranks_the_same_bits_again_and_again(in_windows):
    (results, *_), (others, *_) = in_windows
    for name, result in results.items():
        same_bits(result, others[name])
        assert result["history"]["loss"][-1] < 0.7 * result["history"]["loss"][0]
    for device in ("reference", "cpu"):
        same_bits(results[device], results[f"{device} again"])
    assert cases.error(results["cpu"]["parameters"], results["reference"]["parameters"]) <= \
        cases.RUN_TOLERANCE[np.float32]
    assert results["validated"]["best"] is not None


def test_windows_visit_every_row_once_in_batches_of_even_shares(in_windows):
    """301 rows, of which rank 0 has a quarter: 10 steps of 32, the last of 13."""
    for _, visited, own in in_windows:
        epochs = [np.concatenate(visited[first:first + 10]) for first in range(0, 60, 10)]
        for epoch in epochs:
            np.testing.assert_array_equal(np.sort(epoch), own)
        assert not np.array_equal(epochs[0], epochs[1])
        for step, batch in enumerate(visited):
            share = (13 if step % 10 == 9 else 32) * len(own) / 301
            assert abs(len(batch) - share) < 1
        # A window's rows are blocks of the file: 40 rows, of blocks of one, are not the first 40.
        assert not np.array_equal(np.sort(epochs[0][:40]), own[:40])
    for (_, one, _), (_, other, _) in [in_windows]:
        assert {len(a) + len(b) for a, b in zip(one, other, strict=True)} <= {31, 32, 33, 12, 13, 14}


def test_checkpoints_resume_to_the_same_bits(tmp_path):
    run = launch(2, "checkpoints", tmp_path)
    assert run.returncode == 0, run.stderr
    results = [pickle.loads((tmp_path / f"{rank}.pickle").read_bytes()) for rank in range(2)]
    for each in results:
        for name in ("memory", "windows"):
            for resumed in each[name]:
                same_bits(resumed, results[0][f"{name}, unbroken"])
        assert "rows of each rank (was [75, 225], is [150, 150])" in each["other shares"]
    X, y = mpi_worker.images()
    with pytest.raises(ValueError, match=r"rows of each rank \(was \[75, 225\], is None\)"):
        fastmlp.train(X, y, checkpoint=tmp_path / "memory", **mpi_worker.COMMON)


def test_ranks_killed_resume_from_the_checkpoint(tmp_path):
    assert launch(2, "dies and leaves", tmp_path).returncode != 0
    assert (tmp_path / "run").exists()
    run = launch(2, "resumes", tmp_path)
    assert run.returncode == 0, run.stderr
    resumed, unbroken = pickle.loads((tmp_path / "0.pickle").read_bytes())
    same_bits(resumed, unbroken)
    same_bits(resumed, pickle.loads((tmp_path / "1.pickle").read_bytes())[0])


def test_every_rank_says_what_is_wrong(tmp_path):
    run = launch(2, "errors", tmp_path)
    assert run.returncode == 0, run.stderr
    for rank in range(2):
        said = pickle.loads((tmp_path / f"{rank}.pickle").read_bytes())
        assert said.keys() == SAID.keys()
        for name, text in SAID.items():
            assert text in said[name], (rank, name)
    assert said["a hole"].startswith("ValueError: X must")
    zero = pickle.loads((tmp_path / "0.pickle").read_bytes())
    assert zero["a hole"].startswith("ValueError: rank 1 of 2 raised ValueError: X must")


@pytest.mark.parametrize(("what", "message"), [("raises", "KeyError('nothing here')"), ("dies", None)])
def test_a_rank_that_fails_ends_all(tmp_path, what, message):
    run = launch(2, what, tmp_path)
    assert run.returncode != 0
    if message is not None:
        assert f"fastmlp: rank 1 of 2 failed, all ranks end: {message}\nTraceback" in run.stderr


def test_one_rank_is_the_plain_call():
    """COMM_SELF has one rank, whatever started this process."""
    code = f"""
import sys; sys.path.insert(0, {str(Path(mpi_worker.__file__).parent)!r})
from mpi4py import MPI
import mpi_worker
one, other = (mpi_worker.train("labels", "cpu", 0, 1, comm) for comm in (MPI.COMM_SELF, None))
assert (one.parameters == other.parameters).all()
"""
    run = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr


def test_refuses_what_is_no_communicator():
    with pytest.raises(TypeError, match=r"comm must be an MPI communicator such as mpi4py.MPI.COMM_WORLD, got 3"):
        fastmlp.train([[0.0], [1.0]], [0, 1], comm=3)
