"""What every bench asks for: workers, threads to compare, peers; and a summary of the peers that are missing."""
import pytest

from .machine import cores, describe, versions
from .training import PEERS, missing
from .worker import Here, PeerError, Worker, Workers

COLUMNS = "median, min, stddev, rounds"


def pytest_configure(config):
    # The columns that say something here, unless the user chose others.
    chosen = any("benchmark-columns" in argument for argument in config.invocation_params.args)
    if config.getoption("benchmark", False) and not chosen:
        config.option.benchmark_columns = [column.strip() for column in COLUMNS.split(",")]


def pytest_benchmark_update_machine_info(config, machine_info):
    machine_info.clear()
    machine_info.update(describe(), versions=versions())


@pytest.fixture(scope="session")
def workers(request):
    """`workers.open(name, threads, task, *arguments)`; the same task is opened once."""
    # Under a profiler everything runs in this process.
    found = Workers(Here if request.config.getoption("benchmark_cprofile") else Worker)
    yield found
    found.close()


@pytest.fixture
def open_peer(workers):
    """As workers.open, but a peer that is missing or does not run is skipped, by name and reason."""
    def opened(name, threads, task, *arguments):
        skip_if_missing(name)
        try:
            return workers.open(name, threads, task, *arguments)
        except PeerError as error:
            return refuse(name, str(error))
    return opened


def skip_if_missing(name):
    if missing(name):
        pytest.skip(f"{name}: not installed ({', '.join(missing(name))})")


def refuse(name, error):
    """A peer that does not run is named and skipped; ours and the baseline must run."""
    if name.startswith(("fastmlp", "NumPy")):
        raise PeerError(error)
    pytest.skip(f"{name} does not run here: {(error.strip().splitlines() or ['no message'])[-1]}")


def thread_counts():
    """1 and all."""
    return sorted({1, cores()})


def name_of(value):
    """The id of a parameter."""
    return str(getattr(value, "name", value)).replace(" ", "_")


def pytest_terminal_summary(terminalreporter, config):
    if not config.getoption("benchmark", False):
        return
    absent = {name: missing(name) for name in PEERS if missing(name)}
    terminalreporter.write_sep("-", "peers")
    terminalreporter.write_line("missing: " + ("; ".join(f"{name} (pip install {' '.join(packages)})"
                                               for name, packages in absent.items()) or "none"))
