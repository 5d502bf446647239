"""Large products on CUDA are cuBLAS's: what is handed over, the kernels around it, and how cuBLAS itself is called."""
import ctypes
import dataclasses
import importlib
from types import SimpleNamespace

import cases
import numpy as np
import pytest

from fastmlp.kernels import reference

pytest.importorskip("greenlet", reason="the simulator needs greenlet: pip install 'fastmlp[test]'")
from simulator import DeviceArray, Machine, multiply, part
from test_cuda import PLACES, numbers, package_at
from test_cuda_training import at_most, no_plan, parameters_of, slots_of, tiny_tiles, training_at


@pytest.fixture(params=PLACES)
def place(request, monkeypatch):
    """Every product is cuBLAS's. In the simulator, where a thread is dear, few threads wait for nothing to do."""
    large = part("large") if request.param == "simulator" else importlib.import_module("fastmlp.kernels.cuda.large")
    monkeypatch.setattr(large, "FLOPS", 0)
    monkeypatch.setattr(large, "SIDE", 1)
    if request.param == "simulator":
        monkeypatch.setattr(large, "CLEARING", 1)
        monkeypatch.setattr(large, "THREADS", 64)
    return request.param


def test_what_is_handed_over():
    handed_over = part("large").handed_over
    assert handed_over(4096, 4096, 4096)
    assert handed_over(4096, 784, 500)                         # lab 2 in batches of 4096
    assert not handed_over(256, 784, 500)                      # and of 256
    assert not handed_over(10 ** 6, 4096, 10)                  # ten outputs
    assert handed_over(1000, 1000, 500)
    assert not handed_over(1000, 1000, 499)


@pytest.mark.parametrize(("name", "dtype"), [
    ("rule_adamw", np.float32), ("alpha", np.float64), ("dropout", np.float32), ("hidden_silu", np.float32),
    ("softmax_no_hidden", np.float32)])
def test_trains_as_the_reference(place, name, dtype):
    """Short last batches among others: in the simulator, rows that are not there are NaN at first."""
    package, run = training_at(place), at_most(cases.RUNS[name], place, rows=20, batch_size=8)
    state, oracle = run.prepare(package, dtype), run.prepare(reference, np.float64)
    totals, expected = run.train(package, state, dtype), run.train(reference, oracle, np.float64)
    start, tolerance = run.parameters(np.float64), cases.RUN_TOLERANCE[dtype]
    moved = parameters_of(package, state, run, dtype) - start
    assert cases.error(moved, parameters_of(reference, oracle, run, np.float64) - start) <= tolerance
    slots = zip(slots_of(package, state, run, dtype), slots_of(reference, oracle, run, np.float64), strict=True)
    for ours, theirs in slots:
        assert cases.error(ours, theirs) <= tolerance
    np.testing.assert_allclose(totals[:, 0], expected[:, 0], rtol=tolerance / 10)


class Noting(Machine):
    """Notes the products of a captured step."""

    def capture(self, launches, repeats):
        self.products = [launch for launch in launches if isinstance(launch, part("large").Product)]
        return super().capture(launches, repeats)


def test_only_large_layers(place, monkeypatch):
    """The last layer's products are not cuBLAS's; a replay past the end of an epoch changes nothing."""
    if place == "gpu":
        pytest.skip("counts on the simulator's machine")
    monkeypatch.setattr(part("large"), "FLOPS", 2 * 8 * 33 * 18)
    monkeypatch.setattr(part("training"), "GRAPH_STEPS", 2)
    machine, run = Noting(), at_most(cases.RUNS["dropout"], place, rows=20, batch_size=8)
    run = dataclasses.replace(run, epochs=1)
    package = part("training").Training(machine, tiny_tiles, no_plan)
    state, oracle = run.prepare(package, np.float32), run.prepare(reference, np.float64)
    run.train(package, state, np.float32)
    run.train(reference, oracle, np.float64)
    assert run.sizes == (20, 33, 18, 5)
    assert [product[8:11] for product in machine.products] == [
        (8, 20, 33), (8, 33, 18), (8, 18, 33), (20, 8, 33), (33, 8, 18)]
    assert state.step == 3
    start = run.parameters(np.float64)
    assert cases.error(parameters_of(package, state, run, np.float32) - start,
                       parameters_of(reference, oracle, run, np.float64) - start) <= cases.RUN_TOLERANCE[np.float32]


@pytest.mark.parametrize("rows", [20, 17])
def test_split_along_the_rows(place, monkeypatch, rows):
    """Gradients of few tiles in pieces: whole ones, a short last one, and in the last batch ones without any row."""
    large = part("large") if place == "simulator" else importlib.import_module("fastmlp.kernels.cuda.large")
    monkeypatch.setattr(large, "FLOPS", 1e9)
    monkeypatch.setattr(large, "PIECE", 3)
    package, run = training_at(place), at_most(cases.RUNS["rule_adamw"], place, rows=rows, batch_size=8)
    run = dataclasses.replace(run, rows=rows, batch_size=8)
    state, oracle = run.prepare(package, np.float32), run.prepare(reference, np.float64)
    run.train(package, state, np.float32)
    run.train(reference, oracle, np.float64)
    if place == "simulator":
        names = [launch.kernel.function.__name__ for launch in state.graph[3]]
        assert names[-5:-1] == ["split_gradient", "update"] * 2
    start = run.parameters(np.float64)
    assert cases.error(parameters_of(package, state, run, np.float32) - start,
                       parameters_of(reference, oracle, run, np.float64) - start) <= cases.RUN_TOLERANCE[np.float32]


def test_what_is_split():
    pieces_of = part("large").pieces_of
    assert [pieces_of(batch, 25) for batch in (32, 256, 1000, 1024, 4096)] == [1, 1, 1, 2, 5]     # lab 1, first layer
    assert [pieces_of(batch, 400) for batch in (256, 4096)] == [1, 1]                             # lab 2
    assert pieces_of(4096, 16) == 8                                                               # its last layer


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_precision_is_passed_on(place, precision):
    package, run = training_at(place), at_most(cases.RUNS["rule_sgd"], place, rows=20, batch_size=8)

    class Precise:
        prepare = staticmethod(lambda *args, **options: package.prepare(*args, **options, precision=precision))

    state, oracle = run.prepare(Precise, np.float32), run.prepare(reference, np.float64)
    run.train(package, state, np.float32)
    run.train(reference, oracle, np.float64)
    start = run.parameters(np.float64)
    error = cases.error(parameters_of(package, state, run, np.float32) - start,
                        parameters_of(reference, oracle, run, np.float64) - start)
    assert error < cases.PRECISION_RUN_TOLERANCE[precision]
    assert place == "gpu" or error > cases.RUN_TOLERANCE[np.float32]    # cuBLAS may take a more precise way


def test_evaluates_and_predicts(place):
    package, run = training_at(place), at_most(cases.RUNS["softmax_targets_weights"], place, rows=20)
    x, scale, labels, targets, weights = run.data(np.float32)
    states = run.prepare(package, np.float32), run.prepare(reference, np.float32)
    found, expected = (p.evaluate(s, x, labels, targets, weights) for p, s in
                       zip((package, reference), states, strict=True))
    np.testing.assert_allclose(found, expected, rtol=cases.rounding(np.float32, run.sizes[-1]))
    out, exact = np.full((run.rows, run.sizes[-1]), np.nan, np.float32), np.empty((run.rows, run.sizes[-1]))
    parameters = run.parameters(np.float32)
    package.forward(parameters, run.sizes, run.activations, x, scale, None, out)
    reference.forward(parameters.astype(np.float64), run.sizes, run.activations, x.astype(np.float64), scale, None,
                      exact)
    assert cases.error(out, exact) <= cases.rounding(np.float32, max(run.sizes))


@pytest.mark.parametrize("case", [case for case in cases.CASES if case.op in ("dense_forward", "dense_backward")
                                  and case.dtype is np.float32 and numbers(case) <= 400], ids=str)
def test_operations(place, case, monkeypatch):
    """On arrays of the GPU."""
    package, arguments, products = package_at(place), case.arguments(), []
    if place == "simulator":
        monkeypatch.setattr(part("cublas"), "multiply",
                            lambda product, stream: products.append(product) or multiply(product))
    expected = cases.upcast(arguments)
    there = {name: on_gpu(place, value) for name, value in arguments.items()}
    getattr(package, case.op)(*there.values())
    getattr(reference, case.op)(*expected.values())
    if place == "simulator" and min(*arguments["x"].shape, *arguments["w"].shape) > 0:
        assert len(products) == (1 if case.op == "dense_forward" else 1 + (arguments["dx"].size > 0))
    for name in case.outputs:
        if arguments[name].size:
            assert cases.error(there[name].copy_to_host(), expected[name]) <= case.tolerance


def on_gpu(place, value):
    """A copy in the place's memory; what is no array, or empty, as it is."""
    if not isinstance(value, np.ndarray) or value.size == 0:
        return value
    if place == "simulator":
        return np.array(value).view(DeviceArray)
    from numba import cuda
    return cuda.to_device(value)


# ------------------------------------------------------------------------------- the calls of cuBLAS

class Host:
    """A flat array on the host that says it lies on a GPU."""

    def __init__(self, values):
        self.values = np.ascontiguousarray(values).reshape(-1)
        self.dtype = self.values.dtype
        self.__cuda_array_interface__ = self.values.__array_interface__


class Cublas:
    """cublasGemmEx by its manual, column-major, on memory of the host; notes the calls before it."""

    def __init__(self):
        self.calls, self.computed = [], []

    def cublasCreate_v2(self, handle):
        handle._obj.value = 4711
        self.calls.append("create")
        return 0

    def cublasSetStream_v2(self, handle, stream):
        assert handle.value == 4711
        self.calls.append(("stream", stream.value))
        return 0

    def cublasSetWorkspace_v2(self, handle, workspace, size):
        self.calls.append(("workspace", size.value))
        return 0

    def cublasGemmEx(self, handle, op_a, op_b, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type, ldc,
                     compute, algorithm):
        number = {0: ctypes.c_float, 1: ctypes.c_double}[c_type]
        assert (a_type, b_type, algorithm) == (c_type, c_type, -1)
        assert (alpha._obj.value, beta._obj.value) == (1, 0)
        assert type(alpha._obj) is type(beta._obj) is number

        def matrix(pointer, rows, columns, leading):
            assert leading >= rows
            flat = np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(number)), (leading * columns,))
            return flat.reshape(columns, leading)[:, :rows].T

        left = matrix(a, m, k, lda) if op_a == 0 else matrix(a, k, m, lda).T
        right = matrix(b, k, n, ldb) if op_b == 0 else matrix(b, n, k, ldb).T
        matrix(c, m, n, ldc)[...] = left @ right
        self.computed.append(compute)
        return 0


@pytest.fixture
def cublas(monkeypatch):
    pytest.importorskip("numba_cuda", reason="needs pip install 'fastmlp[cuda-compile]'")
    module = importlib.import_module("fastmlp.kernels.cuda.cublas")
    fake = Cublas()
    monkeypatch.setattr(module, "library", lambda: fake)
    stand_in = SimpleNamespace(device_array=lambda size, dtype: Host(np.zeros(1, dtype)))
    monkeypatch.setattr(module, "cuda", stand_in)
    return module


@pytest.mark.parametrize("dtype", cases.DTYPES)
@pytest.mark.parametrize(("a_transposed", "b_transposed"), [(False, False), (False, True), (True, False)])
def test_cublas_is_told_what_is_meant(cublas, dtype, a_transposed, b_transposed):
    rng, (rows, depth, columns) = np.random.default_rng(0), (3, 5, 4)
    a, b = cases.integers(rng, (rows, depth), dtype), cases.integers(rng, (depth, columns), dtype)
    c = Host(np.full(2 + rows * columns, np.nan, dtype))
    a_there = Host(np.concatenate([np.full(7, np.nan, dtype), (a.T if a_transposed else a).ravel()]))
    b_there = Host(np.concatenate([np.full(1, np.nan, dtype), (b.T if b_transposed else b).ravel()]))
    product = part("large").Product(a_there, 7, a_transposed, b_there, 1, b_transposed, c, 2, rows, depth, columns)
    cublas.Blas(815).multiply(product)
    np.testing.assert_array_equal(c.values[2:].reshape(rows, columns), a @ b)
    assert np.isnan(c.values[:2]).all()
    fake = cublas.library()
    assert fake.calls[-3:] == ["create", ("stream", 815), ("workspace", cublas.WORKSPACE)]
    assert fake.computed[-1] == {np.float32: 68, np.float64: 70}[dtype]


def test_cublas_computes_at_the_precision_asked_for(cublas):
    a, c = Host(np.ones(4, np.float32)), Host(np.zeros(4, np.float32))
    for precision, compute in (("float32", 68), ("tf32", 77), ("bf16", 75)):
        cublas.Blas(1).multiply(part("large").Product(a, 0, False, a, 0, False, c, 0, 2, 2, 2, precision))
        assert cublas.library().computed[-1] == compute


def test_errors_of_cublas_are_raised(cublas):
    cublas.library().cublasGemmEx = lambda *arguments: 13
    a = Host(np.ones(4, np.float32))
    with pytest.raises(RuntimeError, match="cublasGemmEx of cuBLAS failed with status 13"):
        cublas.Blas(1).multiply(part("large").Product(a, 0, False, a, 0, False, a, 0, 2, 2, 2))


def test_the_machine_tells_products_from_launches(monkeypatch):
    """`machine.Gpu` on a stand-in for its stream; kernels are kept on disk, products are not."""
    machine, product = part("machine"), part("large").Product(*range(12))
    gpu, ran, kept = object.__new__(machine.Gpu), [], []
    gpu.stream, gpu.numba_stream, gpu.keep = SimpleNamespace(ptr=7), "stream 7", kept.append

    class Kernel:
        def __getitem__(self, configuration):
            return lambda *arguments: ran.append((*configuration, arguments))

    launch = machine.Launch(Kernel(), 2, 32, (1, 2))
    monkeypatch.setattr(part("cublas"), "multiply", lambda product, stream: ran.append((product, stream)))
    gpu.run(gpu.prepared([launch, product]))
    assert ran == [(2, 32, "stream 7", (1, 2)), (product, 7)]
    assert kept == [launch.kernel]
