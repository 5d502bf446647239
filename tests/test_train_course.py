"""The course of training: validation, stopping, going on, divergence, Ctrl-C, and what is shown of it."""
import logging
import os
import signal
import threading
import time

import numpy as np
import pytest
from toy import DEVICES, QUICK, blobs, waves

import fastmlp


# ---------------------------------------------------------------------------------------------- validation and stopping
@DEVICES
def test_validation_is_what_evaluate_says(device):
    X, y = blobs()
    model = fastmlp.train(X[:200], y[:200], validation_data=(X[200:], y[200:]), **QUICK | {"device": device})
    numbers = model.evaluate(X[200:], y[200:])
    np.testing.assert_allclose(model.history["val_loss"][-1], numbers["loss"], rtol=1e-5)
    assert model.history["val_accuracy"][-1] == numbers["accuracy"]
    weights = np.linspace(0, 1, 40)
    model = fastmlp.train(X[:200], y[:200], validation_data=(X[200:], y[200:], weights), **QUICK | {"device": device})
    np.testing.assert_allclose(model.history["val_loss"][-1], model.evaluate(X[200:], y[200:], weights)["loss"],
                               rtol=1e-5)


@DEVICES
def test_early_stopping_restores_the_best_epoch(device):
    X, y = waves(60)
    noisy = y + np.random.default_rng(0).normal(size=len(y)).astype(np.float32)
    settings = {"hidden": 64, "learning_rate": 0.02, "epochs": 500, "batch_size": 8, "seed": 2, "device": device,
                "validation_data": waves(100, seed=1)}
    model = fastmlp.train(X, noisy, early_stopping=4, **settings)
    history = model.history
    assert history.stopped == "early_stopping"
    assert history.best_epoch == len(history) - 4 == np.argmin(history["val_loss"]) + 1
    np.testing.assert_allclose(model.evaluate(*waves(100, seed=1))["loss"], min(history["val_loss"]), rtol=1e-5)

    rule = fastmlp.EarlyStopping(patience=4, restore_best=False)
    last = fastmlp.train(X, noisy, early_stopping=rule, **settings)
    np.testing.assert_allclose(last.evaluate(*waves(100, seed=1))["loss"], last.history["val_loss"][-1], rtol=1e-5)
    assert last.history.best_epoch is None


def test_early_stopping_by_other_numbers():
    X, y = blobs()
    rule = fastmlp.EarlyStopping(patience=2, monitor="accuracy", min_delta=1.0)
    assert len(fastmlp.train(X, y, early_stopping=rule, **QUICK | {"epochs": 50}).history) == 3
    rule = fastmlp.EarlyStopping(patience=50, monitor="loss")
    model = fastmlp.train(X, y, early_stopping=rule, **QUICK | {"epochs": 5})
    assert model.history.stopped is None
    assert model.history.best_epoch == np.argmin(model.history["loss"]) + 1


@DEVICES
def test_callbacks_see_the_model_and_may_stop(device):
    X, y = blobs()
    seen = []

    def callback(model, numbers):
        seen.append((numbers, model.evaluate(X, y)["loss"]))
        return numbers["epoch"] == 3

    model = fastmlp.train(X, y, validation_data=(X, y), callbacks=[callback, lambda *_: None],
                          **QUICK | {"epochs": 9, "device": device})
    assert [numbers["epoch"] for numbers, _ in seen] == [1, 2, 3]
    assert set(seen[0][0]) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds"}
    np.testing.assert_allclose([loss for _, loss in seen], model.history["val_loss"], rtol=1e-5)
    assert model.history.stopped == "callback"


@DEVICES
def test_a_callback_that_raises_leaves_the_model_usable(device):
    X, y = blobs()
    model = fastmlp.train(X, y, **QUICK | {"device": device})

    def broken(model, numbers):
        if numbers["epoch"] == 4:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fastmlp.train(X, y, model=model, callbacks=broken, epochs=9, device=device)
    assert model.history.epochs == [1, 2, 3, 4]
    np.testing.assert_allclose(model.evaluate(X, y)["accuracy"], model.history["accuracy"][-1], atol=0.2)
    assert np.isfinite(model.parameters).all()


# ---------------------------------------------------------------------------------------------- going on
@DEVICES
@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "rmsprop", "adam"])
def test_training_goes_on_where_it_stopped(optimizer, device):
    X, y = blobs(60)
    settings = QUICK | {"batch_size": 1000, "dtype": "float64", "device": device, "optimizer": optimizer}
    whole = fastmlp.train(X, y, **settings | {"epochs": 10})
    parts = fastmlp.train(X, y, **settings | {"epochs": 4})
    assert fastmlp.train(X, y, model=parts, epochs=6, batch_size=1000, optimizer=optimizer, device=device) is parts
    np.testing.assert_allclose(parts.parameters, whole.parameters, rtol=1e-7, atol=1e-10)
    assert parts.history.epochs == list(range(1, 11))
    np.testing.assert_allclose(parts.history["loss"], whole.history["loss"], rtol=1e-9)


def test_going_on_with_another_optimizer_starts_it_anew():
    X, y = blobs(60)
    model = fastmlp.train(X, y, **QUICK)
    fastmlp.train(X, y, model=model, optimizer="rmsprop", epochs=1, batch_size=60, device="reference")
    assert model.optimizer_state.step == 1


def test_going_on_with_and_without_validation_keeps_the_columns_aligned():
    X, y = blobs()
    model = fastmlp.train(X, y, **QUICK)
    fastmlp.train(X, y, model=model, validation_data=(X, y), epochs=1, device="reference")
    fastmlp.train(X, y, model=model, epochs=1, device="reference")
    assert np.isnan(model.history["val_loss"]).tolist() == [True, True, False, True]
    assert len(model.history["loss"]) == 4


def test_going_on_with_fewer_labels_and_a_loaded_model(tmp_path):
    X, y = blobs()
    model = fastmlp.train(X, y, **QUICK)
    model.save(tmp_path / "m.safetensors")
    loaded = fastmlp.load(tmp_path / "m.safetensors")
    fastmlp.train(X[y < 2], y[y < 2], model=loaded, epochs=1, device="reference")
    assert loaded.sizes[-1] == 3


def test_the_same_seed_holds_out_the_same_rows_again():
    X, y = blobs()
    settings = {"validation_fraction": 0.25, "seed": 7, "device": "reference", "optimizer": "sgd",
                "learning_rate": 1e-12}
    model = fastmlp.train(X, y, hidden=8, epochs=1, **settings)
    fastmlp.train(X, y, model=model, epochs=1, **settings)
    np.testing.assert_allclose(*model.history["val_loss"], rtol=1e-6)


# ---------------------------------------------------------------------------------------------- things that go wrong
@DEVICES
@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
def test_divergence_raises_with_the_last_finite_model(device):
    X, y = waves()
    where = r"epoch 1, step \d+ of \d+: .*learning_rate \(now 1e\+20\)"
    with pytest.raises(fastmlp.DivergedError, match=where) as caught:
        fastmlp.train(X, y, optimizer="sgd", learning_rate=1e20, **QUICK | {"device": device})
    assert isinstance(caught.value, FloatingPointError)
    assert np.isfinite(caught.value.model.predict(X)).all()

    model = fastmlp.train(X, y, **QUICK | {"device": device})
    before = model.parameters.copy()
    with pytest.raises(fastmlp.DivergedError):
        fastmlp.train(X, y, model=model, optimizer="sgd", learning_rate=1e20, batch_size=32, device=device)
    np.testing.assert_array_equal(model.parameters, before)
    assert len(model.history) == 2


@DEVICES
def test_interrupt_returns_the_model(device, caplog):
    X, y = blobs()

    def ctrl_c(model, numbers):
        if numbers["epoch"] == 2:
            raise KeyboardInterrupt

    model = fastmlp.train(X, y, callbacks=ctrl_c, **QUICK | {"epochs": 9, "device": device})
    assert model.history.interrupted
    assert len(model.history) == 2
    assert "interrupted after 2 of 9 epochs" in caplog.text
    fastmlp.train(X, y, model=model, epochs=1, device=device)
    assert not model.history.interrupted


@DEVICES
@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_ctrl_c_acts_in_the_middle_of_an_epoch(device):
    """Of a single epoch, of 20,000 steps that take seconds; how soon is measured by `python -m bench.interrupts`."""
    X, y = blobs(20_000, features=64)

    def press_soon(steps, total_steps, steps_per_epoch):  # the epoch begins
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        return np.ones(len(steps))

    model = fastmlp.train(X, y, hidden=(512, 512), epochs=1, batch_size=1, schedule=press_soon, seed=0, device=device)
    assert (model.history.interrupted, len(model.history)) == (True, 0)
    assert np.isfinite(model.predict_proba(X[:10])).all()


# ---------------------------------------------------------------------------------------------- what is shown
def test_lines_of_the_lecture(capsys):
    X, y = blobs()
    model = fastmlp.train(X, y, verbose=2, validation_data=(X, y), **QUICK)
    out = capsys.readouterr().out.splitlines()
    h = model.history
    for e in range(2):
        assert out[2 * e] == f"Epoch {e + 1}/2"
        assert out[2 * e + 1] == (
            f"8/8 - {h['seconds'][e]:.0f}s - loss: {h['loss'][e]:.4f} - accuracy: {h['accuracy'][e]:.4f} - "
            f"val_loss: {h['val_loss'][e]:.4f} - val_accuracy: {h['val_accuracy'][e]:.4f}")


def test_bar_and_silence(capsys):
    X, y = blobs()
    fastmlp.train(X, y, **QUICK)
    silent = capsys.readouterr()
    assert (silent.out, silent.err) == ("", "")
    fastmlp.train(X, y, verbose=1, **QUICK)
    shown = capsys.readouterr()
    assert "2/2" in shown.err
    assert "loss=" in shown.err
    assert shown.out == ""


def test_log_names_the_device(caplog, monkeypatch):
    X, y = blobs()
    monkeypatch.setenv("FASTMLP_DEVICE", "reference")
    with caplog.at_level(logging.INFO, "fastmlp"):
        fastmlp.train(X, y, **QUICK | {"device": "auto"})
    assert "device: reference (named by FASTMLP_DEVICE)" in caplog.text


def test_history_counts_time_and_plots():
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    matplotlib.use("agg")
    X, y = blobs()
    started = time.perf_counter()
    history = fastmlp.train(X, y, validation_data=(X, y), **QUICK).history
    assert 0 < sum(history["seconds"]) <= history.duration <= time.perf_counter() - started
    ax = history.plot()
    assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == ("Model loss", "Epoch", "Loss")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["Train", "Test"]
    assert list(ax.lines[1].get_ydata()) == history["val_loss"]
    ax = fastmlp.train(X, y, **QUICK).history.plot(ax=matplotlib.figure.Figure().add_subplot())
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["Train"]
    assert history.to_dict()["epochs"] == [1, 2]
