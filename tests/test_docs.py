"""The pages in docs/ keep their word: their Python runs, their links lead somewhere, their pictures are there."""
import re
from pathlib import Path

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
    assert text.count("```") == 2 * len(re.findall(r"^```\w+$", text, re.M)), "a block names no language"
    for number, block in enumerate(blocks, 1):
        exec(compile(block, f"{path.name}, Python block {number}", "exec"), names)


@pytest.mark.parametrize("path", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda path: path.stem)
def test_links_lead_somewhere(path):
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    for name in re.findall(r"\]\(((?!http)[^)#]+)\)", text):
        assert (path.parent / name).exists(), name
    for name in re.findall(r"`((?:fastmlp|kernels|tests|bench|examples)/[\w/.]*\w\.py)`", text):
        assert (ROOT / name).exists(), name


def test_every_picture_is_shown_and_small():
    shown = {name for path in PAGES for name in re.findall(r"\]\(pictures/([\w.]+\.png)\)", path.read_text())}
    assert shown == {path.name for path in (ROOT / "docs/pictures").glob("*.png")}
    for path in (ROOT / "docs/pictures").glob("*.png"):
        assert path.stat().st_size < 100_000, path
