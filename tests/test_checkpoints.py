"""A run that is killed and resumed ends with the bits of one that was not; a checkpoint of another run is refused."""
import functools
import inspect
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from toy import DEVICES, QUICK, blobs, waves

import fastmlp

X, Y = blobs()
NUMBERS = waves(240)[1]
VARIANTS = {
    "plain": {}, "sgd": {"optimizer": "sgd"}, "two slots": {"optimizer": "adamw", "dtype": "float64"},
    "numbers": {"y": NUMBERS, "optimizer": "nesterov"},
    "everything": {"dropout": 0.3, "validation_fraction": 0.2, "early_stopping": 9, "schedule": "cosine", "l2": 1e-3,
                   "class_weight": "balanced", "sample_weight": np.linspace(1, 2, 240), "hidden": (9, 7)},
    "stops": {"early_stopping": fastmlp.EarlyStopping(patience=2, monitor="accuracy", min_delta=0.5)},
    "other rows": {"validation_data": (X[::3], Y[::3], np.linspace(1, 2, 80)), "early_stopping": 2, "batch_size": 7},
}


class Killed(Exception):
    pass


def settings_of(variant, device):
    options = QUICK | {"epochs": 7, "device": device} | VARIANTS[variant]
    return options.pop("y", Y), options


def killer(*epochs):
    """A callback that dies in each of these epochs, once."""
    left = list(epochs)

    def callback(model, numbers):
        if left and numbers["epoch"] == left[0]:
            left.pop(0)
            raise Killed

    return callback


def course(model):
    """The history but its times."""
    history = model.history
    columns = {name: column for name, column in history.to_dict().items() if name != "seconds"}
    return json.dumps([columns, history.stopped, history.best_epoch, history.interrupted])


def assert_same(model, expected):
    np.testing.assert_array_equal(model.parameters, expected.parameters)
    assert course(model) == course(expected)
    assert model.seed == expected.seed
    for name in ("rule", "step", "s1", "s2"):
        np.testing.assert_array_equal(getattr(model.optimizer_state, name), getattr(expected.optimizer_state, name))


@DEVICES
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_resumed_run_ends_with_the_same_bits(variant, device, tmp_path):
    y, options = settings_of(variant, device)
    path = tmp_path / "run.safetensors"
    expected = fastmlp.train(X, y, **options)
    dying = killer(1, 3, 3)
    for _ in range(3):
        with pytest.raises(Killed):
            fastmlp.train(X, y, checkpoint=path, callbacks=dying, **options)
    seen = []
    model = fastmlp.train(X, y, checkpoint=str(path), callbacks=lambda _, numbers: seen.append(numbers["epoch"]),
                          **options)
    assert seen == list(range(3, len(expected.history) + 1))
    assert_same(model, expected)
    assert sum(model.history["seconds"]) <= model.history.duration
    assert os.listdir(tmp_path) == ["run.safetensors"]
    again = fastmlp.train(X, y, checkpoint=path, callbacks=dying, **options)  # finished: no epoch is run
    assert_same(again, expected)


@DEVICES
def test_ctrl_c_resumes_from_the_last_whole_epoch(device, tmp_path):
    y, options = settings_of("everything", device)

    def ctrl_c(model, numbers):
        if numbers["epoch"] == 4:
            raise KeyboardInterrupt

    assert fastmlp.train(X, y, checkpoint=tmp_path / "run", callbacks=ctrl_c, **options).history.interrupted
    assert_same(fastmlp.train(X, y, checkpoint=tmp_path / "run", **options), fastmlp.train(X, y, **options))


def test_a_model_trained_further_resumes_too(tmp_path):
    def begun():
        return fastmlp.train(X, Y, **QUICK)

    options = {"epochs": 5, "seed": 3, "device": "reference"}
    expected = fastmlp.train(X, Y, model=begun(), **options)
    with pytest.raises(Killed):
        fastmlp.train(X, Y, model=begun(), checkpoint=tmp_path / "run", callbacks=killer(5), **options)
    assert_same(fastmlp.train(X, Y, model=begun(), checkpoint=tmp_path / "run", **options), expected)


def test_without_a_seed_the_run_keeps_the_one_it_drew(tmp_path):
    options = QUICK | {"seed": None, "epochs": 4}
    with pytest.raises(Killed):
        fastmlp.train(X, Y, checkpoint=tmp_path / "run", callbacks=killer(3), **options)
    model = fastmlp.train(X, Y, checkpoint=tmp_path / "run", **options)
    np.testing.assert_array_equal(model.parameters, fastmlp.train(X, Y, **options | {"seed": model.seed}).parameters)


def test_a_callback_that_stopped_the_run_stopped_it(tmp_path):
    first = fastmlp.train(X, Y, checkpoint=tmp_path / "run", callbacks=lambda *_: True, **QUICK | {"epochs": 9})
    again = fastmlp.train(X, Y, checkpoint=tmp_path / "run", **QUICK | {"epochs": 9})
    assert (len(again.history), again.history.stopped) == (1, "callback")
    np.testing.assert_array_equal(again.parameters, first.parameters)


def test_weights_changed_by_a_callback_are_in_neither_checkpoint_nor_model(tmp_path):
    """The last epoch's callback rounded the weights that were returned, and the checkpoint those that were resumed."""
    def rounds(model, numbers):
        model.parameters[:] = np.round(model.parameters, 1)

    options = QUICK | {"epochs": 4}
    plain = fastmlp.train(X, Y, **options)
    with pytest.raises(Killed):
        fastmlp.train(X, Y, checkpoint=tmp_path / "run", callbacks=[rounds, killer(3)], **options)
    for checkpoint in (None, tmp_path / "run"):
        model = fastmlp.train(X, Y, checkpoint=checkpoint, callbacks=rounds, **options)
        np.testing.assert_array_equal(model.parameters, plain.parameters)


def test_two_schedules_of_one_name_are_two_runs(tmp_path):
    """functools.partial of one function, or a lambda of the same line: compared by its learning rates."""
    def decay(steps, total_steps, steps_per_epoch, by):
        return by ** (steps / steps_per_epoch)

    half, third = functools.partial(decay, by=0.5), functools.partial(decay, by=1 / 3)
    fastmlp.train(X, Y, checkpoint=tmp_path / "run", schedule=half, **QUICK)
    fastmlp.train(X, Y, checkpoint=tmp_path / "run", schedule=half, **QUICK)
    with pytest.raises(ValueError, match="other arguments: schedule"):
        fastmlp.train(X, Y, checkpoint=tmp_path / "run", schedule=third, **QUICK)


# ---------------------------------------------------------------------------------------------- another run
CHANGES = {
    "hidden": 9, "activation": "tanh", "dropout": 0.1, "loss": "squared_error", "initializer": "he_normal",
    "optimizer": "sgd", "learning_rate": 0.5, "schedule": "cosine", "l2": 0.1, "epochs": 3, "batch_size": 9,
    "validation_data": (X, Y), "validation_fraction": 0.1, "early_stopping": 3, "class_weight": {0: 2},
    "sample_weight": np.arange(240), "device": "cpu", "dtype": "float64", "seed": 1, "model": ...,
    "scaling": "robust", "preset": "tabular", "label_smoothing": 0.2, "window_rows": 64,
}
NAMED_AS = {"learning_rate": "optimizer"}
# These change no bits (callbacks may: they run as they are passed).
FREE = {"n_threads", "verbose", "callbacks", "checkpoint", "comm"}
# Compared as well, but a change of it asks for a GPU first.
NEEDS_GPU = {"precision"}


def test_every_argument_is_compared_or_free():
    """Whoever adds an argument to `train` says here whether a run may be resumed with another one."""
    assert set(inspect.signature(fastmlp.train).parameters) - {"X", "y"} == CHANGES.keys() | FREE | NEEDS_GPU


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "run"
    fastmlp.train(X, Y, checkpoint=path, **QUICK)
    return path


@pytest.mark.parametrize("name", CHANGES)
def test_another_argument_is_refused_by_name(name, saved):
    options = QUICK | {name: CHANGES[name]}
    if name == "model":
        options = {"model": fastmlp.train(X, Y, **QUICK), **{key: QUICK[key] for key in QUICK if key != "hidden"}}
    if name == "early_stopping":
        options["early_stopping"] = fastmlp.EarlyStopping(monitor="loss")
    with pytest.raises(ValueError, match=rf"other arguments: (.*; )?{NAMED_AS.get(name, name)} \(.*another path"):
        fastmlp.train(X, Y, checkpoint=saved, **options)


@pytest.mark.parametrize(("inputs", "targets", "name"), [
    (X[::-1], Y, "X"), (X, Y[::-1], "y"), (X, Y + 1, "y"), (X[:-1], Y[:-1], "X"), (X.astype(np.uint8), Y, "X"),
])
def test_other_data_are_refused_by_name(inputs, targets, name, saved):
    with pytest.raises(ValueError, match=rf"{name} \(other values than then\)"):
        fastmlp.train(inputs, targets, checkpoint=saved, **QUICK)


def test_what_is_free_may_change(saved):
    model = fastmlp.train(X, Y, checkpoint=saved, n_threads=2, callbacks=print, verbose=0, **QUICK)
    assert len(model.history) == 2


# ---------------------------------------------------------------------------------------------- files
def test_bad_paths(tmp_path):
    with pytest.raises(TypeError, match="checkpoint must be a path such as"):
        fastmlp.train(X, Y, checkpoint=True, **QUICK)
    with pytest.raises(FileNotFoundError, match="checkpoint: there is no folder"):
        fastmlp.train(X, Y, checkpoint=tmp_path / "absent" / "run", **QUICK)
    fastmlp.train(X, Y, **QUICK).save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"checkpoint .*model is not a checkpoint"):
        fastmlp.train(X, Y, checkpoint=tmp_path / "model", **QUICK)


def test_damaged_checkpoints_are_refused(saved, tmp_path, rng, long):
    content, path = saved.read_bytes(), tmp_path / "run"
    damages = [content[:end] for end in range(0, len(content), 1 if long else 101)]
    for _ in range(5000 if long else 150):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] ^= 1 << rng.integers(8)
        damages.append(bytes(damaged))
    refused = 0
    for damaged in damages:
        path.write_bytes(damaged)
        try:
            model = fastmlp.train(X, Y, checkpoint=path, **QUICK)
        except ValueError as error:
            refused += bool(re.search(re.escape(str(path)), str(error)))
            continue
        assert len(model.history) == 2
    assert refused >= 0.98 * len(damages)  # a flipped bit may fall into white space


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
@pytest.mark.parametrize("device", ["reference", "cpu"])
def test_killed_at_random_moments(device, tmp_path, rng, long):
    """kill -9 again and again until the run ends: the same bits as if nobody had."""
    wanted, epochs = (60, 600) if long else (3, 60)
    expected = run_to_be_killed(device, epochs)
    kills = runs = 0
    while kills < wanted:
        runs += 1
        run, result = tmp_path / f"run{runs}", tmp_path / f"model{runs}"
        program = (f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r}); import test_checkpoints as t; "
                   f"t.run_to_be_killed({device!r}, {epochs}, {str(run)!r}, {str(result)!r})")
        while not result.exists():
            child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
            child.stdout.readline()
            if kills < wanted:
                time.sleep(rng.random() * 0.05)
                child.kill()
            child.communicate()
            assert child.returncode in (0, -signal.SIGKILL)
            kills += child.returncode != 0
        np.testing.assert_array_equal(fastmlp.load(result).parameters, expected.parameters)
        assert result.with_suffix(".course").read_text() == course(expected)
    print(f"{kills} kills in {runs} runs")


def run_to_be_killed(device, epochs, checkpoint=None, result=None):
    y, options = settings_of("everything", device)
    options |= {"epochs": epochs, "early_stopping": epochs}

    def tell_the_first_epoch(model, numbers):
        nonlocal told
        if checkpoint and not told:
            print("training", flush=True)
        told = True

    told = False
    model = fastmlp.train(X, y, checkpoint=checkpoint, callbacks=tell_the_first_epoch, **options)
    if result:
        pathlib.Path(result).with_suffix(".course").write_text(course(model))
        model.save(result)
    return model
