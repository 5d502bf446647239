"""fastmlp.ensemble: members that train() would give, averaged; the same bits by any number of workers."""
import pickle
import signal
import threading
import time

import numpy as np
import pytest
from toy import DEVICES, QUICK, blobs, stops_of, waves

import fastmlp
from fastmlp.files import made_by, to_bytes
from fastmlp.many import ensembles
from fastmlp.net.saving import contents

MULTILABEL = blobs()[0], (blobs()[0][:, :3] > 0).astype(int)
TASKS = pytest.mark.parametrize("data", [blobs(), blobs(classes=2), waves(), waves(targets=2), MULTILABEL],
                                ids=["classes", "two classes", "numbers", "columns of numbers", "multilabel"])


@DEVICES
@TASKS
def test_members_are_trainings_of_their_seeds_by_any_number_of_workers(data, device):
    X, y = data
    options = {**QUICK, "device": device}
    one, three = (fastmlp.ensemble(X, y, 3, n_threads=n, **options) for n in (1, 3))
    assert len(one) == 3
    assert len({member.seed for member in one}) == 3
    for left, right in zip(one, three, strict=True):
        np.testing.assert_array_equal(left.parameters, right.parameters)
        alone = fastmlp.train(X, y, **{**options, "seed": left.seed})
        np.testing.assert_array_equal(left.parameters, alone.parameters)


@TASKS
def test_prediction_and_spread_are_mean_and_deviation_over_members(data):
    X, y = data
    nets = fastmlp.ensemble(X, y, 3, **{**QUICK, "epochs": 5})
    numbers = nets[0].loss == "squared_error"
    each = np.array([member.predict(X) if numbers else member.predict_proba(X) for member in nets], np.float64)
    np.testing.assert_allclose(nets.predict(X) if numbers else nets.predict_proba(X), each.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(nets.spread(X), each.std(axis=0), rtol=1e-6)
    assert nets.spread(X).shape == each.shape[1:]
    assert (nets.spread(X) > 0).any()
    predicted = nets.predict(X)
    assert predicted.shape == nets[0].predict(X).shape
    assert predicted.dtype == nets[0].predict(X).dtype
    if numbers:
        expected = {"loss": ((each.mean(axis=0) - y) ** 2).mean()}
    else:
        p = nets.predict_proba(X).astype(np.float64)
        target = np.eye(p.shape[1])[y] if y.ndim == 1 else y
        expected = {"loss": -np.log(p[target == 1]).mean(), "accuracy": (predicted == y).mean()}
        if y.ndim == 2:
            expected["loss"] = -np.log(np.where(y == 1, p, 1 - p)).mean()
    found = nets.evaluate(X, y)
    assert found.keys() == expected.keys()
    for name, number in expected.items():
        assert found[name] == pytest.approx(number, rel=1e-5)


@pytest.mark.parametrize(("data", "loss"), [
    (blobs(), "auto"), (waves(), "auto"), (waves(), fastmlp.Huber(0.1)), (blobs(), "poisson"),
], ids=str)
def test_an_ensemble_of_one_is_its_member(data, loss):
    X, y = data
    nets = fastmlp.ensemble(X, y, 1, loss=loss, **QUICK)
    np.testing.assert_array_equal(nets.predict(X), nets[0].predict(X))
    assert nets.evaluate(X, y)["loss"] == pytest.approx(nets[0].evaluate(X, y)["loss"], rel=1e-5)
    assert not nets.spread(X).any()


def test_the_average_is_better_than_its_members_on_average():
    X, y = waves()
    Xv, yv = waves(seed=1)
    nets = fastmlp.ensemble(X, y, 5, hidden=16, epochs=20, batch_size=32, learning_rate=0.01, seed=0)
    assert nets.evaluate(Xv, yv)["loss"] < np.mean([member.evaluate(Xv, yv)["loss"] for member in nets])


def test_labels_weights_validation_and_pickling():
    X, index = blobs()
    y = np.array(["cat", "dog", "élan"])[index]
    nets = fastmlp.ensemble(X, y, 2, sample_weight=np.ones(len(X)), validation_data=(X, y), **QUICK)
    assert set(nets.predict(X)) <= {"cat", "dog", "élan"}
    assert all("val_loss" in member.history for member in nets)
    assert nets.evaluate(X, y, sample_weight=index)["loss"] != nets.evaluate(X, y)["loss"]
    again = pickle.loads(pickle.dumps(nets))
    np.testing.assert_array_equal(again.predict_proba(X), nets.predict_proba(X))
    assert repr(nets) == "Ensemble(2 × MLP(4-8-3, relu, softmax, 67 parameters, float32))"


@TASKS
def test_an_ensemble_is_saved_whole(data, tmp_path):
    X, y = data
    nets = fastmlp.ensemble(X, y, 2, preset="tabular", **QUICK)
    nets.save(tmp_path / "e")
    loaded = fastmlp.Ensemble.load(tmp_path / "e")
    for member in (*nets, *loaded):
        member.device = "reference"
    np.testing.assert_array_equal(loaded.predict(X), nets.predict(X))
    assert loaded.evaluate(X, y) == nets.evaluate(X, y)
    with pytest.raises(ValueError, match=r"e is not a model file .* fastmlp.Ensemble.load reads it"):
        fastmlp.load(tmp_path / "e")


def test_files_that_hold_no_ensemble_are_refused(tmp_path):
    X, y = blobs()
    model = fastmlp.train(X, y, **QUICK)
    model.save(tmp_path / "m")
    with pytest.raises(ValueError, match=r"m is not a model file .* no 'fastmlp_ensemble' entry"):
        fastmlp.Ensemble.load(tmp_path / "m")
    fastmlp.Ensemble([model]).save(tmp_path / "e")
    content = (tmp_path / "e").read_bytes()
    (tmp_path / "e").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ValueError, match="its checksum is not that of its content"):
        fastmlp.Ensemble.load(tmp_path / "e")
    tensors, header = contents(model)
    stray = {f"members.0.{name}": tensor for name, tensor in tensors.items()} | {"other": tensors["layers.0.bias"]}
    for members, held in (([header], stray), ([], {}), ([header, header], stray), (3, stray)):
        (tmp_path / "e").write_bytes(to_bytes(held, "fastmlp_ensemble", made_by() | {"members": members}))
        with pytest.raises(ValueError, match="e is not a model file"):
            fastmlp.Ensemble.load(tmp_path / "e")
    with pytest.raises(FileNotFoundError):
        fastmlp.Ensemble.load(tmp_path / "nothing")


@DEVICES
def test_ctrl_c_returns_the_members_that_had_finished(device, monkeypatch):
    X, y = blobs()
    seen, stops = [], stops_of(monkeypatch, ensembles, "fit_member")

    def callback(model, numbers):
        seen.append(numbers["epoch"])
        if len(seen) == 25:  # in the third of five trainings of 11 epochs
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            while not stops[-1]():
                time.sleep(0.001)

    nets = fastmlp.ensemble(X, y, 5, n_threads=1, callbacks=callback, **{**QUICK, "epochs": 11, "device": device})
    assert nets.interrupted
    assert len(nets) == 2
    assert all(len(member.history) == 11 for member in nets)


def test_ctrl_c_before_any_member_has_finished_is_ctrl_c():
    X, y = blobs()
    pressed = []

    def callback(model, numbers):
        if not pressed:
            pressed.append(signal.pthread_kill(threading.main_thread().ident, signal.SIGINT))

    with pytest.raises(KeyboardInterrupt):
        fastmlp.ensemble(X, y, 2, n_threads=1, callbacks=callback, **{**QUICK, "epochs": 100000})


@pytest.mark.parametrize(("arguments", "message"), [
    ({"n": 0}, "n must be at least 1, got 0"),
    ({"hiden": 4}, "an option of ensemble must be one of .*did you mean 'hidden'"),
    ({"checkpoint": "x"}, "an option of ensemble must be one of"),
    ({"epochs": 0}, "epochs must be at least 1"),
])
def test_errors_come_before_anything_trains(arguments, message):
    X, y = blobs()
    with pytest.raises(ValueError, match=message):
        fastmlp.ensemble(X, y, callbacks=lambda *_: pytest.fail("something was trained"), **arguments)


def test_members_must_fit_each_other():
    X, y = blobs()
    one, other = fastmlp.train(X, y, **QUICK), fastmlp.train(X, y + 1, **QUICK)
    with pytest.raises(ValueError, match="same inputs, outputs and labels"):
        fastmlp.Ensemble([one, other])
    with pytest.raises(ValueError, match="at least one member"):
        fastmlp.Ensemble([])


def test_a_member_that_diverges_raises():
    X, y = waves()
    with pytest.raises(fastmlp.DivergedError):
        fastmlp.ensemble(X * 1e4, y, 2, optimizer="sgd", learning_rate=1e9, epochs=2, device="cpu")
