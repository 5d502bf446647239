"""Training and inference on CUDA: the host's part over simulated kernels, everything on a GPU where there is one."""
import dataclasses
import importlib

import cases
import numpy as np
import pytest

from fastmlp.kernels import activations as act
from fastmlp.kernels import reference, update_rules

pytest.importorskip("greenlet", reason="the simulator needs greenlet: pip install 'fastmlp[test]'")
from simulator import DeviceArray, Machine, part
from test_cuda import PLACES, package_at

TINY_TILE = (8, 8, 4, 2, 16)       # 8 threads: a simulated thread costs as much as ten thousand real ones


def tiny_tiles(dtype, rows, columns):
    return part("tile").define(dtype, TINY_TILE)


def module_at(place, name):
    return part(name) if place == "simulator" else importlib.import_module(f"{package_at(place).__name__}.{name}")


def no_plan(sizes, batch, dtype):
    return None


def training_at(place, choose_plan=no_plan):
    """Training in graphs of a step's launches, unless nets are given a plan for the persistent kernel."""
    machine = Machine() if place == "simulator" else module_at(place, "machine").gpu()
    tiles = tiny_tiles if place == "simulator" else module_at(place, "dense").choose_tile
    return module_at(place, "training").Training(machine, tiles, choose_plan)


@pytest.fixture(params=PLACES)
def place(request):
    return request.param


@pytest.fixture
def package(place):
    return training_at(place)


def at_most(run, place, rows=45, batch_size=16):
    """In the simulator, as many rows as three steps need, the last of them short; of wide images, fewer pixels."""
    if place == "gpu":
        return run
    sizes = tuple(min(size, 49) for size in run.sizes)
    if run.name == "batch_of_one":
        return dataclasses.replace(run, rows=5)
    return dataclasses.replace(run, rows=min(rows, run.rows), batch_size=min(batch_size, run.batch_size), sizes=sizes)


def parameters_of(package, state, run, dtype):
    parameters = np.full_like(run.parameters(dtype), np.nan)
    package.read_parameters(state, parameters)
    return parameters


def slots_of(package, state, run, dtype):
    n = run.parameters(dtype).size
    slots = [np.full(n if slot < update_rules.SLOTS[run.rule] else 0, np.nan, dtype) for slot in (0, 1)]
    package.read_optimizer(state, *slots)
    return slots


def runs_with_dtypes():
    for i, name in enumerate(cases.RUNS):
        yield name, np.float32
        if i % 5 == 0:
            yield name, np.float64


def check_against_reference(package, run, dtype):
    """Parameters, optimizer and totals of a run; returns the state after it."""
    state, oracle = run.prepare(package, dtype), run.prepare(reference, np.float64)
    start = run.parameters(np.float64)
    totals, expected = run.train(package, state, dtype), run.train(reference, oracle, np.float64)
    assert state.step == run.epochs * -(-run.rows // run.batch_size)
    tolerance = cases.RUN_TOLERANCE[dtype]
    moved = parameters_of(package, state, run, dtype) - start
    assert cases.error(moved, parameters_of(reference, oracle, run, np.float64) - start) <= tolerance
    slots = zip(slots_of(package, state, run, dtype), slots_of(reference, oracle, run, np.float64), strict=True)
    for ours, theirs in slots:
        assert cases.error(ours, theirs) <= tolerance
    np.testing.assert_allclose(totals[:, 0], expected[:, 0], rtol=tolerance / 10)
    np.testing.assert_allclose(totals[:, 1], expected[:, 1], rtol=1e-12, atol=1 if dtype is np.float32 else 0)
    np.testing.assert_allclose(totals[:, 2], expected[:, 2], rtol=1e-12)
    return state


@pytest.mark.parametrize(("name", "dtype"), list(runs_with_dtypes()))
def test_same_as_reference(package, place, name, dtype):
    check_against_reference(package, at_most(cases.RUNS[name], place), dtype)


@pytest.mark.parametrize("name", ["softmax_targets_weights", "sigmoid_many_weights", "huber", "images_dropout"])
def test_evaluate_is_the_references(package, place, name):
    run = at_most(cases.RUNS[name], place, rows=70)
    x, _, labels, targets, weights = run.data(np.float32)
    state, oracle = run.prepare(package, np.float32), run.prepare(reference, np.float32)
    found, expected = (p.evaluate(s, x, labels, targets, weights) for p, s in ((package, state), (reference, oracle)))
    np.testing.assert_allclose(found, expected, rtol=cases.rounding(np.float32, run.sizes[-1]))
    assert tuple(package.evaluate(state, x[:0], labels[:0], targets[:0], weights[:0])) == (0, 0, 0)


@pytest.mark.parametrize("name", ["softmax_40_classes", "images_dropout"])
def test_the_same_bits_twice(package, place, name):
    run, outcomes = at_most(cases.RUNS[name], place), []
    for _ in range(2):
        state = run.prepare(package, np.float32)
        totals = run.train(package, state, np.float32)
        outcomes.append(parameters_of(package, state, run, np.float32).tobytes() + totals.tobytes())
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("name", ["rule_adam", "dropout"])
def test_continuing_gives_the_same_bits(package, place, name):
    run, dtype = at_most(cases.RUNS[name], place), np.float32
    whole = run.prepare(package, dtype)
    whole_totals = run.train(package, whole, dtype)

    first = run.prepare(package, dtype)
    run.train(package, first, dtype, epochs=1)
    state = run.prepare(package, dtype)
    package.write_parameters(state, parameters_of(package, first, run, dtype))
    package.write_optimizer(state, first.step, *slots_of(package, first, run, dtype))
    assert state.step == first.step
    totals = run.train(package, state, dtype, epochs=1, first_epoch=1)
    np.testing.assert_array_equal(totals[0], whole_totals[1])
    np.testing.assert_array_equal(parameters_of(package, state, run, dtype), parameters_of(package, whole, run, dtype))


@pytest.mark.parametrize("case", [case for case in cases.CASES if case.op == "forward" and "784" not in case.variant
                                  and ("-9_rows" in case.variant or "-0_rows" in case.variant)], ids=str)
def test_forward(package, case):
    arguments = case.arguments()
    expected = cases.upcast(arguments)
    package.forward(*arguments.values())
    reference.forward(*expected.values())
    assert cases.error(arguments["out"], expected["out"]) <= case.tolerance


def test_forward_in_several_blocks(monkeypatch):
    """Blocks of rows smaller than the data, the last one shorter."""
    training = part("training")
    monkeypatch.setattr(training, "BLOCK_ROWS", 4)
    package, rng = training_at("simulator"), np.random.default_rng(0)
    sizes, codes = (5, 3, 2), (act.TANH, act.SOFTMAX)
    parameters, x = cases.random_parameters(rng, sizes, np.float64), rng.standard_normal((11, 5))
    out, expected = np.full((11, 2), np.nan), np.empty((11, 2))
    package.forward(parameters, sizes, codes, x, 1.0, None, out)
    reference.forward(parameters, sizes, codes, x, 1.0, None, expected)
    np.testing.assert_allclose(out, expected, rtol=1e-13)

    run = at_most(cases.RUNS["softmax_targets_weights"], "simulator", rows=11)
    x, _, labels, targets, weights = run.data(np.float64)
    states = run.prepare(package, np.float64), run.prepare(reference, np.float64)
    found, expected = (p.evaluate(s, x, labels, targets, weights) for p, s in
                       zip((package, reference), states, strict=True))
    np.testing.assert_allclose(found, expected, rtol=1e-13)


class Counting(Machine):
    """Counts what crosses to the GPU, and the graphs."""

    def __init__(self):
        super().__init__()
        self.uploads, self.captured, self.replayed = [], 0, 0

    def upload(self, array):
        self.uploads.append(array.shape)
        return super().upload(array)

    def capture(self, launches, repeats):
        self.captured, self.repeats = self.captured + 1, repeats
        return super().capture(launches, repeats)

    def replay(self, graph):
        self.replayed += 1
        super().replay(graph)


def test_an_epoch_is_a_few_replays_of_one_graph(monkeypatch):
    """Data cross once, a graph is captured once, and chunks that end beyond the last step change nothing."""
    training = part("training")
    monkeypatch.setattr(training, "GRAPH_STEPS", 2)
    machine = Counting()
    package = training.Training(machine, tiny_tiles, no_plan)
    run = dataclasses.replace(at_most(cases.RUNS["rule_momentum"], "simulator"), epochs=3)
    x, _, labels, targets, weights = run.data(np.float32)
    state = run.prepare(package, np.float32)
    for epoch in range(3):
        order, rates = np.random.default_rng(epoch).permutation(run.rows), np.full(3, 0.01)
        package.train_epoch(state, x, labels, targets, weights, order, rates)
    assert (machine.captured, machine.repeats, machine.replayed) == (1, 2, 6)    # three steps: two chunks of two
    assert machine.uploads.count(x.shape) == 1
    assert state.step == 9

    package.train_epoch(state, x, labels, targets, weights, np.tile(order, 2), np.full(6, 0.01))
    assert machine.captured == 2                                # a longer epoch needs longer arrays
    assert state.step == 15
    package.train_epoch(state, x.copy(), labels, targets, weights, order[:16], rates[:1])
    assert machine.captured == 2                                # other data lie where those before lay
    package.train_epoch(state, np.array(x).view(DeviceArray), labels, targets, weights, order[:16], rates[:1])
    assert machine.captured == 3                                # but for those that are on the GPU already
    assert state.step == 17


def test_one_graph_serves_every_window():
    """Windows of a file: each other arrays, the last one shorter; between two epochs, a larger set to judge by."""
    machine = Counting()
    package = part("training").Training(machine, tiny_tiles, no_plan)
    run = at_most(cases.RUNS["softmax_targets_weights"], "simulator", rows=24, batch_size=8)
    x, _, labels, targets, weights = run.data(np.float32)
    state, oracle = run.prepare(package, np.float32), run.prepare(reference, np.float64)
    start = run.parameters(np.float64)
    for _ in range(2):
        for rows in (slice(0, 16), slice(7, 23), slice(19, 24)):
            window = [array[rows] if len(array) else array for array in (x, labels, targets, weights)]
            order = np.arange(len(window[0]))[::-1].copy()
            rates = np.full(-(-len(order) // run.batch_size), 0.01)
            totals, expected = (p.train_epoch(s, *window, order, rates)
                                for p, s in ((package, state), (reference, oracle)))
            np.testing.assert_allclose(totals, expected, rtol=cases.RUN_TOLERANCE[np.float32])
        found, expected = (p.evaluate(s, x, labels, targets, weights)
                           for p, s in ((package, state), (reference, oracle)))
        np.testing.assert_allclose(found, expected, rtol=cases.RUN_TOLERANCE[np.float32])
    assert machine.captured == 1
    moved = parameters_of(package, state, run, np.float32) - start
    assert cases.error(moved, parameters_of(reference, oracle, run, np.float64) - start) <= cases.RUN_TOLERANCE[
        np.float32]


def test_weights_that_only_some_windows_have():
    package = training_at("simulator")
    run = at_most(cases.RUNS["softmax_targets_weights"], "simulator", rows=10, batch_size=8)
    x, _, labels, targets, weights = run.data(np.float32)
    state, oracle = run.prepare(package, np.float32), run.prepare(reference, np.float64)
    none = np.empty(0, np.float32)
    for some in (weights, none, weights):
        totals, expected = (p.train_epoch(s, x.copy(), labels, targets, some, np.arange(10), np.full(2, 0.01))
                            for p, s in ((package, state), (reference, oracle)))
        np.testing.assert_allclose(totals, expected, rtol=cases.RUN_TOLERANCE[np.float32])


def test_interrupted_between_two_chunks(monkeypatch):
    """Ctrl-C finds the state after a whole number of steps, and training goes on from there."""
    training = part("training")
    monkeypatch.setattr(training, "GRAPH_STEPS", 1)

    class Interrupted(Counting):
        def replay(self, graph):
            if self.replayed == 2:
                raise KeyboardInterrupt
            super().replay(graph)

    run = at_most(cases.RUNS["rule_adam"], "simulator")
    x, _, labels, targets, weights = run.data(np.float32)
    order, rates = np.arange(run.rows), np.full(3, 0.01)
    package = training.Training(Interrupted(), tiny_tiles, no_plan)
    state = run.prepare(package, np.float32)
    with pytest.raises(KeyboardInterrupt):
        package.train_epoch(state, x, labels, targets, weights, order, rates)
    assert state.step == 2
    whole = training_at("simulator")
    oracle = run.prepare(whole, np.float32)
    whole.train_epoch(oracle, x, labels, targets, weights, order[:32], rates[:2])
    np.testing.assert_array_equal(parameters_of(package, state, run, np.float32),
                                  parameters_of(whole, oracle, run, np.float32))


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_trains_on_tensor_cores(package, place, precision):
    run = dataclasses.replace(cases.RUNS["hidden_relu"], sizes=(12, 9, 3), activations=(act.RELU, act.IDENTITY))
    run = dataclasses.replace(at_most(run, place, rows=20), epochs=1)

    class Precise:
        prepare = staticmethod(lambda *args, **options: package.prepare(*args, **options, precision=precision))

    state, oracle = run.prepare(Precise, np.float32), run.prepare(reference, np.float64)
    run.train(package, state, np.float32)
    run.train(reference, oracle, np.float64)
    start = run.parameters(np.float64)
    error = cases.error(parameters_of(package, state, run, np.float32) - start,
                        parameters_of(reference, oracle, run, np.float64) - start)
    assert cases.RUN_TOLERANCE[np.float32] < error < cases.PRECISION_RUN_TOLERANCE[precision]


def test_precisions_that_cannot_be_had():
    run, training = cases.RUNS["rule_sgd"], part("training")

    class Old(Machine):
        def capability(self):
            return 7, 5

    for machine, precision, dtype, message in (
            (Machine(), "fp8", np.float32, "precision must be"), (Machine(), "tf32", np.float64, "needs float32"),
            (Old(), "bf16", np.float32, "8.0 or later, this one has 7.5")):
        package = training.Training(machine)
        with pytest.raises(ValueError, match=message):
            package.prepare(run.parameters(dtype), run.sizes, run.activations, dropout=(0.0, 0.0), loss=0, rule=0,
                            hyper=np.zeros(4), l2=0.0, batch_size=4, scale=1.0, seed=0, n_threads=None,
                            precision=precision)


def test_wrong_dtype_is_refused(package):
    run = cases.RUNS["rule_sgd"]
    x, _, labels, targets, weights = run.data(np.float64)
    state = run.prepare(package, np.float32)
    with pytest.raises(TypeError, match="x must be uint8 or float32, got float64"):
        package.train_epoch(state, x, labels, targets, weights, np.arange(4), np.zeros(1))


def test_warm_up(package, place):
    assert place == "gpu" or package.needs_compiling("float32")
    package.warm_up("float32")
    assert not package.needs_compiling("float32")
