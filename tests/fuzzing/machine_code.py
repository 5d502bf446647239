"""Attacks on the cache of machine code: `python tests/fuzzing/machine_code.py save FOLDER ROUNDS START`, and `load`.

FUNCTIONS are as like each other as can be; what each returns says whose code ran.
"""
import os
import sys
import time

import numpy as np

ONE = np.ones(1)
COUNT = 15


def numbered(number):
    def same(x):
        return x[0] + number

    return same


def functions():
    """Fresh dispatchers: each, called with ONE, returns its number plus 1."""
    from fastmlp.kernels.cpu.jit import entry
    return [entry(numbered(number)) for number in range(COUNT)]


def save(folder, rounds, start):
    """Saves all functions to folder/0, folder/1, ...: at every round together with whoever else does so."""
    made = functions()
    for function in made:
        os.environ["FASTMLP_CACHE_DIR"] = os.path.join(folder, f"warm-{os.getpid()}")
        function(ONE)
    for number in range(rounds):
        os.environ["FASTMLP_CACHE_DIR"] = os.path.join(folder, str(number))
        while time.time() < start + 0.1 * number:
            pass
        for function in made:
            (signature, compiled), = function.overloads.items()
            function._cache.save_overload(signature, compiled)


def load(folder, rounds):
    """(right, wrong, missing) functions, of those saved."""
    counts = [0, 0, 0]
    for number in range(rounds):
        os.environ["FASTMLP_CACHE_DIR"] = os.path.join(folder, str(number))
        for expected, function in enumerate(functions()):
            answer = function(ONE)
            found = sum(function.stats.cache_hits.values()) == 1
            counts[1 if answer != expected + 1 else 0 if found else 2] += 1
    return counts


def damages(rng):
    """(name, change of a file's path), for ever: what may become of a file."""
    def content(change):
        def apply(path, others):
            path.write_bytes(change(path.read_bytes()))
        return apply

    def flipped(data):
        data = bytearray(data)
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        return bytes(data)

    def replaced(make):
        def apply(path, others):
            path.unlink()
            make(path)
        return apply

    while True:
        yield "truncated", content(lambda data: data[:rng.integers(len(data))])
        yield "bits flipped", content(flipped)
        yield "another function's", lambda path, others: path.write_bytes(others[0].read_bytes())
        yield "appended to", content(lambda data: data + b"more")
        yield "a piece is missing", content(lambda data: data[:100] + data[100 + rng.integers(1, 50):])
        yield "zeros", content(lambda data: bytes(len(data)))
        yield "empty", content(lambda data: b"")
        yield "another version", content(lambda data: data.replace(b"code 1", b"code 0", 1))
        yield "a length beyond the end", content(lambda data: data[:55] + b"\xff" * 8 + data[63:])
        yield "a pickle", content(lambda data: b"\x80\x04K\x01.")
        yield "two files run together", lambda path, others: path.write_bytes(
            path.read_bytes()[:5000] + others[0].read_bytes()[5000:])
        yield "a folder", replaced(lambda path: path.mkdir())
        yield "a link to itself", replaced(lambda path: path.symlink_to(path.name))
        if hasattr(os, "mkfifo"):
            yield "a named pipe", replaced(os.mkfifo)


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    from fuzzing.machine_code import load, save  # not those of __main__, a module that is another elsewhere

    what, where, times, *begin = sys.argv[1:]
    print(*(save(where, int(times), float(begin[0])) or () if what == "save" else load(where, int(times))))
