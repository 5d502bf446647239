"""The gradients' way over GPUs, with threads for ranks and stand-ins for CuPy, NCCL and the GPUs: no GPU is needed, and
what a real NCCL does is not tested."""
import contextlib
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from toy import PATIENCE

from fastmlp import device as devices
from fastmlp.distributed import collectives

RANKS = 3
ARRAYS = {}                      # by address


class Board:
    """Where the ranks of a test meet: each leaves something and sees what all have left."""

    def __init__(self):
        self._barrier, self._left = threading.Barrier(RANKS, timeout=PATIENCE), {}

    def exchange(self, rank, value):
        self._left[rank] = value
        self._barrier.wait()
        everything = [self._left[each] for each in range(RANKS)]
        self._barrier.wait()
        return everything


class Comm:
    """As much of an MPI communicator as `collectives` asks for."""

    def __init__(self, board, rank):
        self._board, self._rank = board, rank

    def Get_rank(self):
        return self._rank

    def Get_size(self):
        return RANKS

    def bcast(self, value):
        return self._board.exchange(self._rank, value)[0]


class Memory:
    """A CuPy array's place: `ptr` finds the NumPy array that stands for it."""

    def __init__(self, values):
        self.values, self.dtype, self.size = values, values.dtype, values.size
        self.data = SimpleNamespace(ptr=id(self))
        ARRAYS[id(self)] = values


class Machine:
    """`kernels.cuda.machine.Gpu`: its stream, and whether it is current."""

    def __init__(self, number):
        self.stream, self.active = SimpleNamespace(ptr=1000 + number), False

    @contextlib.contextmanager
    def current(self):
        self.active = True
        yield
        self.active = False


def fake_nccl(board):
    """cupy.cuda.nccl, which sums in the order of ranks."""
    made, calls = [], []

    class NcclCommunicator:
        def __init__(self, size, identity, rank):
            assert (size, identity) == (RANKS, ("identity", 1))
            self._rank = rank

        def allReduce(self, source, target, count, dtype, operation, stream):
            calls.append((self._rank, count, dtype, operation, stream))
            parts = board.exchange(self._rank, ARRAYS[source][:count].copy())
            ARRAYS[target][:count] = sum(parts)

    def get_unique_id():
        made.append(1)
        return "identity", len(made)

    return SimpleNamespace(available=True, NCCL_FLOAT32=7, NCCL_FLOAT64=8, NCCL_SUM=0, get_unique_id=get_unique_id,
                           NcclCommunicator=NcclCommunicator, calls=calls)


@pytest.mark.parametrize(("dtype", "code"), [(np.float32, 7), (np.float64, 8)])
def test_gradients_are_summed_on_each_ranks_gpu_and_stream(monkeypatch, dtype, code):
    board = Board()
    nccl = fake_nccl(board)
    monkeypatch.setattr(collectives, "nccl", lambda: nccl)

    def rank(number):
        machine = Machine(number)
        add = collectives.gradient_sum(Comm(board, number), SimpleNamespace(machine=machine))
        ends = []
        for step in range(2):
            gradients = Memory(np.full(5, 10.0 ** number * (step + 1), dtype))
            add(gradients)
            ends.append(gradients.values)
        assert not machine.active
        return ends

    with ThreadPoolExecutor(RANKS) as pool:
        for ends in pool.map(rank, range(RANKS)):
            np.testing.assert_array_equal(ends, [np.full(5, 111.0), np.full(5, 222.0)])
    assert sorted(nccl.calls) == sorted([(number, 5, code, 0, 1000 + number) for number in range(RANKS)] * 2)


def test_says_when_cupy_has_no_nccl(monkeypatch):
    for name in ("cupy", "cupy.cuda"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["cupy.cuda"].nccl = SimpleNamespace(available=False)
    with pytest.raises(RuntimeError, match="CuPy has no NCCL"):
        collectives.gradient_sum(None, SimpleNamespace(machine=Machine(0)))


@pytest.fixture
def two_gpus(monkeypatch):
    """The numbers of those on which a kernel was tried."""
    tried = []
    monkeypatch.setattr(devices, "gpus", lambda: (("one", "two"), ""))
    monkeypatch.setattr(devices, "broken", tried.append)
    monkeypatch.delenv("FASTMLP_DEVICE", raising=False)
    return tried


@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_each_rank_has_the_gpu_of_its_number(two_gpus, device):
    assert [devices.of_rank(device, rank, [None, None]) for rank in range(2)] == ["cuda:0", "cuda:1"]
    assert [devices.of_rank(device, rank, ["0,1", "0,1"]) for rank in range(2)] == ["cuda:0", "cuda:1"]
    assert two_gpus == ([0, 1] * 2 if device == "auto" else [])      # its own: no rank takes memory of another's


def test_ranks_take_the_cpu_where_no_kernel_compiles(two_gpus, monkeypatch):
    monkeypatch.setattr(devices, "broken", lambda gpu: "no NVVM")
    assert devices.of_rank("auto", 1, [None, None]) == "cpu"


def test_a_launcher_may_give_each_rank_gpus_of_its_own(two_gpus):
    assert [devices.of_rank("cuda", rank, ["0,1", "2,3", "4"]) for rank in range(3)] == ["cuda:0"] * 3


def test_refuses_to_share_a_gpu(two_gpus):
    with pytest.raises(ValueError, match=r"this machine has 2 for 3 ranks; start fewer ranks on it"):
        devices.of_rank("cuda", 0, [None] * 3)
    with pytest.raises(ValueError, match=r"device='cuda:1' cannot be combined with comm"):
        devices.of_rank("cuda:1", 0, [None])
    assert devices.of_rank("cpu", 0, [None] * 3) == "cpu"
