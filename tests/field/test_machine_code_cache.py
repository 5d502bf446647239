"""The cache of compiled kernels: filled by many processes at once, damaged, another user's, or without a home."""
import logging
import os
import shutil
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from fuzzing import machine_code
from toy import PATIENCE

from fastmlp.kernels import cache

TESTS = Path(__file__).parents[1]
SCRIPT = [sys.executable, TESTS / "fuzzing" / "machine_code.py"]
POSIX = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX users and permissions")


def test_many_processes_that_fill_it_at_once(tmp_path, long):
    """Two processes left the code of one function under the key of another: 25 of 300 saves
    (https://github.com/numba/numba/issues/10486)."""
    processes, rounds = (4, 15) if long else (2, 3)
    start = time.time() + (20 if long else 10)
    children = [subprocess.Popen([*SCRIPT, "save", tmp_path, str(rounds), str(start)]) for _ in range(processes)]
    assert [child.wait(PATIENCE) for child in children] == [0] * processes
    found = subprocess.run([*SCRIPT, "load", tmp_path, str(rounds)], capture_output=True, text=True, timeout=PATIENCE)
    right, wrong, missing = map(int, found.stdout.split())
    print(f"\n{processes * rounds * machine_code.COUNT} simultaneous saves: {right} right, {wrong} wrong, "
          f"{missing} missing")
    assert (right, wrong, missing) == (rounds * machine_code.COUNT, 0, 0), found.stderr


def test_damaged_files(tmp_path, monkeypatch, long, rng, caplog):
    """They gave 2 wrong results and 11 crashes in 60."""
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path))
    for function in machine_code.functions()[:2]:
        function(machine_code.ONE)
    files = sorted(tmp_path.rglob("*.nbc"))
    kept = [file.read_bytes() for file in files]
    tries = 210 if long else 14
    for name, damage in islice(machine_code.damages(rng), tries):
        for file, content in zip(files, kept, strict=True):
            shutil.rmtree(file, ignore_errors=True)
            file.unlink(missing_ok=True)
            file.write_bytes(content)
        damage(files[0], files[1:])
        caplog.clear()
        for number, function in enumerate(machine_code.functions()[:2]):
            assert function(machine_code.ONE) == number + 1, name
        assert "cannot be read" in caplog.text, name
    print(f"\n{tries} damaged files: {tries} compiled again, each said so")


def used(folder, caplog):
    """Whether code is loaded from there, and what is logged."""
    cache._warn.cache_clear()
    caplog.clear()
    function = machine_code.functions()[0]
    assert function(machine_code.ONE) == 1
    return bool(sum(function.stats.cache_hits.values())), caplog.text


@POSIX
def test_only_its_owner_may_read_and_write_it(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path / "cache"))
    assert used(tmp_path, caplog) == (False, "")
    assert used(tmp_path, caplog) == (True, "")
    folder, = (tmp_path / "cache").iterdir()
    file, = folder.iterdir()
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "cache", folder, file)] == [0o700, 0o700, 0o600]


@POSIX
@pytest.mark.parametrize("which", ["the cache", "the folder in it"])
def test_a_folder_that_everybody_may_write_to(which, tmp_path, monkeypatch, caplog):
    """What lies there would be unpickled, and run, whoever put it there."""
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path / "cache"))
    used(tmp_path, caplog)
    folder, = (tmp_path / "cache").iterdir()
    (folder.parent if which == "the cache" else folder).chmod(0o777)
    found, said = used(tmp_path, caplog)
    assert not found
    assert "everybody may write to it" in said
    assert said.count("is not used") == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to give a folder away")
@pytest.mark.parametrize("which", ["folder", "file"])
def test_what_belongs_to_another_user(which, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path / "cache"))
    used(tmp_path, caplog)
    folder, = (tmp_path / "cache").iterdir()
    os.chown(folder if which == "folder" else next(folder.iterdir()), 12345, 12345)
    found, said = used(tmp_path, caplog)
    assert not found
    assert "it belongs to user 12345, not to user 0" in said


@pytest.mark.parametrize("name", ["OPT", "SLP_VECTORIZE", "LOOP_VECTORIZE", "CPU_NAME"])
def test_settings_of_numba_are_part_of_the_key(name, tmp_path):
    """Machine code of NUMBA_OPT=0 was loaded by processes that said nothing of the kind."""
    code = ("import sys; sys.path.insert(0, sys.argv[1]); from fuzzing import machine_code as m; "
            "f = m.functions()[0]; f(m.ONE); print(sum(f.stats.cache_hits.values()))")
    values = {"OPT": "0", "SLP_VECTORIZE": "1", "LOOP_VECTORIZE": "0", "CPU_NAME": "x86-64"}
    hits = []
    for setting in ({}, {f"NUMBA_{name}": values[name]}, {f"NUMBA_{name}": values[name]}, {}):
        environment = {**os.environ, "FASTMLP_CACHE_DIR": str(tmp_path)}
        environment.pop(f"NUMBA_{name}", None)
        child = subprocess.run([sys.executable, "-c", code, TESTS], capture_output=True, text=True, timeout=PATIENCE,
                               env=environment | setting)
        hits.append(child.stdout.strip())
    assert hits == ["0", "0", "1", "1"], child.stderr


def test_no_home_directory(monkeypatch, tmp_path):
    """A user id that nobody knows, HOME unset: containers and batch systems."""
    for name in ("FASTMLP_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)

    def none(*_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", none)
    monkeypatch.setattr(cache.tempfile, "gettempdir", lambda: str(tmp_path))
    assert cache.cache_folder().parent == tmp_path
    assert cache.cache_folder().name.startswith("fastmlp-")

    def nowhere():
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr(cache.tempfile, "gettempdir", nowhere)
    assert cache.cache_folder() is None
    function = machine_code.functions()[0]
    assert function(machine_code.ONE) == 1
    assert not function.is_ready("float64") or function.signatures
    import fastmlp
    assert "no folder" in fastmlp.info()["machine code in"]


@pytest.mark.skipif(not shutil.which("setpriv") or not hasattr(os, "geteuid") or os.geteuid() != 0,
                    reason="needs root and setpriv, to become a user without a name")
def test_a_user_without_a_name_or_a_home(tmp_path):
    code = ("import sys; sys.path.insert(0, sys.argv[1]); from fuzzing import machine_code as m; "
            "print(m.functions()[0](m.ONE))")
    nobody = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]
    for home in ({}, {"HOME": "/"}):
        child = subprocess.run([*nobody, sys.executable, "-c", code, TESTS], capture_output=True, text=True,
                               timeout=PATIENCE,
                               env={"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1", **home})
        if "Permission denied" in child.stderr or "ModuleNotFound" in child.stderr:
            pytest.skip("that user may not read this interpreter or its packages")
        assert child.stdout == "1.0\n", child.stderr
        assert child.stderr == ""


def test_arrays_are_not_found_in_damaged_files(tmp_path, monkeypatch, caplog):
    """`needs_compiling` reads headers only of files that are whole."""
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path))
    caplog.set_level(logging.INFO)
    machine_code.functions()[0](machine_code.ONE)
    assert machine_code.functions()[0].is_ready("float64")
    assert not machine_code.functions()[0].is_ready("float32")
    file, = tmp_path.rglob("*.nbc")
    file.write_bytes(file.read_bytes()[:-1])
    assert not machine_code.functions()[0].is_ready("float64")
    assert np.isfinite(machine_code.functions()[0](machine_code.ONE))
