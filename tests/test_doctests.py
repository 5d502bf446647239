"""Every example in a docstring runs and prints what it says."""
import doctest
import importlib
from pathlib import Path

import pytest

import fastmlp

ROOT = Path(__file__).parent.parent


def modules():
    for path in sorted([*(ROOT / "fastmlp").rglob("*.py"), *(ROOT / "kernels").rglob("*.py")]):
        if ">>>" in path.read_text(encoding="utf-8"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = ("fastmlp", *parts) if parts[0] == "kernels" else parts
            yield ".".join(parts).removesuffix(".__init__")


@pytest.mark.parametrize("name", list(modules()))
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # examples may save files
    failures, tried = doctest.testmod(
        importlib.import_module(name), extraglobs={"fastmlp": fastmlp},
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.FAIL_FAST,
    )
    assert tried
    assert failures == 0, "see the captured output"
