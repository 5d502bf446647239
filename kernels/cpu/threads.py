"""Threads: how many, and how they keep step inside compiled code.

A `Team` is the calling thread and its helpers, all running the same compiled function without the GIL, once per
chunk of training steps. Inside, they share work through counters (`take`) and meet at `barrier`: two meetings
a step, no call into a threading layer, nothing compiled with parallel=True. So any number of Python threads may
train at once, a forked child starts helpers of its own, and OpenMP, TBB and workqueue play no part.

A waiting thread spins for some microseconds, then gives its core to whoever wants it.
"""
import os
import sys
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import inlined, outlined

# Words of the control array, two cache lines apart so that two never share one.
ARRIVED, GENERATION, ROWS_TAKEN, WEIGHTS_TAKEN, STOP = range(0, 80, 16)
CONTROL_WORDS = 80
SPINS = 64                   # about 3 µs with the pause instruction, then yield: a busy neighbour needs the core

# Below this much arithmetic a step, its two meetings (some 15 µs) cost more than a second core can bring.
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

def available_cores():
    """Cores this process may use: its affinity, cut by FASTMLP_NUM_THREADS, OMP_NUM_THREADS or NUMBA_NUM_THREADS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for name in ("FASTMLP_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        limit = os.environ.get(name, "")
        if limit.isdigit() and int(limit) > 0:
            cores = min(cores, int(limit))
    return cores


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


class Team:
    """`threads` threads, of which the caller is number 0. A context manager: leaving it ends the helpers."""

    def __init__(self, threads):
        self.threads = threads
        self.control = np.zeros(CONTROL_WORDS, np.int64)
        self._helpers = self._new_helpers()

    def _new_helpers(self):
        return ThreadPoolExecutor(self.threads - 1, "fastmlp") if self.threads > 1 else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._helpers:
            self._helpers.shutdown()

    def run(self, function, *arguments, threads=None):
        """Runs function(thread, threads, control, *arguments) on every thread, or on the first `threads`; returns
        when all have finished.

        An exception in the caller, Ctrl-C before it entered compiled code above all, releases helpers that wait for it.
        """
        threads = threads or self.threads
        if threads == 1:
            function(0, 1, self.control, *arguments)
            return
        self.control[:] = 0
        futures, finished = [], False
        try:
            for thread in range(1, threads):
                futures.append(self._helpers.submit(function, thread, threads, self.control, *arguments))
            function(0, threads, self.control, *arguments)
            finished = True
        finally:
            self._settle(futures, finished)

    def _settle(self, futures, finished):
        """Waits for the helpers. Ctrl-C waits with us: nobody may work on buffers that the caller has let go.

        If the caller did not finish, the helpers end: Ctrl-C may have come after one was started and before it was
        noted among the futures.
        """
        interrupt = None
        while True:
            try:
                if finished:
                    wait(futures)
                else:
                    self.control[STOP] = 1
                    self._helpers.shutdown()
                break
            except KeyboardInterrupt as error:
                interrupt = error
        if not finished:
            self.control, self._helpers = np.zeros(CONTROL_WORDS, np.int64), self._new_helpers()
        if interrupt is not None:
            raise interrupt
        for future in futures:
            future.result()
