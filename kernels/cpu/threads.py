"""Threads: how many, and how they keep step inside compiled code.

A `Team` is the calling thread and its helpers, all running the same compiled function without the GIL, once per
chunk of training steps. Inside, they share work through counters (`take`) and wait at `barrier`: two barriers
a step, no call into a threading layer, nothing compiled with parallel=True. So any number of Python threads may
train at once, a forked child starts helpers of its own, and OpenMP, TBB and workqueue play no part. Where no helpers
can be had, the caller does all of the work: the same bits, later.

A waiting thread spins for some microseconds, then gives its core to whoever wants it.
"""
import _thread
import logging
import os
import sys
from _queue import Empty, SimpleQueue  # not from queue, where gevent puts its own

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..cores import available_cores
from .jit import inlined, outlined

log = logging.getLogger("fastmlp")

# Words of the control array, two cache lines apart so that two never share one.
ARRIVED, GENERATION, ROWS_TAKEN, WEIGHTS_TAKEN, STOP = range(0, 80, 16)
CONTROL_WORDS = 80
SPINS = 64                   # about 3 µs with the pause instruction, then yield: a busy neighbour needs the core

# Below this much arithmetic a step, its two barriers (some 15 µs) cost more than a second core can bring.
SERIAL_FLOPS = 3e6


# ------------------------------------------------------------------------------- atomics

def _word(context, builder, array_type, array, index):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


@intrinsic
def atomic_load(typingctx, array, index):
    def codegen(context, builder, sig, args):
        return builder.load_atomic(_word(context, builder, sig.args[0], args[0], args[1]), "acquire", 8)

    return types.int64(array, types.intp), codegen


@intrinsic
def atomic_store(typingctx, array, index, value):
    def codegen(context, builder, sig, args):
        builder.store_atomic(args[2], _word(context, builder, sig.args[0], args[0], args[1]), "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), codegen


@intrinsic
def atomic_add(typingctx, array, index, value):
    """Adds, and returns what was there before."""

    def codegen(context, builder, sig, args):
        return builder.atomic_rmw("add", _word(context, builder, sig.args[0], args[0], args[1]), args[2], "acq_rel")

    return types.int64(array, types.intp, types.int64), codegen


def _declare(builder, name, *arguments):
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), arguments), name)


@intrinsic
def pause(typingctx):
    """Tells the core that this is a spin loop."""

    def codegen(context, builder, sig, args):
        triple = builder.module.triple
        if triple.startswith(("x86_64", "i686")):
            builder.call(_declare(builder, "llvm.x86.sse2.pause"), [])
        elif triple.startswith(("aarch64", "arm64")):
            builder.call(_declare(builder, "llvm.aarch64.hint", ir.IntType(32)), [ir.Constant(ir.IntType(32), 1)])
        return context.get_dummy_value()

    return types.void(), codegen


_give_way = types.ExternalFunction("SwitchToThread" if sys.platform == "win32" else "sched_yield", types.int32())


# ------------------------------------------------------------------------------- inside compiled code

@inlined
def take(control, counter):
    """The next piece of work nobody has taken."""
    return atomic_add(control, counter, 1)


@outlined
def barrier(control, threads):
    """Waits for the whole team and returns the work counters to zero. False: the team was told to stop."""
    generation = atomic_load(control, GENERATION)
    if atomic_add(control, ARRIVED, 1) == threads - 1:
        atomic_store(control, ARRIVED, 0)
        atomic_store(control, ROWS_TAKEN, 0)
        atomic_store(control, WEIGHTS_TAKEN, 0)
        atomic_store(control, GENERATION, generation + 1)
        return True
    spins = 0
    while atomic_load(control, GENERATION) == generation:
        if atomic_load(control, STOP) != 0:
            return False
        spins += 1
        if spins < SPINS:
            pause()
        else:
            _give_way()
    return True


# ------------------------------------------------------------------------------- outside

def choose_threads(n_threads, flops):
    """`n_threads` if given; else all available cores, or one where a step's `flops` are too few to share."""
    if n_threads is not None:
        return n_threads
    return available_cores() if flops >= SERIAL_FLOPS else 1


class Pace:
    """All threads or one? By what the last chunks took, so that a busy neighbour never makes threads a loss.

    The bits are the same either way. Now and then the other choice gets a turn, as neighbours come and go: soon at
    first, when buffers and helpers are cold and one bad chunk decides.
    """

    PROBE_EVERY = 32             # chunks of 20 ms or less: a wrong choice lasts half a second, a probe costs 3 %
    EARLY_PROBES = (2, 4, 8, 16)
    TRIES = 2                    # of each choice, in turn, before the first comparison: the first chunk of all is cold

    def __init__(self, threads):
        self._choices = {threads: [], 1: []}
        self._chunks = 0

    def choose(self):
        """Threads for the next chunk."""
        least_tried = min(self._choices, key=lambda threads: len(self._choices[threads]))
        if len(self._choices[least_tried]) < self.TRIES:
            return least_tried
        self._chunks += 1
        best = min(self._choices, key=lambda threads: min(self._choices[threads]))
        others = [threads for threads in self._choices if threads != best]
        probes = self._chunks % self.PROBE_EVERY == 0 or self._chunks in self.EARLY_PROBES
        return others[0] if others and probes else best

    def record(self, threads, seconds_per_step):
        """What a chunk took; the last TRIES of each choice count."""
        self._choices[threads] = [*self._choices[threads], seconds_per_step][-self.TRIES:]


START_SECONDS = 10           # within which a helper that was started must be running
_no_helpers = ""             # why none are started any more: they were, and did not run


def _system_threads():
    """start_new_thread of the operating system's threads. gevent and eventlet put greenlets instead of them, which run
    only when their neighbours let them: a helper that spins at a barrier lets nobody."""
    if "gevent.monkey" in sys.modules:
        return sys.modules["gevent.monkey"].get_original("_thread", "start_new_thread")
    if "eventlet.patcher" in sys.modules:
        return sys.modules["eventlet.patcher"].original("_thread").start_new_thread
    return _thread.start_new_thread


class _Task:
    """A call that a helper is to make. `bell` gets an item when it is `done`; `error` is what it raised."""

    def __init__(self, function, arguments):
        self.function, self.arguments = function, arguments
        self.bell, self.done, self.error = SimpleQueue(), False, None

    def run(self):
        try:
            self.function(*self.arguments)
        except BaseException as error:
            self.error = error
        self.done = True
        self.bell.put(None)

    def wait(self):
        # Ctrl-C may come after the bell was heard: whoever then waits again looks before he listens.
        while not self.done:
            self.bell.get()


def _help(tasks, running, ended, bell):
    """What a helper does. It knows nothing of `_Helpers`, whose end is its own."""
    running.put(_thread.get_native_id())
    while (task := tasks.get()) is not None:
        task.run()
        del task                                       # and with it the arrays
    ended.append(None)
    bell.put(None)


class _Helpers:
    """`count` threads that wait for tasks. RuntimeError if they cannot be started, or are none of the system's."""

    def __init__(self, count):
        self.pid, self._count, self._tasks = os.getpid(), 0, SimpleQueue()
        self._ended, self._bell = [], SimpleQueue()
        running, start = SimpleQueue(), _system_threads()
        try:
            for _ in range(count):
                self._count += 1                       # first: to end one too many does no harm
                start(_help, (self._tasks, running, self._ended, self._bell))
            if _thread.get_native_id() in {running.get(timeout=START_SECONDS) for _ in range(count)}:
                raise RuntimeError("what is started as a thread is none")
        except Empty:
            raise TimeoutError(f"threads that were started did not run within {START_SECONDS} s") from None

    def submit(self, function, *arguments):
        task = _Task(function, arguments)
        self._tasks.put(task)
        return task

    def end(self):
        """Every helper ends when it has done what it was given."""
        if self.pid == os.getpid():                    # in a forked child there are none
            for _ in range(self._count):
                self._tasks.put(None)

    def shutdown(self):
        """Ends the helpers, and waits for it."""
        self.end()
        while len(self._ended) < self._count:
            self._bell.get()

    def __del__(self):
        if os is not None and os.getpid is not None:   # the interpreter may be on its way out
            self.end()


class Team:
    """`threads` threads, of which the caller is number 0. A context manager: leaving it ends the helpers."""

    def __init__(self, threads):
        self.threads = threads
        self.control = np.zeros(CONTROL_WORDS, np.int64)
        self._helpers, self._alone = None, False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._helpers and self._helpers.pid == os.getpid():
            self._helpers.shutdown()
        self._helpers = None

    def _find_helpers(self):
        """Whether there are helpers, started now if need be."""
        global _no_helpers
        if self._helpers is not None and self._helpers.pid != os.getpid():
            self._helpers = None                       # of the process that we were forked from
        if self._helpers is None and not self._alone and not _no_helpers:
            try:
                self._helpers = _Helpers(self.threads - 1)
            except (RuntimeError, TimeoutError, MemoryError) as error:
                self._alone = True
                if isinstance(error, TimeoutError):
                    _no_helpers = str(error)
                log.warning("no helper threads (%s): one thread does all the work, to the same result", error)
        return self._helpers is not None

    def run(self, function, *arguments, threads=None):
        """Runs function(thread, threads, control, *arguments) on every thread, or on the first `threads`; returns
        when all have finished.

        An exception in the caller, Ctrl-C before it entered compiled code above all, releases helpers that wait for it.
        """
        threads = threads or self.threads
        # Once the interpreter is being finalized its other threads cannot run Python.
        if threads == 1 or sys.is_finalizing() or not self._find_helpers():
            function(0, 1, self.control, *arguments)
            return
        self.control[:] = 0
        tasks, finished = [], False
        try:
            for thread in range(1, threads):
                tasks.append(self._helpers.submit(function, thread, threads, self.control, *arguments))
            function(0, threads, self.control, *arguments)
            finished = True
        finally:
            self._settle(tasks, finished)

    def _settle(self, tasks, finished):
        """Waits for the helpers. Ctrl-C waits with us: nobody may work on buffers that the caller has let go.

        If the caller did not finish, the helpers end: Ctrl-C may have come after one was given its task and before that
        was noted.
        """
        interrupt = None
        while True:
            try:
                if finished:
                    for task in tasks:
                        task.wait()
                else:
                    self.control[STOP] = 1
                    self._helpers.shutdown()
                break
            except KeyboardInterrupt as error:
                interrupt = error
        if not finished:
            self.control, self._helpers = np.zeros(CONTROL_WORDS, np.int64), None
        if interrupt is not None:
            raise interrupt
        for task in tasks:
            if task.error is not None:
                raise task.error
