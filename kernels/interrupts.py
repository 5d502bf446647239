"""Signals that wait: what must not be left half done, above all imports, is finished before Ctrl-C is answered.

A KeyboardInterrupt in the middle of importing NumPy or Numba leaves modules that neither work nor can be imported again
in that process. Not only Ctrl-C does it: the handler of any signal may raise.
"""
import contextlib
import importlib
import signal
import sys

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


def import_module(name, package=None):
    """importlib.import_module, whole."""
    with delayed():
        return importlib.import_module(name, package)
