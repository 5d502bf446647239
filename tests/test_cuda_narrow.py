"""The persistent kernel for narrow nets: against the reference, against graphs, and which nets it gets."""
import dataclasses
from itertools import product

import cases
import numpy as np
import pytest

from fastmlp.kernels import activations as act
from fastmlp.kernels import losses, update_rules

pytest.importorskip("greenlet", reason="the simulator needs greenlet: pip install 'fastmlp[test]'")
import simulator
from simulator import part
from test_cuda import PLACES
from test_cuda_gradient import check_two_halves_are_a_step
from test_cuda_training import (
    Counting,
    at_most,
    check_against_reference,
    module_at,
    no_plan,
    parameters_of,
    slots_of,
    tiny_tiles,
    training_at,
)


def narrow_at(place):
    """Training by the persistent kernel wherever it can."""
    return training_at(place, module_at(place, "narrow").plan)


def shortened(run, place):
    return at_most(run, place, rows=21, batch_size=8)


def fitting_runs():
    for place in PLACES:
        for i, name in enumerate(cases.RUNS):
            run = shortened(cases.RUNS[name], place)
            for dtype in (np.float32, np.float64) if i % 5 == 0 else (np.float32,):
                if part("narrow").plan(run.sizes, run.batch_size, dtype):
                    yield pytest.param(place, run, dtype, id=f"{place}-{name}-{np.dtype(dtype)}")


@pytest.mark.parametrize(("place", "run", "dtype"), list(fitting_runs()))
def test_same_as_reference(place, run, dtype):
    package = narrow_at(place)
    state = check_against_reference(package, run, dtype)
    assert state.plan
    if place == "simulator":                                   # at rest once, then two launches an epoch
        assert package.machine.launched == 1 + 2 * run.epochs


def crossed_runs():
    """Every loss with every optimizer; activations, dropout, weights, targets and penalties as they fall."""
    rng = np.random.default_rng(0)
    for loss, rule in product(range(len(losses.NAMES)), range(len(update_rules.NAMES))):
        hidden, output = (act.NAMES.index(name) for name in rng.choice(act.TRAINABLE, 2))
        if loss in (losses.SOFTMAX_CROSS_ENTROPY, losses.SIGMOID_CROSS_ENTROPY):
            output = act.IDENTITY
        dropped, weighted, soft, uint8 = rng.random(4) < 0.5
        yield cases.Run(f"{losses.NAMES[loss]}-{update_rules.NAMES[rule]}", (5, 4, 3), (hidden, output), loss, rule,
                        rows=12, batch_size=7, epochs=1, dropout=(0.3 * dropped, 0.0), l2=rng.choice((0.0, 1e-2)),
                        alpha=rng.choice((0.0, 0.5)), weighted=weighted, soft_targets=soft,
                        inputs="uint8" if uint8 else "normal")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("run", list(crossed_runs()), ids=str)
def test_same_as_the_graph(place, run):
    outcomes = []
    for package in (narrow_at(place), training_at(place)):
        state = run.prepare(package, np.float64)
        totals = run.train(package, state, np.float64)
        outcomes.append([parameters_of(package, state, run, np.float64), *slots_of(package, state, run, np.float64),
                         totals])
    for ours, theirs in zip(*outcomes, strict=True):
        assert cases.error(ours, theirs) <= cases.rounding(np.float64, run.rows)


def three_rows(*shape):
    """A plan that cuts a batch of eight into three blocks of rows."""
    return dataclasses.replace(part("narrow").plan(*shape), rows=3)


def bits_of(package, run):
    """Parameters and totals after one epoch."""
    state = run.prepare(package, np.float32)
    totals = run.train(package, state, np.float32, epochs=1)
    found = parameters_of(package, state, run, np.float32)
    assert np.isfinite(found).all()
    return found.tobytes() + totals.tobytes()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["softmax_40_classes", "dropout"])
def test_the_same_bits_twice_and_however_the_batch_is_cut_up(place, name):
    run, plan = shortened(cases.RUNS[name], place), module_at(place, "narrow").plan
    first, *others = [bits_of(training_at(place, choose_plan), run) for choose_plan in (plan, plan, three_rows)]
    assert others == [first, first]


@pytest.mark.parametrize("choose_plan", [three_rows, no_plan])
@pytest.mark.parametrize("name", ["softmax_targets_weights", "dropout"])
def test_threads_may_run_in_any_order(monkeypatch, name, choose_plan):
    """Where a barrier is missing, what a thread finds depends on who ran before it."""
    run = shortened(cases.RUNS[name], "simulator")
    expected = bits_of(training_at("simulator", choose_plan), run)
    monkeypatch.setattr(simulator, "in_turn", lambda threads: threads[::-1])
    assert bits_of(training_at("simulator", choose_plan), run) == expected


@pytest.mark.parametrize("place", PLACES)
def test_continues_where_a_graph_stopped(place):
    """Weights, slots and steps lie where the other path finds them; nothing else does a step leave behind."""
    run, dtype = shortened(cases.RUNS["rule_adam"], place), np.float64
    package, graphs = narrow_at(place), training_at(place)
    state, first = run.prepare(package, dtype), run.prepare(graphs, dtype)
    run.train(graphs, first, dtype, epochs=1)
    package.write_parameters(state, parameters_of(graphs, first, run, dtype))
    package.write_optimizer(state, first.step, *slots_of(graphs, first, run, dtype))
    totals = run.train(package, state, dtype, epochs=1, first_epoch=1)
    expected = run.train(graphs, first, dtype, epochs=1, first_epoch=1)
    np.testing.assert_allclose(totals, expected, rtol=1e-13)
    np.testing.assert_allclose(parameters_of(package, state, run, dtype), parameters_of(graphs, first, run, dtype),
                               rtol=1e-12)
    assert state.step == first.step == 2 * -(-run.rows // run.batch_size)


@pytest.mark.parametrize("place", PLACES)
def test_two_halves_are_a_step(place):
    run = shortened(cases.RUNS["dropout"], place)
    check_two_halves_are_a_step(narrow_at(place), dataclasses.replace(run, l2=0.01))


def test_interrupted_between_two_launches(monkeypatch):
    """Ctrl-C finds the state after a whole number of steps, and all launches of an epoch are one graph's."""
    training, narrow = part("training"), part("narrow")
    monkeypatch.setattr(narrow, "STEPS", 1)

    class Interrupted(Counting):
        def replay(self, graph):
            if self.replayed == 2:
                raise KeyboardInterrupt
            super().replay(graph)

    run = shortened(cases.RUNS["rule_adam"], "simulator")
    x, _, labels, targets, weights = run.data(np.float32)
    order, rates = np.arange(run.rows), np.full(3, 0.01)
    package = training.Training(Interrupted(), tiny_tiles, narrow.plan)
    state = run.prepare(package, np.float32)
    with pytest.raises(KeyboardInterrupt):
        package.train_epoch(state, x, labels, targets, weights, order, rates)
    assert (state.step, package.machine.captured) == (2, 1)
    monkeypatch.undo()
    whole = narrow_at("simulator")
    oracle = run.prepare(whole, np.float32)
    whole.train_epoch(oracle, x, labels, targets, weights, order[:16], rates[:2])
    np.testing.assert_array_equal(parameters_of(package, state, run, np.float32),
                                  parameters_of(whole, oracle, run, np.float32))


SHAPES = ((4, 32, 16, 4), (64, 32, 10), (1, 1), (300, 4), (20, 128, 2), (5, 100, 70), (13, 20, 7, 3))


@pytest.mark.parametrize("sizes", SHAPES)
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_everything_has_its_place_in_shared_memory(sizes, dtype):
    narrow, network = part("narrow"), part("network")
    for batch in (1, 7, 32, 1000):
        plan = narrow.plan(sizes, batch, dtype)
        if plan is None:
            continue
        assert min(batch, narrow.WARPS) <= plan.rows <= batch
        layers = network.layers_of(sizes, (0,) * (len(sizes) - 1), (0.0,) * (len(sizes) - 1), batch)
        taken = np.zeros(narrow.capacity(dtype), int)
        taken[plan.weights:2 * plan.weights] += 1              # gradients
        for number, row in enumerate(narrow.table_of(layers, plan)):
            n_in, n_out = row[narrow.N_IN], row[narrow.N_OUT]
            parts = [(row[narrow.W_AT], row[narrow.DZ_ROW], n_in + 1, n_out),
                     (row[narrow.X_AT], row[narrow.X_ROW], plan.rows, n_in + 1),
                     (row[narrow.DZ_AT], row[narrow.DZ_ROW], plan.rows, n_out)]
            if number == len(layers) - 1:                      # each other output is the next layer's input
                parts.append((row[narrow.Y_AT], row[narrow.Y_ROW], plan.rows, n_out))
            for at, length, rows, columns in parts:
                assert length % 2 == 1
                np.add.at(taken, (at + np.arange(rows)[:, None] * length + np.arange(columns)).ravel(), 1)
        assert taken.max() == 1


def test_which_nets_are_given_to_the_persistent_kernel():
    narrow, training = part("narrow"), part("training")
    for sizes, batch, dtype, expected in (
            ((4, 32, 16, 4), 165, np.float32, True), ((4, 32, 16, 4), 166, np.float32, False),
            ((4, 32, 16, 4), 82, np.float64, True), ((4, 32, 16, 4), 83, np.float64, False),
            ((64, 32, 10), 35, np.float32, True), ((64, 32, 10), 36, np.float32, False),
            ((4, 129, 2), 1, np.float32, False), ((784, 10), 1, np.float32, False)):
        assert (narrow.choose(sizes, batch, dtype) is not None) == expected
    run = cases.RUNS["rule_sgd"]
    for precision, plan in (("float32", True), ("tf32", False)):
        package = training.Training(Counting())
        state = package.prepare(run.parameters(np.float32), run.sizes, run.activations, dropout=(0.0, 0.0), loss=0,
                                rule=0, hyper=np.zeros(4), l2=0.0, batch_size=4, scale=1.0, seed=0, n_threads=None,
                                precision=precision)
        assert bool(state.plan) == plan
