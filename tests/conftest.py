"""Fixtures of every test: seeded random numbers and the kernel packages."""
import importlib
import signal
import zlib

import numpy as np
import pytest

PACKAGES = ("reference", "cpu")


def pytest_make_parametrize_id(val):
    return str(np.dtype(val)) if isinstance(val, type) and issubclass(val, np.generic) else None


@pytest.fixture(scope="session", autouse=True)
def _interrupts_arrive():
    """A shell that runs the tests in the background has them ignore Ctrl-C, and their children too: the tests of
    interrupts would wait for ever."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(params=PACKAGES)
def package(request):
    """A test that asks for `package` runs once with each: all export the same names with the same meaning."""
    return importlib.import_module(f"fastmlp.kernels.{request.param}")


@pytest.fixture(scope="session")
def long(request):
    """Whether `--long` was given: tests of random attacks then make many more of them."""
    return request.config.getoption("long")


@pytest.fixture
def rng(request):
    """Random numbers that depend on the test's name alone; pytest shows the seed when the test fails."""
    seed = zlib.crc32(request.node.nodeid.encode())
    print(f"numpy.random.default_rng({seed})")
    return np.random.default_rng(seed)
