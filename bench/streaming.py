"""Rows in a file against rows in memory: seconds of an epoch, and the memory of training on a file of 20 GB.

    python -m bench.streaming speed       labs 1 and 2 on MNIST in float32 and uint8, in windows of 8,192 rows, from a
                                          memory map in the page cache against an array: the clock's and the processor's
                                          seconds of the epochs after the first. Runs alternate; medians are shown
    python -m bench.streaming memory [GB] a sparse float32 file of 20 GB, its last 60,000 rows MNIST: two epochs of
                                          784-10-10; the largest resident memory of this process

The last line is JSON. Memory is read from /proc (Linux).
"""
import json
import re
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

import fastmlp

LAB = {"batch_size": 256, "optimizer": "rmsprop", "activation": "sigmoid", "seed": 0}


def epochs_after_the_first(rows, labels, hidden, window, epochs=4):
    """[(seconds of the clock, of the processor)] of each."""
    ends = []
    fastmlp.train(rows, labels, hidden=hidden, epochs=epochs, window_rows=window, **LAB,
                  callbacks=[lambda *_: ends.append((perf_counter(), process_time()))])
    return np.diff(ends, axis=0).tolist()


def speed(repeats=5):
    images, labels, _, _ = fastmlp.datasets.mnist()
    shown = {}
    with tempfile.TemporaryDirectory() as folder:
        for dtype in ("float32", "uint8"):
            X = images if dtype == "uint8" else (images / 255).astype(np.float32)
            np.save(Path(folder) / f"{dtype}.npy", X)
            stored = np.load(Path(folder) / f"{dtype}.npy", mmap_mode="r")
            for hidden in ((10,), (500,)):
                memory, file = [], []
                for _ in range(int(repeats)):
                    memory += epochs_after_the_first(X, labels, hidden, None)
                    file += epochs_after_the_first(stored, labels, hidden, 8192)
                (clock, processor), (file_clock, file_processor) = (np.median(each, axis=0) for each in (memory, file))
                shown[f"784-{hidden[0]}-10 {dtype}"] = {
                    "memory_s": clock, "file_s": file_clock, "ratio": file_clock / clock,
                    "memory_processor_s": processor, "file_processor_s": file_processor,
                    "processor_ratio": file_processor / processor}
                print(f"784-{hidden[0]}-10 {dtype:8} memory {clock:.3f} s  file {file_clock:.3f} s an epoch: "
                      f"{file_clock / clock:.2f} ×; processor {processor:.3f} s and {file_processor:.3f} s: "
                      f"{file_processor / processor:.2f} ×")
    print(json.dumps(shown))


def memory(gigabytes=20):
    images, labels, _, _ = fastmlp.datasets.mnist()
    rows = int(gigabytes * 1e9) // (4 * 784)
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        X = np.memmap(file.name, np.float32, "w+", shape=(rows, 784))
        X[-60_000:] = images / 255
        y = np.zeros(rows, np.uint8)
        y[-60_000:] = labels
        del images
        started = perf_counter()
        model = fastmlp.train(X, y, hidden=(10,), epochs=2, window_rows=40_000, **LAB)
        seconds = perf_counter() - started
        accuracy = model.evaluate(X[-60_000:], labels)["accuracy"]
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024 / 1e9
    print(f"{gigabytes} GB, {rows:,} rows: {seconds:.0f} s, {peak:.2f} GB resident at most; accuracy on the real rows "
          f"{accuracy:.3f}")
    print(json.dumps({"gigabytes": gigabytes, "rows": rows, "seconds": seconds, "peak_resident_gb": peak}))


if __name__ == "__main__":
    what, *numbers = sys.argv[1:] or ["speed"]
    {"speed": speed, "memory": memory}[what](*map(float, numbers))
