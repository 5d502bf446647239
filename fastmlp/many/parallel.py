"""Many independent trainings at once: a pool of Python threads, each training one net on one thread.

The kernels release Python's lock for whole epochs, so threads of one process keep every core busy and share the data
without a copy. What a task computes depends on its arguments alone: the number of workers changes no bit.
"""
import logging
import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import replace

from .. import device as devices
from ..kernels.cores import available_cores
from ..training.progress import count_bar

log = logging.getLogger("fastmlp")


def worker_count(n_threads, device):
    """How many nets train at once: what `n_threads` or FASTMLP_NUM_THREADS says, else all cores; one on a GPU."""
    if devices.choose(device)[0].startswith("cuda"):
        return 1
    given = devices.threads(n_threads)
    if given is not None:
        return given
    return available_cores()


def run_tasks(function, tasks, workers, verbose, description):
    """function(*task, stop=...) for every task, `workers` at a time, each as soon as a worker is free.

    function : gives its result; or None where `stop()`, called after every epoch, ended it early
    verbose : 1 or 2 for a progress bar

    Returns
    -------
    (results, interrupted) : a result per task, in order; after Ctrl-C None for those that had not finished. It takes
    effect when the epochs in hand are over.
    """
    results, stopping = [None] * len(tasks), threading.Event()
    with count_bar(verbose, len(tasks), description) as bar, ThreadPoolExecutor(workers, "fastmlp-task") as pool:
        numbers = {}
        try:
            for number, task in enumerate(tasks):
                numbers[pool.submit(function, *task, stop=stopping.is_set)] = number
            pending = set(numbers)
            while pending:
                # Asked with a timeout, Windows lets Ctrl-C through.
                done, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    results[numbers[future]] = future.result()
                    if bar is not None:
                        bar.update()
        except KeyboardInterrupt:
            pass  # whatever has finished is returned
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            stopping.set()
            pool.shutdown()
        for future, number in numbers.items():
            if not future.cancelled():
                results[number] = future.result()
    finished = sum(result is not None for result in results)
    if finished < len(tasks):
        log.warning("interrupted after %d of %d trainings", finished, len(tasks))
    return results, finished < len(tasks)


def on_one_thread(options, stop=None):
    """`options` for a task: one thread, and training ends after the epoch in which `stop()` says so."""
    callbacks = options.callbacks if stop is None else (*options.callbacks, lambda model, numbers: stop())
    return replace(options, n_threads=1, verbose=0, callbacks=callbacks)
