"""Rounds: the ceiling, ours and a peer in turn, each timed in its own process; medians, p20 and p80 over rounds."""
import time

import numpy as np

from .training import PEERS, verify

TASK, CEILING = "bench.training:Training", "bench.ceiling:Ceiling"
# A peer's idle threads (OpenBLAS, OpenMP) spin for up to 25 ms after its turn: nobody else's time is taken meanwhile.
PAUSE = 0.03
ROUNDS, FEWEST_ROUNDS = 7, 3
SECONDS = 2.0                # for the rounds of one row; slow peers get fewer rounds

_worker_seconds = 0.0


def worker_clock():
    """pytest-benchmark's timer: the seconds that workers measured for themselves, pipes and pauses left out."""
    return _worker_seconds


def advance(seconds):
    global _worker_seconds
    _worker_seconds += seconds


def spread(values):
    """p20, median, p80."""
    return [float(v) for v in np.percentile(values, (20, 50, 80))]


def interleave(benchmark, subject, yardstick, ceiling, work, threads, facts):
    """Times `subject()` by pytest-benchmark; the ceiling and ours before it in each round.

    subject, yardstick : return seconds for the same work; yardstick is None when the subject is ours.
    ceiling : returns FLOP/s or bytes/s. work : flops or bytes done in those seconds.
    What is found goes to benchmark.extra_info, beside `facts`.
    """
    others = [ceiling] if yardstick is None else [ceiling, yardstick]
    start = time.perf_counter()
    for warm_up in (*others, subject):
        warm_up()
    rounds = int(min(ROUNDS, max(FEWEST_ROUNDS, SECONDS / (time.perf_counter() - start))))
    measured = {call: [] for call in (*others, subject)}

    def before():
        if threads > 1:
            time.sleep(PAUSE)
        for other in others:
            measured[other].append(other())

    def timed():
        measured[subject].append(subject())
        advance(measured[subject][-1])

    benchmark.pedantic(timed, setup=before, rounds=rounds)
    # Under a profiler the subject runs once more.
    columns = {call: np.array(values[:rounds]) for call, values in measured.items()}
    own, ceilings = columns[subject], columns[ceiling]
    benchmark.extra_info.update(
        facts, seconds=spread(own), ratio=spread(own / columns.get(yardstick, own)), rate=spread(work / own),
        ceiling=spread(ceilings), fraction=spread(work / own / ceilings), threads=threads, rounds=rounds)


def time_training(benchmark, workers, open_peer, net, name, threads, facts, *, n_threads=None, against=None):
    """A row of training: checked against the reference, then timed beside `against`: (threads, n_threads) of ours.

    The seconds are those of a whole epoch, taken from a round's share of it.
    """
    benchmark.group = f"{facts['case']} | {net}"
    subject = open_peer(name, threads, TASK, name, net, n_threads)
    facts = {**facts, "net": str(net), "name": name, "note": PEERS[name].note_on(net), "step_flops": net.step_flops,
             "loss_deviation": verify(name, net, subject.check())}
    yardstick = None
    if against is None and name != "fastmlp":
        against = threads, None
    if against is not None:
        yardstick = workers.open("fastmlp", against[0], TASK, "fastmlp", net, against[1]).round
    ceiling = workers.open("ceiling", threads, CEILING, threads).round
    interleave(benchmark, subject.round, yardstick, ceiling, net.step_flops * net.rows / net.batch_size, threads, facts)
