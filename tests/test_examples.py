"""The examples do what they say, on less data."""
import importlib
from pathlib import Path

import numpy as np
import pytest

import fastmlp

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)              # their cached machine code names their module
    return importlib.import_module


def test_every_example_is_tested():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {"cart_pole", "sparse_softmax", "dense_in_numpy"}


def test_cart_pole(load):
    example = load("cart_pole")
    found = example.main(runs=200, steps=200)
    assert found["linear controller"] > 0.95
    assert found["net"] > 0.95
    idle = fastmlp.MLP((4, 32, 16, 1), ("tanh", "tanh"), "identity").as_njit()
    starts = np.full((50, 4), 0.05)
    assert example.share_upright(idle, example.GAINS, True, starts, 5.0, 200) < 0.5      # it does fall by itself


def test_sparse_softmax(load):
    assert load("sparse_softmax").main(rows=6000, epochs=3) > 0.86


def test_dense_in_numpy(load, capsys):
    example = load("dense_in_numpy")
    assert set(example.main()) == set(example.SHAPES)
    assert capsys.readouterr().out.count("×") == len(example.SHAPES)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_states_no_figure_of_speed(path):
    """What is measured is printed, never written down."""
    assert not any(word in path.read_text(encoding="utf-8") for word in (" times faster", "× faster", " µs on"))
