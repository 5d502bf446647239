"""Compiled CUDA kernels on disk: filled by one process, found by the next; damage and edits cost time alone."""
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

REQUIRED = os.environ.get("FASTMLP_REQUIRE_CUDA") == "1"
if not REQUIRED:
    for module in ("numba_cuda", "nvidia", "cuda.bindings.nvjitlink"):
        pytest.importorskip(module, reason="needs pip install 'fastmlp[cuda-compile]'")

import cuda_compiler  # noqa: E402
from numba.cuda import codegen, dispatcher  # noqa: E402

from fastmlp.kernels.cuda import disk_cache  # noqa: E402


@pytest.fixture
def no_gpu(monkeypatch, tmp_path):
    stand_in(monkeypatch.setattr)
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path))
    return tmp_path


def stand_in(put):
    """What compiling asks a GPU for, answered; nothing is loaded onto one, but the code for it is made."""
    device = SimpleNamespace(compute_capability=(9, 0), id=0)
    put(dispatcher, "get_current_device", lambda: device)
    put(codegen.JITCUDACodegen, "magic_tuple", lambda self: ((13, 0), (9, 0)))
    put(codegen.CUDACodeLibrary, "_ensure_cc", lambda self, cc: cc or (9, 0))
    put(dispatcher._Kernel, "bind", lambda self: self._codelibrary._cubin_cache.setdefault((9, 0), b"machine code"))


def fresh(name="sum_weights"):
    """A kernel that no dispatcher has compiled yet, and the types of its arguments."""
    entry = next(entry for entry in cuda_compiler.entries() if entry.name == name)
    kernel = dispatcher.CUDADispatcher(entry.kernel.py_func, targetoptions=entry.kernel.targetoptions)
    disk_cache.keep(kernel)
    return kernel, entry.signature().args


def compiled(kernel, types):
    """(what was compiled, how often it was not found on disk)"""
    found = kernel.compile(types)
    return found, sum(kernel._cache_misses.values())


def test_found_the_second_time(no_gpu):
    first, misses = compiled(*fresh())
    assert misses == 1
    again, misses = compiled(*fresh())
    assert misses == 0
    assert again.entry_name == first.entry_name
    assert again._codelibrary._cubin_cache == first._codelibrary._cubin_cache == {(9, 0): b"machine code"}
    assert [path.suffix for path in no_gpu.rglob("*.*")] == [".kernel"]


def test_a_damaged_file_and_a_folder_that_cannot_be_written(no_gpu, caplog, monkeypatch):
    compiled(*fresh())
    file, = no_gpu.rglob("*.kernel")
    file.write_bytes(file.read_bytes()[:100])
    assert compiled(*fresh())[1] == 1
    assert "cannot be read" in caplog.text
    assert compiled(*fresh())[1] == 0
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(file))         # a file in the folder's place
    assert compiled(*fresh())[1] == 1
    assert "cannot be kept" in caplog.text


def test_what_the_name_depends_on(no_gpu, monkeypatch):
    """Sources, GPU, types, and the functions that a kernel closes over: TF32 and bfloat16 differ in nothing else."""
    kernel, types = fresh()
    name = kernel._cache.path(types)
    assert kernel._cache.path(types[::-1]) != name
    monkeypatch.setattr(disk_cache, "source_stamp", lambda: "other sources")
    assert kernel._cache.path(types) != name
    monkeypatch.undo()
    stand_in(monkeypatch.setattr)
    monkeypatch.setattr(codegen.JITCUDACodegen, "magic_tuple", lambda self: ((13, 0), (8, 0)))
    assert kernel._cache.path(types).name != name.name
    names = {fresh(f"forward_{tile}")[0]._cache.path(types).name
             for tile in ("small", "large", "small_tf32", "small_bf16", "large_bf16")}
    assert len(names) == 5


def test_every_kernel_has_a_file_of_its_own(no_gpu):
    names = set()
    for entry in cuda_compiler.entries():
        disk_cache.keep(kernel := dispatcher.CUDADispatcher(entry.kernel.py_func, entry.kernel.targetoptions))
        names.add(kernel._cache.path(entry.signature().args).name)
    assert len(names) == len(list(cuda_compiler.entries()))


def test_another_process_finds_them_all(no_gpu):
    """Every file has the same name there, whatever the hash seed; closures, options, inline PTX and all."""
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import test_cuda_disk_cache as t
t.stand_in(setattr)
for entry in t.cuda_compiler.entries():
    kernel = t.dispatcher.CUDADispatcher(entry.kernel.py_func, entry.kernel.targetoptions)
    t.disk_cache.keep(kernel)
    print(entry, kernel._cache.path(entry.signature().args))
kernel, types = t.fresh("split_gradient_small_tf32")
print(*t.compiled(kernel, types)[1:], file=sys.stderr)
"""
    runs = [subprocess.run([sys.executable, "-c", code, Path(__file__).parent], capture_output=True, text=True,
                           env=os.environ | {"PYTHONHASHSEED": seed}) for seed in ("1", "2")]
    assert [run.returncode for run in runs] == [0, 0], runs[1].stderr
    first, second = (run.stdout.splitlines() for run in runs)
    assert [line for line, other in zip(first, second, strict=True) if line != other] == []
    assert len(first) == len(list(cuda_compiler.entries()))
    assert [run.stderr.split()[-1] for run in runs] == ["1", "0"]          # compiled once, with tensor cores
    assert len(list(no_gpu.rglob("*.kernel"))) == 1


def test_what_cannot_be_described_is_not_kept(no_gpu, caplog):
    """An object that prints its address would leave a file in every process that nobody finds again."""
    with pytest.raises(TypeError, match="cannot be described"):
        disk_cache.description((1, object()))
    assert disk_cache.description((math.tanh, np.float32, 1.5, frozenset({"b", "a"}))) == (
        "(math.tanh, type float32, float 1.5, {str 'a', str 'b'})")

    def calls_itself(n):
        return calls_itself(n)

    assert "calls_itself" in disk_cache.description(calls_itself)


def test_old_files_are_removed(no_gpu):
    """Those of sources that no process has used for a month."""
    old, recent = no_gpu / "cuda" / "of_older_sources", no_gpu / "cuda" / "of_other_sources"
    for folder, days in ((old, 31), (recent, 29)):
        folder.mkdir(parents=True)
        (folder / "some.kernel").write_bytes(b"")
        os.utime(folder, (time.time() - days * 86400,) * 2)
    compiled(*fresh())
    assert not old.exists()
    assert len(list(no_gpu.rglob("*.kernel"))) == 2
    used, = (folder for folder in (no_gpu / "cuda").iterdir() if folder != recent)
    os.utime(used, (0, 0))
    disk_cache.mark_used.cache_clear()
    assert compiled(*fresh())[1] == 0                          # found: in use from now on
    assert time.time() - used.stat().st_mtime < 60
