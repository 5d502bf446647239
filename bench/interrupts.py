"""How long Ctrl-C waits: `python -m bench.interrupts [COUNT]` interrupts training COUNT times (100) on each row.

A thread presses Ctrl-C at a random moment of a training that would never end; the clock runs from the signal until
`fastmlp.train` has returned its model (or, before the first step, until KeyboardInterrupt has come out of it). Printed
are the median and the maximum of each row. The command fails where a maximum exceeds BAR: on a machine whose cores
other programs hold, that says nothing. The last line is JSON.
"""
import json
import logging
import os
import signal
import sys
from contextlib import suppress
from threading import Timer
from time import perf_counter

import numpy as np

import fastmlp

from .machine import describe

BAR = 0.3                    # seconds, of the longest wait
NETS = ((40, 64, 64, 3), (784, 500, 10), (1024, 2048, 2048, 10))
# One call of NumPy cannot be interrupted: the reference waits for the end of it, on the largest net 0.15 s and more.
CASES = [*(("cpu", sizes) for sizes in NETS), *(("reference", sizes) for sizes in NETS[:2])]
BATCH = 64


def wait_once(model, X, y, delay):
    """Seconds from Ctrl-C, `delay` seconds after the call, to the end of training `model` further."""
    pressed = []

    def press():
        pressed.append(perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    timer = Timer(delay, press)
    timer.start()
    with suppress(KeyboardInterrupt):
        fastmlp.train(X, y, model=model, epochs=10 ** 6, batch_size=BATCH, device=model.device)
    return perf_counter() - pressed[0]


def waits(sizes, device, count):
    """(count,) seconds."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(4000, sizes[0])).astype(np.float32), rng.integers(0, sizes[-1], 4000)
    model = fastmlp.train(X[:2 * BATCH], y[:2 * BATCH], hidden=sizes[1:-1], epochs=1, device=device, seed=0,
                          loss="softmax_cross_entropy")
    return [wait_once(model, X, y, 0.02 + 0.2 * rng.random()) for _ in range(count)]


def main(count):
    logging.getLogger("fastmlp").setLevel(logging.ERROR)         # not a line for each interrupt
    signal.signal(signal.SIGINT, signal.default_int_handler)     # which a shell's background job ignores
    rows = []
    for device, sizes in CASES:
        found = waits(sizes, device, count)
        rows.append({"device": device, "net": "-".join(map(str, sizes)), "interrupts": count,
                     "median": float(np.median(found)), "maximum": max(found)})
        print("{device:10} {net:20} {interrupts} interrupts: median {median:.4f} s, maximum {maximum:.4f} s".format(
            **rows[-1]), flush=True)
    print(json.dumps({"machine": describe(), "bar": BAR, "rows": rows}))
    return any(row["maximum"] > BAR for row in rows)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100))
