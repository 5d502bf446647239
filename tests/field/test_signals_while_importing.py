"""Ctrl-C in the first second of a session, in which NumPy and Numba are imported."""
import signal
import subprocess
import sys

import numpy as np
import pytest
from toy import PATIENCE

from fastmlp.kernels import interrupts

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")

PROGRAM = """
import signal, sys, fastmlp
X, y = [[0.0], [1.0]] * 20, [0, 1] * 20
signal.signal(signal.SIGALRM, signal.default_int_handler)
try:
    signal.setitimer(signal.ITIMER_REAL, float(sys.argv[1]))
    {first}
    signal.setitimer(signal.ITIMER_REAL, 0)
except KeyboardInterrupt:
    print("interrupted")
else:
    print("finished")
for _ in range(2):
    print(len(fastmlp.train(X, y, epochs=1, device="cpu").history))
"""


@pytest.mark.parametrize("first", [
    'fastmlp.train(X, y, epochs=1, device="cpu")', "from fastmlp.kernels.cpu import dense_forward", "fastmlp.info()"])
def test_the_session_goes_on(first, long):
    """Half imported, NumPy says "cannot load module more than once per process", and Numba recurses without end."""
    outcomes = []
    for moment in np.linspace(0.01, 0.9, 20 if long else 4):
        child = subprocess.run([sys.executable, "-c", PROGRAM.format(first=first), str(moment)], capture_output=True,
                               text=True, timeout=PATIENCE)
        outcome, *trained = child.stdout.split()
        assert trained == ["1", "1"], (moment, child.stderr)
        outcomes.append(outcome)
    print(f"\n{len(outcomes)} moments: {outcomes.count('interrupted')} interrupted, each time the session went on")


def test_signals_wait_and_are_answered():
    answers = []
    before = {number: signal.signal(number, lambda number, frame: answers.append(number))
              for number in (signal.SIGUSR1, signal.SIGUSR2)}
    try:
        with interrupts.delayed():
            signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGUSR2)
            with interrupts.delayed():
                signal.raise_signal(signal.SIGUSR1)
            assert answers == []
        assert answers == [signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1]

        def interrupted():
            with interrupts.delayed():
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGUSR1)

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert len(answers) == 4
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_handler_that_was_put_while_signals_waited_stays():
    before = signal.getsignal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, signal.default_int_handler)
    try:
        with interrupts.delayed():
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, before)
