"""Signals and forks that wait: imports, above all, are finished before Ctrl-C is answered or the process forks.

A KeyboardInterrupt in the middle of importing NumPy or Numba leaves modules that neither work nor can be imported again
in that process. Not only Ctrl-C does it: the handler of any signal may raise.
"""
import concurrent.futures.thread  # noqa: F401  (see below)
import contextlib
import importlib
import logging  # noqa: F401  (see below)
import os
import signal
import sys
import threading
import time

_delaying = False


@contextlib.contextmanager
def delayed():
    """Inside, Python's handlers of signals do not run; they run at its end. For work of a second or so, in the main
    thread: in others no handler ever runs."""
    with contextlib.ExitStack() as after:
        if not _delaying:
            _delay(after)
        yield


def _delay(after):
    """Signals only note that they arrived, until the ExitStack `after` closes."""
    global _delaying
    handlers, arrived = {}, []

    def note(number, frame):
        arrived.append(number)

    def restore(number):
        if signal.getsignal(number) is note:           # what was imported may have put its own
            signal.signal(number, handlers[number])

    def answer():
        global _delaying
        _delaying = False
        with contextlib.ExitStack() as every:          # one handler that raises does not keep the others from running
            for number in reversed(arrived):
                every.callback(handlers[number], number, sys._getframe())

    after.callback(answer)
    # Ctrl-C is the first to wait and the last to be let through.
    for number in sorted(signal.valid_signals(), key=lambda number: number != signal.SIGINT):
        if callable(handler := signal.getsignal(number)):
            handlers[number] = handler
            after.callback(restore, number)
            try:
                signal.signal(number, note)
            except ValueError:                         # this is not the main thread
                return
            _delaying = True


@contextlib.contextmanager
def importing():
    """For imports: signals and forks of other threads wait until it ends."""
    me = threading.get_ident()
    with delayed():
        if me not in _importing:
            with _gate:                                # not while another thread forks
                _importing.append(me)
        else:
            _importing.append(me)
        try:
            yield
        finally:
            _importing.remove(me)


def import_module(name, package=None):
    """importlib.import_module, whole."""
    with importing():
        return importlib.import_module(name, package)


# ------------------------------------------------------------------------------- forks

# A child forked while another thread imports finds the module half imported for ever; while another thread compiles,
# the compiler's locks taken by a thread that it does not have. So a fork waits for both, at most as long as compiling
# may take. What runs before a fork runs in reverse order: logging and concurrent.futures take locks then, which those
# threads may need, so they are imported before this module is registered.
FORK_SECONDS = 120
_importing = []                                        # the threads that import something of ours
_gate = threading.Lock()
_locks, _held = [_gate], []


def hold_over_forks(*locks):
    """These locks are taken before a fork, and free after it in parent and child."""
    _locks.extend(locks)


def _before_fork():
    deadline, me = time.monotonic() + FORK_SECONDS, threading.get_ident()
    for lock in _locks:                                # grows while we wait: the compiler may be what is imported
        if lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            _held.append(lock)
        while any(thread != me for thread in _importing) and time.monotonic() < deadline:
            time.sleep(0.005)


def _after_fork():
    while _held:
        _held.pop().release()


def _in_child():
    _importing[:] = [thread for thread in _importing if thread == threading.get_ident()]
    _after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
