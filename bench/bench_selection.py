"""A grid search against scikit-learn's, equal work; and what preset="tabular" brings, by cross-validation."""
from time import perf_counter

import pytest

from .machine import cores
from .selection import CONFIGURATIONS, EPOCHS, NOTE, SETS, TRAININGS, K, compare_preset
from .timing import advance, spread, worker_clock

pytestmark = pytest.mark.benchmark(timer=worker_clock)
ROUNDS = 2                   # a round of scikit-learn takes some ten seconds
AGREEMENT = 0.01             # of the best mean accuracy: a row of equal work that learns less would say nothing


def bench_grid_search(benchmark, workers, open_peer):
    """5 folds × 12 configurations on digits, all cores: GridSearchCV over MLPClassifier, and ours in turn."""
    benchmark.group = f"grid search, {K} folds × {CONFIGURATIONS} configurations | digits, {EPOCHS} epochs"
    peer = open_peer("scikit-learn", cores(), "bench.selection:ScikitLearn", cores())
    ours = workers.open("fastmlp", cores(), "bench.selection:Ours", cores())
    seconds = {"ours": [], "peer": []}

    def search():
        seconds["ours"].append(ours.round())
        seconds["peer"].append(peer.round())
        advance(seconds["peer"][-1])

    benchmark.pedantic(search, rounds=ROUNDS)
    best, wanted = max(ours.accuracies()), max(peer.accuracies())
    assert best > wanted - AGREEMENT, f"our best configuration has {best:.4f}, scikit-learn's {wanted:.4f}"
    ratios = [theirs / own for theirs, own in zip(seconds["peer"], seconds["ours"], strict=True)]
    for name, taken, ratio, accuracy, note in (("fastmlp", "ours", [1.0] * 3, best, ""),
                                               ("scikit-learn", "peer", spread(ratios), wanted, NOTE)):
        benchmark.extra_info.setdefault("rows", []).append({
            "name": name, "seconds": spread(seconds[taken]), "ratio": ratio, "accuracy": accuracy, "note": note})
    benchmark.extra_info.update(bench="grid search", case="digits", name="scikit-learn", threads=cores())


@pytest.mark.parametrize("training", TRAININGS, ids=lambda text: text.replace(" ", "_"))
@pytest.mark.parametrize("name", SETS)
def bench_preset(benchmark, name, training):
    """No race: the figures are accuracies; timed is the comparison."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: it ships the data sets")
    benchmark.group = f"preset, {training} | {name}"

    def compare():
        started = perf_counter()
        found = compare_preset(name, training)
        advance(perf_counter() - started)
        return found

    found = benchmark.pedantic(compare, rounds=1)
    benchmark.extra_info.update(found, bench="preset", case=f"{name}, {training}", set=name, training=training,
                                name="fastmlp", threads=cores())
