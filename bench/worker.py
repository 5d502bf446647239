"""Every implementation in a process of its own, which the benches speak to through a pipe.

So each has the threads it was given and no others, no library's idle threads or OpenMP runtime meets another's, and
one that crashes takes only its own figures along. A request opens a task (any class here) or calls one of its methods.
"""
import functools
import importlib
import os
import pickle
import subprocess
import sys
import threading
import traceback

from .machine import ROOT, cores

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
# glibc returns large blocks to the system, unless blocks as large were freed before: scikit-learn's epoch of lab 2 took
# 0.9 or 1.4 s by what its process had done until then. Here every process keeps what it frees.
KEEP_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 25), "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}
PATIENCE = 300               # seconds for one request, a peer's compilation included


class PeerError(RuntimeError):
    """A worker died or raised; the message is its traceback."""


class Worker:
    """A process restricted to `threads` cores, and the one task it has open."""

    def __init__(self, threads):
        environment = os.environ | KEEP_FREED_MEMORY
        if threads < cores():
            environment |= dict.fromkeys(THREAD_VARIABLES, str(threads))
        self.process = subprocess.Popen([sys.executable, "-m", "bench.worker", str(threads)], cwd=ROOT, env=environment,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.opened = None

    def open(self, task, *arguments):
        """The task `module:Class` built from the arguments; the one that is open already if it is the same."""
        if self.opened != (task, arguments):
            self.opened = None
            self.ask("open", task, arguments)
            self.opened = task, arguments
        return Remote(self)

    def ask(self, *request):
        watchdog = threading.Timer(PATIENCE, self.process.kill)
        watchdog.start()
        try:
            pickle.dump(request, self.process.stdin)
            self.process.stdin.flush()
            fine, answer = pickle.load(self.process.stdout)
        except (EOFError, BrokenPipeError) as error:
            raise PeerError("the worker's process ended") from error
        finally:
            watchdog.cancel()
        if not fine:
            raise PeerError(answer)
        return answer

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Remote:
    """The open task of a worker, with its methods."""

    def __init__(self, worker):
        self._worker = worker

    def __getattr__(self, method):
        return functools.partial(self._worker.ask, "call", method)


class Here:
    """Instead of a worker when pytest-benchmark profiles: the task runs where the profiler looks."""

    def __init__(self, threads):
        self.opened, self.task = None, None

    def open(self, task, *arguments):
        if self.opened != (task, arguments):
            self.opened, self.task = (task, arguments), build(task, arguments)
        return self.task

    def close(self):
        self.task = None


class Workers:
    """The workers of a session by (implementation, threads), started when first asked for."""

    def __init__(self, kind=Worker):
        self.kind, self.running = kind, {}

    def open(self, name, threads, task, *arguments):
        key = name, threads
        if key in self.running and getattr(self.running[key], "process", None) is not None \
                and self.running[key].process.poll() is not None:
            del self.running[key]
        if key not in self.running:
            self.running[key] = self.kind(threads)
        return self.running[key].open(task, *arguments)

    def close(self):
        for worker in self.running.values():
            worker.close()
        self.running = {}


def build(task, arguments):
    module, _, name = task.partition(":")
    return getattr(importlib.import_module(module), name)(*arguments)


def restrict(threads):
    """The last `threads` of our cores: the first has most of the machine's interrupts."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])


def serve(requests, answers):
    task = None
    while True:
        try:
            verb, *arguments = pickle.load(requests)
        except EOFError:
            return
        try:
            if verb == "open":
                task = None                  # its memory goes before the next one's is taken
                task, answer = build(*arguments), None
            else:
                answer = getattr(task, arguments[0])(*arguments[1:])
            reply = True, answer
        except Exception:
            reply = False, traceback.format_exc()
        pickle.dump(reply, answers)
        answers.flush()


if __name__ == "__main__":
    restrict(int(sys.argv[1]))
    to_parent = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)                            # whatever a library prints must not mix with the answers
    serve(sys.stdin.buffer, to_parent)
