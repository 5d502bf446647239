"""`pytest` runs the tests in tests/; `pytest --benchmark` runs the benchmarks in bench/ and nothing else.

`pytest --long` runs the same tests with more of what is random: attacks, kills, interrupts, corruptions, soaking
(tests/README.md has the commands and how long they take).
"""
from pathlib import Path

import pytest

BENCH = Path(__file__).parent / "bench"


def pytest_addoption(parser):
    parser.addoption("--benchmark", action="store_true", help="run the benchmarks in bench/ instead of the tests")
    parser.addoption("--long", action="store_true", help="make many more of the random attacks (tests/README.md)")


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path, parent):
    collectors = yield
    return collectors if (BENCH in file_path.parents) == parent.config.getoption("benchmark") else []
