"""Where threads are few, or none can be started: the same bits, on those that there are."""
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import njit
from toy import PATIENCE

import fastmlp
from fastmlp import device
from fastmlp.kernels import cores
from fastmlp.kernels.cpu import threads

X = np.random.default_rng(0).standard_normal((600, 100)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 5, 600)
OPTIONS = {"hidden": (200,), "epochs": 2, "seed": 0, "device": "cpu", "n_threads": 2}


def work():
    model = fastmlp.train(X, Y, **OPTIONS)
    return model.parameters.tobytes() + model.predict_proba(np.tile(X, (4, 1))).tobytes()


@pytest.fixture(scope="module")
def alone():
    return work()


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()], ids=["limit", "memory"])
def test_threads_that_cannot_be_started(error, alone, monkeypatch, caplog):
    """Limits of processes (ulimit -u, pids of a container)."""
    def refuse(*_):
        raise error

    monkeypatch.setattr(threads, "_system_threads", lambda: refuse)
    with caplog.at_level(logging.WARNING, "fastmlp"):
        assert work() == alone
    assert "no helper threads" in caplog.text


def test_only_some_threads_can_be_started(monkeypatch, caplog):
    started = []

    def first_alone(*arguments):
        if started:
            raise RuntimeError("can't start new thread")
        started.append(threads._thread.start_new_thread(*arguments))

    monkeypatch.setattr(threads, "_system_threads", lambda: first_alone)
    team, counts = threads.Team(4), []
    team.run(lambda thread, count, control: counts.append(count))
    assert counts == [1]


def test_threads_that_do_not_run(alone, monkeypatch, caplog):
    """Whatever patches threads: a helper that does not report is not waited for at a barrier."""
    monkeypatch.setattr(threads, "_system_threads", lambda: lambda *_: None)
    monkeypatch.setattr(threads, "START_SECONDS", 0.05)
    monkeypatch.setattr(threads, "_no_helpers", "")
    assert work() == alone
    assert "did not run within" in threads._no_helpers
    assert caplog.text.count("no helper threads") == 1


def test_what_runs_in_the_callers_own_thread_is_no_helper(monkeypatch):
    monkeypatch.setattr(threads, "_system_threads", lambda: lambda function, arguments: arguments[1].put(
        threads._thread.get_native_id()))
    team = threads.Team(2)
    assert not team._find_helpers()


@njit(nogil=True)
def meet(thread, team, control):
    for _ in range(100):
        threads.barrier(control, team)


def test_helpers_end_with_their_team():
    team = threads.Team(3)
    team.run(meet)
    ended = team._helpers._ended
    bell = team._helpers._bell
    del team
    for _ in range(2):
        bell.get(timeout=PATIENCE)
    assert len(ended) == 2


def test_an_error_of_a_helper_is_raised():
    def fail(thread, team, control):
        if thread:
            raise ZeroDivisionError

    with threads.Team(2) as team:
        with pytest.raises(ZeroDivisionError):
            team.run(fail)
        team.run(meet)


def test_at_exit():
    """`cannot schedule new futures after interpreter shutdown`."""
    program = """
import atexit, sys
sys.path[:0] = sys.argv[1:]
import test_threads as t
model = t.fastmlp.train(t.X, t.Y, **t.OPTIONS)
big = t.np.tile(t.X, (4, 1))
right, wanted = model.predict_proba(big), t.work()

@atexit.register
def late():
    print("predict", (model.predict_proba(big) == right).all(), "train", t.work() == wanted, flush=True)

class Late:
    def __del__(self, model=model, big=big, right=right):
        print("del", (model.predict_proba(big) == right).all(), flush=True)

late = Late()
"""
    here = Path(__file__).parent
    child = subprocess.run([sys.executable, "-c", program, here, here.parent], capture_output=True, text=True,
                           timeout=PATIENCE)
    assert child.stdout == "predict True train True\ndel True\n", child.stderr


# ------------------------------------------------------------------------------- how many

@pytest.mark.parametrize(("text", "number"), [
    ("1", 1), ("1,1", 1), ("3,2,1", 3), (" 2 ", 2), ("2 , 4", 2), ("+2", 2), ("", None), (" ", None), ("²", None),
    ("0", None), ("-1", None), ("two", None), ("1.5", None), ("٢", None), ("9" * 50, None), ("1;2", None)])
@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "NUMBA_NUM_THREADS"])
def test_numbers_in_the_environment_are_read_as_openmp_does(name, text, number, monkeypatch, caplog):
    """Slurm and MKL set lists such as 1,1."""
    monkeypatch.setenv(name, text)
    cores._warn.cache_clear()
    assert cores.number_in_environment(name) == number
    assert (name in caplog.text) == (number is None and bool(text.strip()))
    assert threads.available_cores() >= 1
    if number == 1:
        assert threads.available_cores() == 1


def test_a_number_that_openmp_ignores_is_no_share_of_the_cores(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "²")
    assert device.among_workers() in (False, True)


@pytest.mark.parametrize("text", ["²", "1,1", "x"])
def test_our_own_variable_must_be_a_number(text, monkeypatch):
    monkeypatch.setenv("FASTMLP_NUM_THREADS", text)
    with pytest.raises(TypeError, match="FASTMLP_NUM_THREADS must be a whole number"):
        device.threads()
    monkeypatch.setenv("FASTMLP_NUM_THREADS", " 2 ")
    assert device.threads() == 2


@pytest.mark.parametrize(("group", "files", "cores_allowed"), [
    ("0::/", {"cpu.max": "200000 100000"}, 2), ("0::/", {"cpu.max": "max 100000"}, None),
    ("0::/", {"cpu.max": "150000 100000"}, 2), ("0::/", {"cpu.max": "5000 100000"}, 1), ("0::/", {}, None),
    ("0::/kubepods/pod1", {"kubepods/cpu.max": "100000 100000", "kubepods/pod1/cpu.max": "300000 100000"}, 1),
    ("0::/../..", {"cpu.max": "100000 100000"}, 1), ("0::/host/path", {"cpu.max": "100000 100000"}, 1),
    ("4:cpu,cpuacct:/", {"cpu,cpuacct/cpu.cfs_quota_us": "100000", "cpu,cpuacct/cpu.cfs_period_us": "50000"}, 2),
    ("4:cpu:/docker/1", {"cpu/docker/1/cpu.cfs_quota_us": "-1", "cpu/docker/1/cpu.cfs_period_us": "100000"}, None),
    ("4:cpu:/docker/1", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
    ("4:cpuset:/\n3:memory:/", {"cpu.cfs_quota_us": "nonsense"}, None), ("nonsense", {}, None)])
def test_quotas_of_control_groups(group, files, cores_allowed, tmp_path):
    """docker run --cpus=1."""
    (tmp_path / "membership").write_text(group + "\n")
    for name, content in files.items():
        file = tmp_path / "mount" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n")
    assert cores.quota(str(tmp_path / "membership"), str(tmp_path / "mount")) == cores_allowed


def test_a_quota_bounds_the_threads(monkeypatch):
    monkeypatch.setattr(cores, "quota", lambda: 1)
    assert threads.choose_threads(None, 1e12) == 1
    assert cores.quota() == 1


def test_no_file_of_control_groups(tmp_path):
    assert cores.quota(str(tmp_path / "none"), str(tmp_path)) is None
