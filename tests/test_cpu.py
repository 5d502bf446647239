"""What only the CPU package has: vector mathematics, instruction sets, teams of threads."""
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from levels import LOWER_LEVELS, environment_of, run_on
from numba import njit
from numba.core.errors import TypingError
from toy import PATIENCE

from fastmlp.kernels import cpu
from fastmlp.kernels.cpu import threads
from fastmlp.kernels.cpu.net import training
from fastmlp.kernels.cpu.vector import simd, vector_math
from fastmlp.kernels.cpu.vector.pointers import at, lanes, load, store

TESTS = Path(__file__).parent
exp, log, tanh, reciprocal_sqrt = vector_math.exp, vector_math.log, vector_math.tanh, vector_math.reciprocal_sqrt


@njit(error_model="numpy")
def apply_exp(x, y):
    for i in range(0, x.size, lanes(at(x, 0))):
        store(at(y, i), 0, exp(load(at(x, i), 0)))


@njit(error_model="numpy")
def apply_tanh(x, y):
    for i in range(0, x.size, lanes(at(x, 0))):
        store(at(y, i), 0, tanh(load(at(x, i), 0)))


@njit(error_model="numpy")
def apply_log(x, y):
    for i in range(0, x.size, lanes(at(x, 0))):
        store(at(y, i), 0, log(load(at(x, i), 0)))


@njit(error_model="numpy")
def apply_reciprocal_sqrt(x, y):
    for i in range(0, x.size, lanes(at(x, 0))):
        store(at(y, i), 0, reciprocal_sqrt(load(at(x, i), 0)))


FUNCTIONS = {"exp": (apply_exp, np.exp), "tanh": (apply_tanh, np.tanh)}
RANGES = {np.float32: 110.0, np.float64: 750.0}
# Units in the last place, wherever the result is finite, denormals included.
ULP = {("exp", np.float32): 1, ("exp", np.float64): 1, ("tanh", np.float32): 3, ("tanh", np.float64): 2}


def ulp_error(y, exact, dtype):
    with np.errstate(over="ignore"):
        rounded = exact.astype(dtype)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(y[~finite], rounded[~finite])
    return (np.abs(y[finite] - exact[finite]) / np.spacing(np.abs(rounded[finite]))).max()


@pytest.mark.parametrize("dtype", RANGES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_error_in_ulp(name, dtype, rng):
    apply, oracle = FUNCTIONS[name]
    limit = RANGES[dtype]
    x = np.concatenate([np.linspace(-limit, limit, 1 << 18), rng.normal(size=1 << 18), rng.normal(size=1 << 14) * 1e-4])
    x = x.astype(dtype)
    y = np.full_like(x, np.nan)
    apply(x, y)
    assert ulp_error(y, oracle(x.astype(np.longdouble)), dtype) <= ULP[name, dtype]


@pytest.mark.parametrize("dtype", RANGES)
def test_log_in_ulp(dtype, rng):
    x = np.concatenate([np.exp(rng.uniform(-80, 80, 1 << 17)), rng.uniform(0.5, 2, 1 << 17), 1 + np.arange(16) * 1e-6])
    x = x.astype(dtype)
    y = np.full_like(x, np.nan)
    apply_log(x, y)
    assert ulp_error(y, np.log(x.astype(np.longdouble)), dtype) <= 1
    values = np.array([1.0, np.inf, np.nan] + [2.0] * 13, dtype)
    apply_log(values, y)
    np.testing.assert_array_equal(y[:3], np.array([0, np.inf, np.nan], dtype))


@pytest.mark.parametrize("dtype", RANGES)
def test_reciprocal_sqrt(dtype, rng):
    x = np.exp(rng.uniform(-80, 80, 1 << 16)).astype(dtype)
    x[:5] = 0, np.inf, np.nan, 1, -1
    y = np.full_like(x, np.nan)
    apply_reciprocal_sqrt(x, y)
    np.testing.assert_array_equal(y[:5], np.array([np.inf, 0, np.nan, 1, np.nan], dtype))
    exact = 1 / np.sqrt(x[5:].astype(np.longdouble))
    ulp = np.abs(y[5:] - exact) / np.spacing(exact.astype(dtype))
    assert ulp.max() <= 3, f"{ulp.max()} ulp"


@pytest.mark.parametrize("dtype", RANGES)
def test_special_values(dtype):
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0] + [1.0] * 11, dtype)
    y = np.empty_like(values)
    apply_exp(values, y)
    np.testing.assert_array_equal(y[:5], np.array([np.nan, np.inf, 0, 1, 1], dtype))
    apply_tanh(values, y)
    np.testing.assert_array_equal(y[:5], np.array([np.nan, 1, -1, 0, 0], dtype))


@pytest.mark.parametrize("level", LOWER_LEVELS)
def test_lower_instruction_sets(level):
    """The machine's own level runs everywhere else; here a part of the suite runs on each level below it."""
    if simd.LEVEL not in ("avx512", "avx2"):
        pytest.skip(f"this machine's level is {simd.LEVEL}: the levels below an x86 machine's are tested on one")
    assert run_on(level, "") == ""
    chosen = ("test_same_as_reference and cpu and float32 or test_op and cpu and dense_forward and float32 and relu"
              " or test_is_close_to_double and 784")
    child = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen,
                            "test_kernel_training.py", "test_ops.py", "test_as_njit.py"],
                           cwd=TESTS, env=environment_of(level), capture_output=True, text=True, timeout=PATIENCE)
    assert child.returncode == 0, child.stdout[-3000:]
    assert " passed" in child.stdout


@njit
def dense_forward(x, w, b, activation, y):
    """Somebody's compiled code, where no Python looks at the arrays."""
    cpu.dense_forward(x, w, b, activation, y)


def test_unsafe_arrays_are_refused_before_compiling():
    x, w, b, y = np.ones((4, 6), np.float32), np.ones((6, 2), np.float32), np.ones(2, np.float32), np.ones((4, 2))
    with pytest.raises(TypingError, match="C-contiguous"):
        dense_forward(x.T.copy().T, w, b, 0, y.astype(np.float32))
    with pytest.raises(ValueError, match="dense_forward"):
        dense_forward(x, w, b, 0, np.ones((3, 2), np.float32))


@pytest.mark.parametrize("odd_one", range(4))
@pytest.mark.parametrize("others", [np.float32, np.float64])
def test_mixed_dtypes_are_refused_before_compiling(odd_one, others):
    """Memory of one type read as another would be nonsense, or past the end."""
    arrays = [np.ones(shape, others) for shape in ((4, 6), (6, 2), 2, (4, 2))]
    arrays[odd_one] = arrays[odd_one].astype(np.float64 if others == np.float32 else np.float32)
    x, w, b, y = arrays
    with pytest.raises(TypingError):
        dense_forward(x, w, b, 0, y)


def test_cores_follow_the_environment(monkeypatch):
    monkeypatch.setenv("FASTMLP_NUM_THREADS", "1")
    assert threads.available_cores() == 1
    monkeypatch.setenv("FASTMLP_NUM_THREADS", "100000")
    assert threads.available_cores() <= (os.cpu_count() or 1)


def count_to_barrier(thread, team, control, meetings):
    for _ in range(meetings):
        threads.barrier(control, team)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_teams_meet_with_more_threads_than_cores(size):
    compiled = njit(nogil=True)(count_to_barrier)
    with threads.Team(size) as team:
        for _ in range(3):
            before = 0 if size > 1 else team.control[threads.GENERATION]
            team.run(compiled, 2000)
            assert team.control[threads.GENERATION] - before == 2000


def test_pace_follows_the_faster_choice():
    pace, seconds = threads.Pace(4), {4: 1.0, 1: 2.0}
    chosen = []
    for chunk in range(300):
        if chunk == 150:
            seconds = {4: 3.0, 1: 2.0}                         # a neighbour came
        chosen.append(pace.choose())
        pace.record(chosen[-1], seconds[chosen[-1]])
    assert set(chosen[:4]) == {1, 4}
    assert chosen[5:150].count(4) >= 135
    assert chosen[160:].count(1) >= 130
    assert chosen[160:].count(4) >= 1
    alone = threads.Pace(1)
    assert [alone.choose() for _ in range(100)] == [1] * 100


def test_pace_forgives_a_cold_start():
    pace, chosen = threads.Pace(2), []
    for chunk in range(32):
        chosen.append(pace.choose())
        pace.record(chosen[-1], 5.0 if chunk < 4 and chosen[-1] == 2 else {2: 1.0, 1: 2.0}[chosen[-1]])
    assert chosen[:4] == [2, 1, 2, 1]
    assert chosen[8:].count(2) >= 22


def test_interrupt_between_starting_a_helper_and_noting_it():
    """The helper waits at a barrier for a caller who will never come: it must be released, and the team go on."""
    compiled = njit(nogil=True)(count_to_barrier)
    with threads.Team(3) as team:
        team.run(compiled, 1)                            # compiles
        submit = team._helpers.submit

        def interrupted(*task):
            submit(*task)
            raise KeyboardInterrupt

        team._helpers.submit = interrupted
        with pytest.raises(KeyboardInterrupt):
            team.run(compiled, 1)
        assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("fastmlp")]
        team.run(compiled, 1)


def test_a_team_survives_an_interrupt_before_the_caller_enters():
    compiled = njit(nogil=True)(count_to_barrier)

    def interrupted(thread, team, control, meetings):
        if thread == 0:
            raise KeyboardInterrupt
        compiled(thread, team, control, meetings)

    with threads.Team(3) as team:
        with pytest.raises(KeyboardInterrupt):
            team.run(interrupted, 10)
        team.run(compiled, 10)
        assert team.control[threads.GENERATION] == 10


def test_python_threads_train_at_once(rng):
    """Eight callers, two threads each: the same bits as alone."""
    x = rng.normal(size=(500, 40)).astype(np.float32)
    labels = rng.integers(0, 5, 500)

    def train():
        parameters = np.linspace(-0.1, 0.1, 41 * 32 + 33 * 5).astype(np.float32)
        state = cpu.prepare(parameters, (40, 32, 5), (1, 0), dropout=(0.0, 0.0), loss=0, rule=4,
                            hyper=(0.9, 0.999, 1e-8, 0.0), l2=0.0, batch_size=64, scale=1.0, seed=1, n_threads=2)
        for _ in range(5):
            cpu.train_epoch(state, x, labels, np.empty((0, 0), np.float32), np.empty(0, np.float32),
                            np.arange(500), np.full(8, 1e-3))
        cpu.read_parameters(state, parameters)
        return parameters.tobytes()

    alone, results = train(), []
    callers = [threading.Thread(target=lambda: results.append(train())) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert results == [alone] * 8


def test_warm_up_is_all_of_inference():
    """Of many rows, too: another type of one empty array had all of it compiled again, 2 s that nothing announced."""
    program = """
import numpy as np
from fastmlp.kernels import cpu
from fastmlp.kernels.cpu.net import training
cpu.warm_up("float32")
before = {f: list(f.signatures) for f in (training.infer_blocks, training.infer_few, training.to_panels)}
for rows in (1, 5000):
    cpu.forward(np.zeros(101 * 100, np.float32), (100, 100), (1,), np.ones((rows, 100), np.float32), 1.0, 1,
                np.empty((rows, 100), np.float32))
assert all(list(f.signatures) == signatures for f, signatures in before.items()), before
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=PATIENCE).returncode == 0


@pytest.mark.parametrize(("n_in", "sparse"), [(1000, True), (1 << 20, False)])
def test_inference_lists_what_positions_of_32_bits_reach(monkeypatch, n_in, sparse):
    """64 threads with 64 rows of 2^20 columns have 2^32 positions, which were read from the wrong places."""
    monkeypatch.setattr(training, "make_work", lambda *arguments: arguments[-1])
    _, _, chosen, _ = training.make_inference((n_in, 10), (0,), np.dtype(np.float32), 64, True)
    assert chosen is sparse


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_trains():
    program = """
import os, numpy as np
from fastmlp.kernels import cpu
cpu.warm_up("float32")
def train():
    parameters = np.linspace(-0.1, 0.1, 41 * 32 + 33 * 5).astype(np.float32)
    state = cpu.prepare(parameters, (40, 32, 5), (1, 0), dropout=(0.0, 0.0), loss=0, rule=0, hyper=(0, 0, 0, 0.0),
                        l2=0.0, batch_size=64, scale=1.0, seed=1, n_threads=2)
    x = np.random.default_rng(0).normal(size=(500, 40)).astype(np.float32)
    cpu.train_epoch(state, x, np.arange(500) % 5, np.empty((0, 0), np.float32), np.empty(0, np.float32),
                    np.arange(500), np.full(8, 1e-2))
    cpu.read_parameters(state, parameters)
    return parameters.tobytes()
parent = train()
child = os.fork()
if child == 0:
    os._exit(0 if train() == parent else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", program], timeout=PATIENCE).returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_ends_a_long_run(rng):
    """An interrupt of a run of minutes ends it between two steps; how soon is measured in bench/."""
    x = rng.normal(size=(20_000, 784)).astype(np.float32)
    parameters = (rng.normal(size=785 * 500 + 501 * 10) * 0.01).astype(np.float32)
    state = cpu.prepare(parameters, (784, 500, 10), (1, 0), dropout=(0.0, 0.0), loss=0, rule=0, hyper=(0, 0, 0, 0.0),
                        l2=0.0, batch_size=256, scale=1.0, seed=1, n_threads=2)
    order = np.tile(np.arange(20_000), 100)
    cpu.warm_up("float32")                                     # compiling is not what is interrupted here

    def press_once_it_runs():
        while not state.step:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press_once_it_runs).start()
    with pytest.raises(KeyboardInterrupt):
        cpu.train_epoch(state, x, np.zeros(20_000, np.int64), np.empty((0, 0), np.float32), np.empty(0, np.float32),
                        order, np.full(-(-order.size // 256), 1e-4))
    assert 0 < state.step < order.size // 256
