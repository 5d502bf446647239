"""One model in several threads or processes: saved and asked while it is trained, mapped into memory."""
import io
import pickle
import threading
import zlib

import numpy as np
import pytest
from toy import DEVICES, QUICK, blobs, waves

import fastmlp
from fastmlp import files

X, Y = blobs()


@pytest.mark.parametrize("early_stopping", [None, fastmlp.EarlyStopping(99, monitor="loss", min_delta=99)],
                         ids=["last epoch", "first epoch"])
def test_the_weights_of_an_epoch_are_never_written_to(early_stopping):
    """Whoever read them before the epoch was over, in whichever thread, has them as they were; not even early stopping
    writes the best ones into them."""
    model = fastmlp.train(X, Y, **QUICK)
    seen = [(*model.arrays(), model.parameters.copy())]
    fastmlp.train(X, Y, model=model, epochs=3, device="reference", early_stopping=early_stopping,
                  callbacks=lambda model, _: seen.append((*model.arrays(), model.parameters.copy())))
    np.testing.assert_array_equal(model.parameters, seen[1 if early_stopping else 3][-1])
    for parameters, weights, biases, copy in seen:
        np.testing.assert_array_equal(parameters, copy)
        np.testing.assert_array_equal(np.concatenate([a.ravel() for layer in zip(weights, biases, strict=True)
                                                      for a in layer]), copy)
    assert len({parameters.tobytes() for parameters, *_ in seen}) == 4


@pytest.mark.parametrize("scaling", [None, "robust"])
def test_saved_and_asked_while_it_is_trained(scaling, tmp_path):
    """Every file can be read, every prediction is that of some epoch."""
    inputs, targets = waves(targets=3)
    options = {"hidden": 300, "batch_size": 50, "device": "cpu", "n_threads": 1, "seed": 0, "scaling": scaling}
    model = fastmlp.train(inputs, 1000 * targets, epochs=1, **options)
    one, stop, errors = inputs[:1], threading.Event(), []
    of_epochs, answers, files_read = {model.predict(one).tobytes()}, [], [0]

    def save():
        while not stop.is_set():
            model.save(tmp_path / "m")
            answers.append(fastmlp.load(tmp_path / "m").predict(one).tobytes())
            model.export_numpy(tmp_path / "m.py")
            files_read[0] += 1

    def ask():
        while not stop.is_set():
            answers.append(model.predict(one).tobytes())

    def guarded(work):
        try:
            work()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in (save, ask)]
    for thread in threads:
        thread.start()
    try:
        while files_read[0] < 30 and not errors:
            fastmlp.train(inputs, 1000 * targets, model=model, epochs=100,
                          callbacks=lambda model, _: of_epochs.add(model.predict(one).tobytes()),
                          **{name: options[name] for name in ("batch_size", "device", "n_threads", "seed")})
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert len(of_epochs) > 20
    assert set(answers) <= of_epochs


def test_a_file_holds_what_its_checksum_says(tmp_path, monkeypatch):
    """Though weights are written to, by a thread of the user's, between checksum and file."""
    model = fastmlp.train(X, Y, **QUICK)
    checksum = files.checksum

    def changed_after(text, tensors):
        result = checksum(text, tensors)
        model.parameters += 1
        return result

    monkeypatch.setattr(files, "checksum", changed_after)
    model.save(tmp_path / "m")
    monkeypatch.undo()
    np.testing.assert_array_equal(fastmlp.load(tmp_path / "m").parameters + 1, model.parameters)


def test_parameters_that_a_user_puts_in_place():
    model = fastmlp.train(X, Y, **QUICK)
    model.parameters *= 0.5
    model.parameters = np.zeros_like(model.parameters)
    assert not model.weights[0].any()           # weights and biases are views into what was put there
    model.weights[0][:] = 1
    assert model.parameters.sum() == model.weights[0].size
    for wrong in (np.zeros(3, "f4"), model.parameters.astype(float), [0.0] * model.n_parameters, None):
        with pytest.raises(ValueError, match="parameters must be an array of shape"):
            model.parameters = wrong


def test_a_pickle_holds_one_epoch():
    model = fastmlp.train(X, Y, **QUICK)
    copy = pickle.loads(pickle.dumps(model))
    fastmlp.train(X, Y, model=model, epochs=1, device="reference")
    assert (copy.parameters != model.parameters).any()
    assert np.shares_memory(copy.weights[0], copy.parameters)
    copy.weights[0][:] = 0
    assert not copy.parameters[:copy.weights[0].size].any()


# ---------------------------------------------------------------------------------------------- memory maps
def mapped(model, path, to_map):
    """The model with its large arrays as read-only memory maps, as joblib hands it to workers from 1 MB on."""
    if to_map == "joblib":
        joblib = pytest.importorskip("joblib", reason="joblib is not installed: pip install joblib")
        joblib.dump(model, path)
        return joblib.load(path, mmap_mode="r")
    buffers = []
    content = pickle.dumps(model, protocol=5, buffer_callback=buffers.append)
    return pickle.loads(content, buffers=[bytes(buffer) for buffer in buffers])


@DEVICES
@pytest.mark.parametrize("to_map", ["joblib", "pickle 5"])
@pytest.mark.parametrize("options", [{}, {"validation_fraction": 0.2, "early_stopping": 2}, {"checkpoint": ...}],
                         ids=["plain", "early stopping", "checkpoint"])
def test_a_read_only_model_is_trained_further(options, to_map, device, tmp_path):
    """https://github.com/scikit-learn/scikit-learn/issues/5956"""
    begun = fastmlp.train(X, Y, **QUICK)
    options = {name: tmp_path / "run" if value is ... else value for name, value in options.items()}
    model = mapped(begun, tmp_path / "m", to_map)
    assert not model.parameters.flags.writeable
    before = model.parameters
    crc = zlib.crc32(before)
    fastmlp.train(X, Y, model=model, epochs=2, seed=1, device=device, **options)
    assert zlib.crc32(before) == crc
    model.parameters[0] = model.parameters[0]   # the new ones are the model's own
    if "checkpoint" in options:                 # resumed from its file, into another mapped model
        again = fastmlp.train(X, Y, model=mapped(begun, tmp_path / "m", to_map), epochs=2, seed=1, device=device,
                              **options)
        np.testing.assert_array_equal(again.parameters, model.parameters)
        options = {}
    np.testing.assert_array_equal(
        fastmlp.train(X, Y, model=begun, epochs=2, seed=1, device=device, **options).parameters, model.parameters)


def test_a_read_only_model_does_all_else(tmp_path):
    model = mapped(fastmlp.train(X, Y, **QUICK), tmp_path / "m", "pickle 5")
    model.save(tmp_path / "saved")
    model.export_numpy(tmp_path / "m.py")
    assert (fastmlp.load(tmp_path / "saved").predict(X) == model.predict(X)).all()
    model.evaluate(X, Y)
    model.as_njit()
    again = pickle.load(io.BytesIO(pickle.dumps(model)))
    np.testing.assert_array_equal(again.parameters, model.parameters)
