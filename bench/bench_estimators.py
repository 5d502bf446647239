"""Our estimators and scikit-learn's own in turn: the same fit, the same final loss, and how many times as fast."""
import time

import pytest

from .conftest import name_of, skip_if_missing, thread_counts
from .estimators import CASES, verify
from .timing import PAUSE, SECONDS, advance, spread, worker_clock

pytestmark = pytest.mark.benchmark(timer=worker_clock)
TASK = "bench.estimators:Estimator"
FEWEST, MOST = 3, 7


@pytest.mark.parametrize(("case", "threads"), [(case, threads) for case in CASES for threads in thread_counts()],
                         ids=name_of)
def bench_estimators(benchmark, workers, case, threads):
    """As many threads for both; a round is a fit of ours and one of theirs. Shown: ours."""
    skip_if_missing("scikit-learn")
    benchmark.group = f"estimators | {case}, {threads} threads"
    ours, theirs = (workers.open(name, threads, TASK, name, case) for name in ("fastmlp", "scikit-learn"))
    checked = ours.check(), theirs.check()
    difference = verify(*checked)
    rounds = int(min(MOST, max(FEWEST, SECONDS / checked[1]["seconds"])))
    seconds = {"fastmlp": [], "scikit-learn": []}

    def before():
        seconds["scikit-learn"].append(theirs.round())
        time.sleep(PAUSE)

    def timed():
        seconds["fastmlp"].append(ours.round())
        advance(seconds["fastmlp"][-1])

    benchmark.pedantic(timed, setup=before, rounds=rounds)
    ratios = [b / a for a, b in zip(seconds["fastmlp"], seconds["scikit-learn"], strict=True)]
    benchmark.extra_info.update(
        bench="estimators", case=case.name, name="fastmlp", threads=threads, bar=case.bar, rounds=rounds,
        loss_deviation=difference, seconds=spread(seconds["fastmlp"]), theirs=spread(seconds["scikit-learn"]),
        ratio=spread(ratios))
