"""`pytest --benchmark` runs bench/ and nothing else, and pytest-benchmark's own options keep working."""
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
QUICK = ("--benchmark-max-time=0.01", "--benchmark-min-rounds=1", "--benchmark-warmup=off")


@pytest.fixture
def project(tmp_path):
    """A miniature of this repository: our conftest.py and pytest options, a test and three benchmarks."""
    for name in ("conftest.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for folder, file, names in (
        ("tests", "test_a.py", ["test_a()"]),
        ("bench", "bench_kernels.py", ["test_dense(benchmark)", "test_update(benchmark)"]),
        ("bench", "bench_training.py", ["bench_lab(benchmark)"]),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        bodies = [f"def {name}: {'benchmark(int)' if 'benchmark' in name else 'pass'}\n" for name in names]
        (tmp_path / folder / file).write_text("".join(bodies))
    return tmp_path


def run(project, *options):
    """(exit code, sorted names of what ran, output) of pytest in the miniature."""
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *options]
    result = subprocess.run(command, cwd=project, text=True, capture_output=True)
    ran = [line.split("::")[1].split()[0] for line in result.stdout.splitlines() if " PASSED" in line]
    return result.returncode, sorted(ran), result.stdout + result.stderr


@pytest.mark.parametrize(("options", "expected"), [
    ((), ["test_a"]),
    (("--benchmark", *QUICK), ["bench_lab", "test_dense", "test_update"]),
    (("--benchmark", "-k", "dense", *QUICK), ["test_dense"]),
    (("--benchmark", "bench/bench_kernels.py", *QUICK), ["test_dense", "test_update"]),
    (("--benchmark", "bench/bench_kernels.py::test_update", *QUICK), ["test_update"]),
])
def test_collects(project, options, expected):
    code, ran, output = run(project, *options)
    assert (code, ran) == (0, expected), output


def test_bench_alone_collects_nothing(project):
    assert run(project, "bench")[:2] == (pytest.ExitCode.NO_TESTS_COLLECTED, [])


def test_options_of_pytest_benchmark(project):
    code, ran, output = run(project, "--benchmark", "--benchmark-autosave", "--benchmark-json=out.json", *QUICK)
    assert (code, len(ran)) == (0, 3), output
    assert (project / "out.json").stat().st_size > 0
    assert list((project / ".benchmarks").rglob("0001_*.json"))
    code, ran, output = run(project, "--benchmark", "--benchmark-compare", "--benchmark-cprofile=tottime", *QUICK)
    assert (code, len(ran)) == (0, 3), output
    assert "Comparing against benchmarks from" in output
    assert "tottime" in output


def test_our_benchmarks_are_collected():
    command = [sys.executable, "-m", "pytest", "--benchmark", "--collect-only", "-q", "-p", "no:cacheprovider"]
    result = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    assert result.returncode == 0, result.stdout + result.stderr
    files = set(re.findall(r"^(\S+\.py)::", result.stdout, re.M))
    assert files == {f"bench/{path.name}" for path in (ROOT / "bench").glob("bench_*.py")}
