"""The pages in docs/ keep their word: their Python runs, their links lead somewhere, their pictures are there."""
import re
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
pages = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)


def test_the_pages():
    assert {path.stem for path in PAGES} >= {"lecture", "kernels", "performance", "design", "guarantees"}


@pages
def test_python_blocks_run(path, tmp_path, monkeypatch):
    """In order, in one namespace, as a reader would paste them."""
    monkeypatch.chdir(tmp_path)
    text, names = path.read_text(encoding="utf-8"), {}
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    assert blocks
    assert text.count("```") == 2 * len(re.findall(r"^```\w+(?: gpu)?$", text, re.M)), "a block names no language"
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"{path.name}, Python block {number}", "exec"), names)


@pages
def test_gpu_blocks_run_in_the_simulator(path, monkeypatch):
    """Blocks marked `python gpu`, with simulated CUDA in the places of numba.cuda and of our kernels."""
    blocks = re.findall(r"^```python gpu\n(.*?)^```$", path.read_text(encoding="utf-8"), re.M | re.S)
    if not blocks:
        return
    pytest.importorskip("greenlet", reason="the simulator needs greenlet: pip install 'fastmlp[test]'")
    import fake_cupy
    import numba
    from simulator import CALLS, Cuda, simulated

    monkeypatch.setattr(numba, "cuda", Cuda(), raising=False)
    monkeypatch.setitem(sys.modules, "fastmlp.kernels.cuda", simulated)
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy)
    CALLS.clear()
    names = {"np": np}
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"{path.name}, GPU block {number}", "exec"), names)
    assert any(call == "launch" for call, _ in CALLS)
    assert all(np.isfinite(value.array).all() for value in names.values() if isinstance(value, fake_cupy.ndarray))


@pytest.mark.parametrize("path", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    for name in re.findall(r"\]\(((?!http)[^)#]+)\)", text):
        assert (path.parent / name).exists(), name
    for name in re.findall(r"`((?:fastmlp|kernels|tests|bench|examples)/[\w/.]*\w\.py)`", text):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize(("folder", "page"), [
    ("fastmlp", "docs/design.md"), ("kernels/cuda", "kernels/cuda/__init__.py"), ("bench", "bench/__init__.py"),
    ("tests", "tests/README.md")])
def test_every_module_has_its_place_in_a_list(folder, page):
    """What newcomers read to find a file names every one, but for tests and benches, whose own names tell."""
    named = re.findall(r"`([\w./]+)`", (ROOT / page).read_text(encoding="utf-8"))
    named = {name.removesuffix(".py").rstrip("/") for name in named}
    rooms = [ROOT / folder, *(path for path in (ROOT / folder).iterdir() if folder == "fastmlp" and path.is_dir()
                              and path.name != "estimators")]
    modules = {path.stem for room in rooms for path in room.iterdir()
               if path.suffix == ".py" or list(path.glob("*.py"))}
    left_out = {name for name in modules - named if not name.startswith(("test_", "bench_", "__", "conftest"))}
    assert not left_out, f"{page} does not say what these are: {sorted(left_out)}"


def test_every_picture_is_shown_and_small():
    shown = {name for path in PAGES for name in re.findall(r"\]\(pictures/([\w.]+\.png)\)", path.read_text())}
    assert shown == {path.name for path in (ROOT / "docs/pictures").glob("*.png")}
    for path in (ROOT / "docs/pictures").glob("*.png"):
        assert path.stat().st_size < 100_000, path
