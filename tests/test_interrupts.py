"""Ctrl-C at random moments: training returns, with a model and a history that fit each other.

How soon it returns is measured by `python -m bench.interrupts`.
"""
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from toy import DEVICES, PATIENCE, blobs

import fastmlp

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


@DEVICES
def test_ctrl_c_at_random_moments(device, rng, long, tmp_path):
    X, y = blobs(4000, features=40)
    options = {"hidden": (64, 64), "batch_size": 64, "epochs": 10 ** 6, "device": device, "seed": 0,
               "validation_data": (X, y), "early_stopping": 10 ** 6}
    model = fastmlp.train(X, y, **options | {"epochs": 1})
    interrupts, before = 110 if long else 6, 0
    for number in range(interrupts):
        timer = threading.Timer(0.02 + 0.15 * rng.random(), os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        further = {key: value for key, value in options.items() if key not in ("hidden", "dtype")}
        checkpoint = tmp_path / f"run{number}" if number % 2 else None
        try:
            assert fastmlp.train(X, y, model=model, checkpoint=checkpoint, **further) is model
            assert model.history.interrupted
        except KeyboardInterrupt:  # before the first step: nothing to return yet
            assert len(model.history) == before
        timer.join()
        history = model.history
        assert {len(history[name]) for name in history} == {len(history)}
        assert history.epochs == list(range(1, len(history) + 1))
        assert np.isfinite(model.parameters).all()
        assert history.best_epoch is None or 1 <= history.best_epoch <= len(history)
        assert np.isfinite(model.evaluate(X, y)["loss"])
        before = len(history)
    print(f"{device}: {interrupts} interrupts, {before} whole epochs, each time a model and a history that fit")


def test_a_second_ctrl_c_raises(monkeypatch):
    """Pressed again while the first one is being answered."""
    X, y = blobs(60)

    def first(model, numbers):
        raise KeyboardInterrupt

    monkeypatch.setattr(fastmlp.training.run.Run, "_copy_weights", lambda run: first(None, None))
    with pytest.raises(KeyboardInterrupt):
        fastmlp.train(X, y, device="reference", callbacks=first)


def test_an_epoch_that_was_not_added_whole_is_forgotten():
    history = fastmlp.History()
    history.append({"loss": 1.0, "accuracy": 0.5})
    history._columns["loss"].append(2.0)  # Ctrl-C fell between two columns
    history.settle()
    assert history.to_dict() == {"epochs": [1], "loss": [1.0], "accuracy": [0.5]}


def test_ctrl_c_ends_a_script_within_reason():
    """A whole process, from the outside: it returns its model and goes on with the next line."""
    program = """
import fastmlp, numpy as np
X = np.random.default_rng(0).normal(size=(5000, 50)); y = (X[:, 0] > 0)
fastmlp.train(X, y, epochs=1, device="cpu")
model = fastmlp.train(X, y, hidden=(256, 256), epochs=10**6, device="cpu",
                      callbacks=lambda model, numbers: numbers["epoch"] == 1 and print("training", flush=True))
print("interrupted", model.history.interrupted, len(model.predict(X)))
"""
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True,
                             preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    assert child.stdout.readline() == "training\n"
    child.send_signal(signal.SIGINT)
    assert child.communicate(timeout=PATIENCE)[0] == "interrupted True 5000\n"
    assert child.returncode == 0
