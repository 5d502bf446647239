"""Many threads and processes at once, beside other libraries' threads, on few cores: the same bits, no crash."""
import concurrent.futures
import hashlib
import http.server
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from toy import PATIENCE, blobs

import fastmlp
from fastmlp.kernels.cpu import threads

TESTS = Path(__file__).parent
X, Y = blobs(600, features=30)
OPTIONS = {"hidden": (64, 32), "epochs": 2, "batch_size": 128, "seed": 0, "device": "cpu", "n_threads": 2}


def work(_=None):
    """A net trained and asked, as bytes."""
    model = fastmlp.train(X, Y, dropout=0.2, **OPTIONS)
    return model.parameters.tobytes() + model.predict_proba(X).tobytes()


def digest(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(scope="module")
def alone():
    return work()


@pytest.mark.parametrize("count", [2, 8])
def test_python_threads(count, alone):
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        assert list(pool.map(work, range(count * 2), timeout=PATIENCE)) == [alone] * count * 2


START = ["fork", "forkserver", "spawn"] if sys.platform != "win32" else ["spawn"]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork beside threads is what is tried here
@pytest.mark.parametrize("method", START)
def test_child_processes_after_use(method, alone):
    """The parent has trained: its kernels are loaded, and threads of its own may live."""
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        assert list(pool.map(work, range(3), timeout=PATIENCE)) == [alone] * 3
    assert work() == alone


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_before_use_and_while_another_thread_trains():
    program = """
import os, threading, test_processes as t
first = os.fork()                       # nothing is loaded yet
if first == 0:
    os._exit(len(t.work()) == 0)
t.work()                                # compiled and loaded: to fork while Python imports is nobody's business
trainer = threading.Thread(target=lambda: [t.work() for _ in range(20)])
trainer.start()
second = os.fork()                      # a thread of the parent is in the middle of training
if second == 0:
    os._exit(len(t.work()) == 0)
trainer.join()
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in (first, second)])
"""
    child = subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=TESTS, capture_output=True, text=True,
                           timeout=PATIENCE)
    assert child.stdout == "[0, 0]\n", child.stderr


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_joblib(backend, alone):
    joblib = pytest.importorskip("joblib", reason="joblib is not installed")
    assert joblib.Parallel(2, backend=backend)(joblib.delayed(work)(i) for i in range(4)) == [alone] * 4


def test_a_web_server(alone):
    """Sixteen requests at once, a thread each, on one model."""
    model = fastmlp.train(X, Y, **OPTIONS)
    expected = model.predict_proba(X).tolist()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            row = int(self.path[1:])
            body = json.dumps(model.predict_proba(X[row:row + 50]).tolist()).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def ask(row):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return json.loads(opener.open(f"http://127.0.0.1:{server.server_port}/{row}", timeout=PATIENCE).read())

    try:
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            for row, answer in zip(range(0, 480, 30), pool.map(ask, range(0, 480, 30)), strict=True):
                np.testing.assert_array_equal(answer, expected[row:row + 50])
    finally:
        server.shutdown()
        server.server_close()


def test_beside_the_openmp_of_scikit_learn(alone):
    ensemble = pytest.importorskip("sklearn.ensemble", reason="scikit-learn is not installed")
    trees = ensemble.HistGradientBoostingClassifier(max_iter=3)
    expected = trees.fit(X, Y).predict(X)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        ours = [pool.submit(work) for _ in range(4)]
        theirs = [pool.submit(lambda: trees.predict(X)) for _ in range(8)]
        assert [future.result(PATIENCE) for future in ours] == [alone] * 4
        for future in theirs:
            np.testing.assert_array_equal(future.result(PATIENCE), expected)


BESIDE_OTHERS = """
import concurrent.futures, sys
import torch, sklearn.ensemble, test_processes as t          # each brings an OpenMP of its own

def theirs():
    net = torch.nn.Sequential(torch.nn.Linear(30, 256), torch.nn.ReLU(), torch.nn.Linear(256, 3))
    torch.nn.functional.cross_entropy(net(torch.from_numpy(t.X)), torch.from_numpy(t.Y)).backward()
    sklearn.ensemble.HistGradientBoostingClassifier(max_iter=3).fit(t.X, t.Y)

theirs()                                                     # their threads wait, spinning, where ours compile
with concurrent.futures.ThreadPoolExecutor(6) as pool:
    ours = [pool.submit(work) for work in (theirs, t.work) * 3][1::2]
    print(len({future.result() for future in ours}), t.digest(ours[0].result()))
"""


def test_beside_torch_and_scikit_learn(alone, tmp_path, long):
    """With --long the cache of kernels is empty: they are compiled while the others' threads are at work."""
    pytest.importorskip("sklearn.ensemble", reason="scikit-learn is not installed")
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
    cache = {"FASTMLP_CACHE_DIR": str(tmp_path)} if long else {}
    assert in_a_child(BESIDE_OTHERS, **cache) == f"1 {digest(alone)}"


# ---------------------------------------------------------------------------------------------- few cores, many threads
def in_a_child(program, **environment):
    child = subprocess.run([sys.executable, "-c", program], cwd=TESTS, capture_output=True, text=True, timeout=PATIENCE,
                           env={**os.environ, **environment})
    assert child.returncode == 0, child.stderr
    return child.stdout.strip()


DIGEST = "import test_processes as t; print(t.digest(t.work())); "
CORES = "from fastmlp.kernels.cpu import threads; print(threads.available_cores())"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs affinities")
def test_one_core():
    """As in a container or under taskset: two threads take turns on one core, and none is chosen on its own."""
    core = min(os.sched_getaffinity(0))
    printed = in_a_child(f"import os; os.sched_setaffinity(0, {{{core}}}); {DIGEST}{CORES}").split()
    assert printed == [in_a_child(DIGEST), "1"]


def test_more_threads_than_cores(alone):
    model = fastmlp.train(X, Y, dropout=0.2, **OPTIONS | {"n_threads": 4 * (os.cpu_count() or 1) + 3})
    assert model.parameters.tobytes() + model.predict_proba(X).tobytes() == alone


@pytest.mark.parametrize("name", ["FASTMLP_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"])
def test_limits_of_the_environment(name, monkeypatch):
    """Each caps the threads that are chosen where n_threads is not given."""
    monkeypatch.setenv(name, "1")
    assert threads.available_cores() == 1
    assert threads.choose_threads(None, 1e12) == 1


def test_limits_of_threadpoolctl(alone):
    """They are for the pools of BLAS and OpenMP. The CPU kernels have neither: n_threads is their limit."""
    from threadpoolctl import threadpool_limits
    before = threads.available_cores()
    with threadpool_limits(1):
        assert threads.available_cores() == before
        assert work() == alone
