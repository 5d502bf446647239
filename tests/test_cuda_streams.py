"""The CUDA operations' operands and streams, in the simulator: what is refused, what waits, and for whom."""
import contextlib
import copy
import inspect
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from fastmlp.kernels import reference

pytest.importorskip("greenlet", reason="the simulator needs greenlet: pip install 'fastmlp[test]'")
from simulator import CALLS, DeviceArray, Stream, part, simulated
from test_operands import BACKWARD, BATCH, DENSE, DROPOUT, GATHER, ONLINE, POINTWISE, REFUSED, SIGMOID, UPDATE, XENT

OPERATIONS = {"dense_forward": DENSE, "dense_backward": BACKWARD, "softmax_cross_entropy": XENT,
              "sigmoid_cross_entropy": SIGMOID, "squared_error": SIGMOID, "pointwise_loss": POINTWISE, "gather": GATHER,
              "dropout": DROPOUT, "update": UPDATE, "perceptron_online": ONLINE, "perceptron_batch": BATCH}
NUMBERS = {"softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error", "pointwise_loss", "perceptron_online",
           "perceptron_batch"}
# Where the CPU says the same in other words.
WORDS = {"dz may be dy, but": "it may be dy, but", "needs z, targets": "needs z .*, targets"}
each = pytest.mark.parametrize("name", OPERATIONS)


class GpuArray:
    """An array as CuPy shows it to others; its own stream is number 3."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    @property
    def __cuda_array_interface__(self):
        return {**self.array.__array_interface__, "stream": 3}


def on_gpu(arguments):
    return {name: GpuArray(value) if isinstance(value, np.ndarray) and name != "hyper" else value
            for name, value in arguments.items()}


@pytest.mark.parametrize("place", [dict, on_gpu])
@pytest.mark.parametrize(("name", "arguments", "change", "message"), [row for row in REFUSED if row[0] != "forward"],
                         ids=[f"{row[0]}-{'-'.join(row[2])}-{i}" for i, row in enumerate(REFUSED)
                              if row[0] != "forward"])
def test_refused(name, arguments, change, message, place):
    """As on the CPU, and before a kernel runs; only of indices on the GPU a kernel has to say what they are."""
    CALLS.clear()
    arguments = place(arguments | change)
    if name == "gather" and place is on_gpu and message.startswith("rows must lie"):
        return                                               # the caller's to know
    with pytest.raises((ValueError, TypeError), match=f"{name}: .*{WORDS.get(message, message)}"):
        getattr(simulated, name)(*arguments.values())
    assert len([call for call, _ in CALLS if call == "launch"]) == (place is on_gpu and "labels must lie" in message)


@each
def test_same_arguments_as_the_reference_and_a_stream(name):
    ours = inspect.signature(getattr(simulated, name)).parameters
    assert list(ours) == [*inspect.signature(getattr(reference, name)).parameters, "stream"]
    assert ours["stream"].kind is inspect.Parameter.KEYWORD_ONLY


@each
@pytest.mark.parametrize("stream", ["default", 1.5, True, SimpleNamespace(ptr=5)])
def test_no_stream(name, stream):
    CALLS.clear()
    with pytest.raises(TypeError, match="stream must be None, a stream of CuPy's, PyTorch's or Numba's, or the add"):
        getattr(simulated, name)(*copy.deepcopy(OPERATIONS[name]).values(), stream=stream)
    assert not CALLS
    with pytest.raises(ValueError, match="at least 0"):
        getattr(simulated, name)(*copy.deepcopy(OPERATIONS[name]).values(), stream=-1)


@each
def test_everything_happens_on_the_stream(name):
    """Only numbers are waited for, and only on the stream; without one, arrays' own streams are waited for."""
    operation, arguments = getattr(simulated, name), copy.deepcopy(OPERATIONS[name])
    expected = copy.deepcopy(arguments)
    number = operation(*on_gpu(expected).values())           # constants are in place now, too
    assert ("synchronize", Stream(3)) in CALLS
    CALLS.clear()
    result = operation(*on_gpu(arguments).values(), stream=7)
    assert {stream for _, stream in CALLS} == {Stream(7)}
    assert any(call == "launch" for call, _ in CALLS)
    assert any(call == "synchronize" for call, _ in CALLS) == (name in NUMBERS)
    assert result == number or name not in NUMBERS
    for ours, theirs in zip(arguments.values(), expected.values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("stream", [
    SimpleNamespace(ptr=9, synchronize=None), SimpleNamespace(cuda_stream=9), np.int64(9),
    type("Numba", (), {"__cuda_stream__": lambda self: (0, 9)})()], ids=["cupy", "torch", "address", "protocol"])
def test_streams_of_every_kind(stream):
    arguments = on_gpu(copy.deepcopy(DENSE))
    simulated.dense_forward(*arguments.values())
    CALLS.clear()
    simulated.dense_forward(*arguments.values(), stream=stream)
    assert list(CALLS) == [("launch", Stream(9))]


@each
def test_numpy_arrays_are_waited_for(name):
    CALLS.clear()
    getattr(simulated, name)(*copy.deepcopy(OPERATIONS[name]).values(), stream=7)
    assert CALLS[-1] == ("synchronize", Stream(7))
    assert {stream for _, stream in CALLS} <= {Stream(7), 0, Stream(0)}          # constants, the first time


def test_outputs_that_are_left_out_come_in_kind(monkeypatch):
    """From the stream's own pool where there is one."""
    inside = []

    @contextlib.contextmanager
    def current(stream):
        inside.append(stream)
        yield
        inside.clear()

    class Tensor(GpuArray):
        device = "cuda:0"

        def new_empty(self, shape):
            made.append((list(inside), Tensor(np.full(shape, np.nan, np.float32))))
            return made[-1][1]

    def empty(shape, dtype):
        made.append((list(inside), GpuArray(np.full(shape, np.nan, dtype))))
        return made[-1][1]

    made = []
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(empty=empty))
    monkeypatch.setattr(part("streams"), "cupy_stream", lambda gpu, address: current(address))
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(
        ExternalStream=lambda address, device: address, stream=current)))
    x = np.ones((4, 6), np.float32)
    w, b = GpuArray(np.ones((6, 2), np.float32)), GpuArray(np.ones(2, np.float32))
    for kind in (GpuArray, Tensor):
        for stream, expected in ((None, []), (7, [7])):
            y = simulated.dense_forward(kind(x), w, b, 0, stream=stream)
            assert type(y) is kind
            assert made[-1][0] == expected
            np.testing.assert_array_equal(y.array, 7)
            assert type(simulated.dropout(kind(x), 0.5, 1, 2, 3, stream=stream)) is kind
    assert type(simulated.dense_forward(x.view(DeviceArray), w, b, 0, stream=7)) is DeviceArray


class OwnStream:
    """A stream as CuPy 14 makes it of another's: it destroys the CUDA stream with itself."""

    destroyed = ()

    @classmethod
    def from_external(cls, other):
        stream = cls()
        version, stream.address = other.__cuda_stream__()
        assert version == 0
        return stream

    def __del__(self):
        OwnStream.destroyed += (self.address,)


@pytest.mark.parametrize("version", [13, 14])
def test_a_callers_stream_is_not_destroyed(monkeypatch, version):
    streams = part("streams")
    module = SimpleNamespace(Stream=OwnStream) if version == 14 else SimpleNamespace(
        Stream=object, ExternalStream=lambda address: SimpleNamespace(address=address))
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=module))
    streams.cupy_stream.cache_clear()
    assert streams.cupy_stream(0, 7).address == 7
    assert streams.cupy_stream(0, 7) is streams.cupy_stream(0, 7) is not streams.cupy_stream(1, 7)
    assert OwnStream.destroyed == ()
    monkeypatch.setattr(OwnStream, "__del__", lambda self: None)
    streams.cupy_stream.cache_clear()


def test_constants_stay_where_a_captured_graph_reads_them():
    first = part("streams").constant(1, 2, 3)
    for number in range(1000):
        part("streams").constant(number)
    assert part("streams").constant(1, 2, 3) is first


def test_one_machine_for_a_gpu(monkeypatch):
    """However it is asked for, from whatever thread: one stream, and one lock around it."""
    machine = part("machine")
    class Gpu:
        def __init__(self, index):
            time.sleep(0.01)
            self.index = index

    monkeypatch.setattr(machine, "Gpu", Gpu)
    monkeypatch.setattr(machine, "_GPUS", {})
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=SimpleNamespace(
        Device=lambda: SimpleNamespace(id=1))))
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(machine.gpu, [None, 1] * 8))
    assert all(gpu is found[0] for gpu in found)
    assert machine.gpu() is machine.gpu(1) is not machine.gpu(0)
    assert (machine.gpu().index, machine.gpu(0).index) == (1, 0)
    package = part("training")
    monkeypatch.setattr(package, "gpu", machine.gpu)
    assert package.on() is package.on(1) is package.on(None) is not package.on(0)
    package._on.cache_clear()


def test_strided_memory_is_refused():
    x = GpuArray(np.ones((6, 4), np.float32).T)
    with pytest.raises(ValueError, match="dense_forward: x must be C-contiguous and aligned"):
        simulated.dense_forward(x, *list(DENSE.values())[1:])
    row = GpuArray(np.ones((6, 4), np.float32)[:, :1].T)     # its only stride that counts is that of a column
    with pytest.raises(ValueError, match="C-contiguous"):
        simulated.dense_forward(row, *list(DENSE.values())[1:])
