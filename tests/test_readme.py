"""The README keeps its word: its Python runs, its commands are those of .ci/run, its links lead somewhere."""
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.M | re.S)


def test_python_blocks_run(tmp_path, monkeypatch):
    """In order, in one namespace, as a reader would paste them."""
    monkeypatch.chdir(tmp_path)
    names = {}
    for number, block in enumerate(blocks("python"), 1):
        exec(compile(block, f"README.md, Python block {number}", "exec"), names)
    assert names["model"].evaluate(names["X_test"], names["y_test"])["accuracy"] > 0.96
    assert names["unit"].predict(names["X"]).tolist() == names["y"]


def test_ci_runs_exactly_these_commands():
    """.ci/run starts with the README's lines as they stand; pytest's output is also kept in a file."""
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert len(commands) == 2
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [re.sub(r"( \| tee \S+)? \|\| exit$", "", line) for line in run if line.startswith("pip ")] == commands


def test_files_it_names_exist():
    named = re.findall(r"\]\(((?!http)[^)]+)\)", README) + re.findall(r"`((?:fastmlp|kernels|bench)/[\w/.]*)`", README)
    assert len(named) >= 8
    for name in named:
        assert (ROOT / name).exists(), name
