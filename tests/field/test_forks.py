"""os.fork at any moment: in a callback, while another thread trains, imports or compiles."""
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from toy import PATIENCE

import fastmlp

pytestmark = [pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork"),
              pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")]

X = np.random.default_rng(0).standard_normal((600, 100)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 5, 600)
OPTIONS = {"hidden": (200,), "epochs": 3, "seed": 0, "device": "cpu"}


def ended(child, seconds=PATIENCE):
    """The child's exit code."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return "hangs"


@pytest.mark.parametrize("n_threads", [1, 2, None])
def test_fork_in_a_callback(n_threads):
    """The child goes on training, without the threads of its parent."""
    right = fastmlp.train(X, Y, **OPTIONS, n_threads=n_threads).parameters
    children = []

    def fork(model, numbers):
        if numbers["epoch"] == 1 and not children:
            children.append(os.fork())

    model = fastmlp.train(X, Y, **OPTIONS, n_threads=n_threads, callbacks=fork)
    same = (model.parameters == right).all()
    if children[0] == 0:
        os._exit(0 if same else 3)
    assert same
    assert ended(children[0]) == 0


WHILE_ANOTHER = """
import os, sys, threading, time
sys.path[:0] = sys.argv[2:]
import test_forks as t

def train():
    return t.fastmlp.train(t.X, t.Y, **t.OPTIONS, n_threads=2).parameters

other = threading.Thread(target=train)
other.start()
time.sleep(float(sys.argv[1]))
child = os.fork()
if child == 0:
    parameters = train()
    os._exit(0 if t.np.isfinite(parameters).all() else 3)
print(t.ended(child))
other.join()
"""
HERE = Path(__file__).parent


def while_another(moment, **environment):
    child = subprocess.run([sys.executable, "-W", "ignore", "-c", WHILE_ANOTHER, str(moment), HERE, HERE.parent],
                           capture_output=True, text=True, timeout=2 * PATIENCE, env={**os.environ, **environment})
    assert child.stdout == "0\n", (moment, child.stderr)


def test_fork_while_another_thread_imports_and_loads(long):
    """A lock that the other thread held is held for ever in the child."""
    fastmlp.train(X, Y, **OPTIONS, n_threads=2)                         # compiles
    moments = np.linspace(0.0, 1.2, 50 if long else 6)
    for moment in moments:
        while_another(moment)
    print(f"\n{len(moments)} forks: {len(moments)} children trained on")


def test_fork_while_another_thread_compiles(tmp_path):
    code = """
import os, sys, threading, time
sys.path[:0] = sys.argv[1:]
import test_forks as t
from fuzzing import machine_code as m

other = threading.Thread(target=lambda: [function(m.ONE) for function in m.functions()])
other.start()
children = []
for _ in range(4):
    time.sleep(0.3)
    child = os.fork()
    if child == 0:
        os._exit(int(m.functions()[3](m.ONE)))
    children.append(child)
print(*[t.ended(child) for child in children])
other.join()
"""
    child = subprocess.run([sys.executable, "-W", "ignore", "-c", code, HERE, HERE.parent], capture_output=True,
                           text=True, timeout=PATIENCE, env={**os.environ, "FASTMLP_CACHE_DIR": str(tmp_path)})
    assert child.stdout == "4 4 4 4\n", child.stderr
