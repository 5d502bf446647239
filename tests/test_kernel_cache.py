"""The cache of compiled kernels: found again, never stale, never in the way."""
import concurrent.futures
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from toy import PATIENCE

from fastmlp.kernels.cache import cache_folder
from fastmlp.kernels.cpu import jit

KERNELS = Path(jit.__file__).parents[1]

# Prints a gradient that goes through exp of another file, and what the kernels logged: compilations and complaints.
PROGRAM = """
import logging, sys
import numpy as np
compiled = []
handler = logging.Handler()
handler.emit = lambda record: compiled.append(record.getMessage())
log = logging.getLogger("fastmlp")
log.addHandler(handler)
log.setLevel(logging.INFO)
from kernels import cpu
dz = np.empty((1, 2), np.float32)
loss = cpu.softmax_cross_entropy(np.array([[0, np.log(3)]], np.float32), np.array([1]), np.empty((0, 0), np.float32),
                        np.empty(0, np.float32), dz)
print(round(float(dz[0, 0]), 4), compiled)
"""


@pytest.fixture
def copied(tmp_path):
    shutil.copytree(KERNELS, tmp_path / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def run(folder, cache, program=PROGRAM, **environment):
    child = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True,
                           timeout=PATIENCE,
                           env={**os.environ, "FASTMLP_CACHE_DIR": str(cache), "PYTHONPATH": "", **environment})
    assert child.returncode == 0, child.stderr
    return child.stdout.strip()


def test_an_edited_callee_is_never_met_by_old_machine_code(copied):
    cache = copied / "cache"
    assert run(copied, cache) == "0.25 ['compiling softmax_cross_entropy (first run)']"
    assert run(copied, cache) == "0.25 []"
    # softmax_cross_entropy stands in operation/; what changes is one line of a function it calls in another room.
    callee = copied / "kernels" / "cpu" / "vector" / "vector_math.py"
    source = callee.read_text(encoding="utf-8")
    line = "    return p * floats((half + 127) << 23)"
    edited = source.replace(line, line.replace("p *", "(1.0 + 0.0 * p) *"))
    assert edited != source
    callee.write_text(edited, encoding="utf-8")
    assert run(copied, cache) == "0.2 ['compiling softmax_cross_entropy (first run)']"       # exp(-ln 3) is now 2**-2
    callee.write_text(source, encoding="utf-8")
    assert run(copied, cache) == "0.25 []"                # each version keeps its own code


def test_a_damaged_cache_costs_time_only(copied):
    cache = copied / "cache"
    run(copied, cache)
    for file in cache.rglob("*.nb[ci]"):
        file.write_bytes(b"\x80not a pickle" + file.read_bytes()[:100])
    assert run(copied, cache).startswith("0.25 ['compiled kernels in ")


def test_a_folder_that_cannot_be_made_costs_time_only(copied):
    blocked = copied / "file"
    blocked.write_text("in the way")
    assert run(copied, blocked / "cache").startswith("0.25 [")


def test_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("FASTMLP_CACHE_DIR")
    assert cache_folder().name == "fastmlp"


def test_two_processes_may_compile_at_once(copied):
    cache = copied / "cache"
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        printed = list(pool.map(lambda _: run(copied, cache), range(2)))
    assert [line.startswith("0.25 [") for line in printed] == [True, True]
    assert run(copied, cache) == "0.25 []"


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_full_disk_costs_time_only(copied):
    """No file may grow beyond 4 KiB: what the machine code is written to fails half way."""
    limited = PROGRAM.replace("import logging, sys", "import logging, resource, signal, sys\n"
                              "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
                              "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))")
    cache = copied / "cache"
    # Python's own half-written bytecode would stop the second run before it reaches us.
    printed = run(copied, cache, program=limited, PYTHONDONTWRITEBYTECODE="1")
    assert printed.startswith("0.25 [")
    assert "cannot be kept" in printed
    assert run(copied, cache).startswith("0.25 [")        # what was left behind is no hindrance


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_a_read_only_home_costs_time_only(copied):
    home = copied / "home"
    home.mkdir(mode=0o500)
    assert run(copied, home / "cache").startswith("0.25 [")
