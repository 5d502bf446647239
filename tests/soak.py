"""Hours of use in minutes: `python tests/soak.py MINUTES` trains, predicts, saves, loads, is interrupted and refused
over and over, from one thread and from several, and prints what memory, threads and open files have grown by.

Ends with an error if they grow after the first quarter: memory in use by more than 2 MB, resident memory by more than
20 MB (what is freed in pieces stays with the allocator), the others at all.
"""
import _thread
import contextlib
import ctypes
import gc
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

import fastmlp


class Allocated(ctypes.Structure):
    """struct mallinfo2 of glibc."""

    _fields_ = [(name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks",
                                                     "fsmblks", "uordblks", "fordblks", "keepcost")]


def in_use():
    """Bytes allocated and not freed."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = Allocated
    found = mallinfo2()
    return found.uordblks + found.hblkhd


def resident():
    """Bytes of memory that the process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def state():
    gc.collect()
    time.sleep(0.5)  # threads of what was collected end by themselves
    return in_use() / 1e6, resident() / 1e6, threading.active_count(), len(os.listdir("/proc/self/fd"))


def show(used, held, threads, files):
    return f"{used:.1f} MB in use, {held:.1f} MB resident, {threads} threads, {files} files"


def one_round(number, folder):
    rng = np.random.default_rng(number)
    X, y = rng.normal(size=(int(rng.integers(20, 2000)), 20)), None
    y = rng.integers(0, 3, len(X))
    options = {"hidden": int(rng.integers(1, 200)), "epochs": 2, "seed": number, "device": "cpu",
               "dtype": ("float32", "float64")[number % 2], "n_threads": (None, 1, 2, 5)[number % 4]}
    model = fastmlp.train(X, y, validation_fraction=0.2, early_stopping=1, **options)
    model.predict_proba(X)
    model.save(folder / "model")
    fastmlp.load(folder / "model").evaluate(X, y)
    fastmlp.train(X, y, checkpoint=folder / f"run{number}", **options)
    (folder / f"run{number}").unlink()
    with contextlib.suppress(ValueError):
        fastmlp.train(X, y[:-1], **options)
    callers = [threading.Thread(target=fastmlp.train, args=(X, y), kwargs=options) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    if number % 10 == 0:
        threading.Timer(0.05, _thread.interrupt_main).start()
        with contextlib.suppress(KeyboardInterrupt):
            fastmlp.train(X, y, **options | {"epochs": 10 ** 6})


def main(minutes):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background has it ignored
    started, rounds, settled = time.monotonic(), 0, None
    with tempfile.TemporaryDirectory() as folder:
        shown = 0.0
        while (passed := time.monotonic() - started) < 60 * minutes:
            one_round(rounds, Path(folder))
            rounds += 1
            if settled is None and passed > 15 * minutes:
                settled = state()
            if passed - shown > 30:
                shown = passed
                print(f"{passed:6.0f} s, {rounds} rounds: {show(*state())}", flush=True)
    grown = [after - before for before, after in zip(settled, state(), strict=True)]
    print(f"{minutes:g} minutes, {rounds} rounds: grown by {show(*grown)} "
          "since the first quarter")
    return grown[0] > 2 or grown[1] > 20 or max(grown[2:]) > 0


if __name__ == "__main__":
    raise SystemExit(main(float(sys.argv[1])))
