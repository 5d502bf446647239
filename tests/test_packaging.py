"""What is installed, and what is not: the wheel holds fastmlp, its kernels inside it, and MNIST."""
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of the sources, so that nothing is written into the repository."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("fastmlp", "kernels", "tests", "bench"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "conftest.py"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
               "--wheel-dir", str(target), str(source)]
    result = subprocess.run(command, text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
    return next(target.glob("fastmlp-*.whl"))


def test_wheel_holds_every_source_and_nothing_else(wheel):
    files = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    sources = {path.relative_to(ROOT).as_posix() for folder in ("fastmlp", "kernels")
               for path in (ROOT / folder).rglob("*.py")}
    expected = {name if name.startswith("fastmlp/") else f"fastmlp/{name}" for name in sources}
    expected |= {"fastmlp/py.typed", "fastmlp/datasets/mnist.npz", "fastmlp/datasets/MNIST-LICENSE.txt"}
    assert files == expected


def test_wheel_carries_both_licences(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for licence in ("LICENSE", "fastmlp/datasets/MNIST-LICENSE.txt"):
        assert any(name.endswith(f".dist-info/licenses/{licence}") for name in names), names
    assert wheel.stat().st_size < 13e6


def test_installed_wheel_works(wheel, tmp_path):
    """Unpacked somewhere else, it finds its kernels in itself and not in this repository."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
import fastmlp
from fastmlp.kernels import activations, reference
for module in (fastmlp, fastmlp.kernels, activations, reference):
    assert module.__file__.startswith({str(tmp_path)!r}), module
assert fastmlp.datasets.mnist()[0].shape == (60000, 784)
assert fastmlp.__version__ == {wheel.name.split("-")[1]!r}
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
