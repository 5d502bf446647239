"""scaling="robust" and preset="tabular": what they do to data, files, losses and options."""
import dataclasses

import numpy as np
import pytest
from toy import DEVICES, QUICK, blobs, waves

import fastmlp
from fastmlp.input.labels import Task
from fastmlp.input.rows import read_data
from fastmlp.input.scaling import InputScaling, robust_scaling
from fastmlp.training.entry import OPTION_DEFAULTS
from fastmlp.training.options import check_options
from fastmlp.training.run import fit

F32 = np.dtype(np.float32)


def skewed(n=200, seed=0):
    """Columns of very unlike scales, one constant, one nearly so, one with far values; two classes."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 6)) * [1e-3, 1, 1e4, 0, 1, 5] + [0, 100, 1e5, 7, 0, 3]
    X[:, 4] = np.arange(n) < 10  # its quartiles are equal
    X[0, 5] = 1e9
    return X, np.where(X[:, 0] * 1e3 + (X[:, 2] - 1e5) / 1e4 > 0, "yes", "no")


# ---------------------------------------------------------------------------------------------- the formula
def test_robust_scaling_is_the_formula_of_the_paper():
    X, _ = skewed()
    scaling = robust_scaling(X, np.arange(len(X)), np.dtype(np.float64))
    lower, median, upper = np.quantile(X, (0.25, 0.5, 0.75), axis=0)
    np.testing.assert_allclose(scaling.center, median)
    np.testing.assert_allclose(scaling.factor[[0, 1, 2, 5]], 1 / (upper - lower)[[0, 1, 2, 5]])
    assert scaling.factor[3] == 0, "a constant column says nothing"
    assert scaling.factor[4] == 2, "equal quartiles: 2 / (max - min)"
    s = (X - scaling.center) * scaling.factor
    np.testing.assert_allclose(scaling(X), s / np.sqrt(1 + (s / 3) ** 2), rtol=1e-12)


def test_the_clip_is_smooth_bounded_and_monotone_even_for_the_largest_floats():
    scaling = InputScaling(np.zeros(1, np.float32), np.full(1, 1e10, np.float32))
    largest = np.finfo(np.float32).max
    x = np.array([-largest, -1.0, -1e-10, 0, 1e-12, 1e-10, 1.0, largest], np.float32).reshape(-1, 1)
    y = scaling(x).ravel()
    assert (np.diff(y) >= 0).all()
    np.testing.assert_allclose(y, [-3, -3, -1 / np.sqrt(1 + 1 / 9), 0, 0.01, 1 / np.sqrt(1 + 1 / 9), 3, 3], rtol=1e-5)
    assert y.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_statistics_come_from_the_given_rows_only(dtype):
    x = np.arange(40, dtype=dtype).reshape(20, 2)
    few = robust_scaling(x, np.arange(5), F32)
    x[5:] = 100
    again = robust_scaling(x, np.arange(5), F32)
    np.testing.assert_array_equal(few.center, again.center)
    np.testing.assert_array_equal(few.factor, again.factor)
    before = x.copy()
    assert few(x).dtype == np.float32
    np.testing.assert_array_equal(x, before)


# ---------------------------------------------------------------------------------------------- in the model
@DEVICES
def test_the_model_scales_its_input_itself(device):
    X, y = skewed()
    options = {**QUICK, "device": device, "dtype": "float64", "epochs": 5}
    model = fastmlp.train(X, y, scaling="robust", **options)
    assert model.scaling.center.dtype == np.float64
    scaled = model.scaling(X)
    plain = fastmlp.train(scaled, y, **options)
    np.testing.assert_array_equal(model.parameters, plain.parameters)
    np.testing.assert_array_equal(model.predict_proba(X), plain.predict_proba(scaled))
    assert model.evaluate(X, y) == plain.evaluate(scaled, y)
    assert model.history["loss"] == plain.history["loss"]


@DEVICES
@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", fastmlp.Huber(20.0), fastmlp.Quantile(0.3)],
                         ids=str)
@pytest.mark.parametrize("targets", [1, 2])
def test_numbers_are_scaled_inside_and_losses_are_those_of_y(device, loss, targets):
    """An error of scale anywhere would show: y is about 1e3 ± 50, and spread a power of two near 50."""
    X, y = waves(targets=targets)
    y = 1000 + 150 * y
    model = fastmlp.train(X, y, loss=loss, scaling="robust", epochs=30, batch_size=32, learning_rate=0.01, hidden=16,
                          activation="tanh", validation_data=(X, y), seed=0, device=device, dtype="float64")
    assert model.spread == 2.0 ** round(np.log2(np.sqrt(y.var(axis=0).mean())))
    found = model.evaluate(X, y)["loss"]
    assert found == pytest.approx(model.history["val_loss"][-1], rel=1e-9)
    first = {"squared_error": y.var(axis=0).mean()}.get(loss)
    if first:
        assert model.history["loss"][0] < 2 * first, "training starts at the mean"
        assert found < 0.2 * first
        np.testing.assert_allclose(((model.predict(X) - y) ** 2).mean(), found, rtol=1e-9)


def test_a_power_of_two_changes_no_bit_of_training():
    """y and 1024 y with the same inputs: the same net inside, 1024 times the prediction, the loss times 1024²."""
    X, y = waves()
    one, other = (fastmlp.train(X, y * k, scaling="robust", **QUICK) for k in (1, 1024))
    assert other.spread == 1024 * one.spread
    np.testing.assert_array_equal(other.predict(X), 1024 * one.predict(X))
    np.testing.assert_allclose(other.history["loss"], np.array(one.history["loss"]) * 1024 ** 2)


def test_the_scaling_is_made_of_the_rows_trained_on():
    X, y = blobs()
    data = read_data(X, y, None, "auto", F32)
    options = check_options(**{**OPTION_DEFAULTS, **QUICK, "scaling": "robust"})
    rows = np.arange(100)
    model = fit(data, rows, options)
    np.testing.assert_array_equal(model.scaling.center, np.median(X[:100], axis=0))
    held = fastmlp.train(X, y, scaling="robust", validation_fraction=0.5, **QUICK)
    assert (held.scaling.center != np.median(X, axis=0)).all()


def test_images_are_scaled_by_their_quartiles():
    X = np.random.default_rng(0).integers(0, 256, (60, 5), dtype=np.uint8)
    model = fastmlp.train(X, X[:, 0] > 100, scaling="robust", **QUICK)
    assert model.scale == 1
    np.testing.assert_array_equal(model.predict_proba(X), model.predict_proba(X.astype(np.float32)))


@pytest.mark.parametrize("data", [blobs(), waves()], ids=["classes", "numbers"])
def test_the_scaling_is_saved_pickled_and_continued(data, tmp_path):
    X, y = data
    y = y if y.dtype.kind == "i" else y * 40 + 7
    options = {**QUICK, "learning_rate": 0.01}
    model = fastmlp.train(X, y, preset="tabular", **options)
    model.save(tmp_path / "m")
    loaded = fastmlp.load(tmp_path / "m")
    loaded.device = "reference"
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    assert (loaded.spread, loaded.scaling.clip) == (model.spread, 3.0)
    rate = fastmlp.SGD(learning_rate=0.01)
    for net in (model, loaded):
        fastmlp.train(X, y, model=net, **{**QUICK, "optimizer": rate, "hidden": (8,)})
    np.testing.assert_array_equal(loaded.parameters, model.parameters)
    assert model.history["loss"][-1] < model.history["loss"][1]


def test_a_checkpoint_continues_to_the_same_bits(tmp_path):
    X, y = waves()
    options = {**QUICK, "epochs": 6, "preset": "tabular", "validation_data": (X, 50 * y)}

    def stop(model, numbers):
        if numbers["epoch"] == 3:
            raise RuntimeError("killed")

    whole = fastmlp.train(X, 50 * y, **options)
    with pytest.raises(RuntimeError, match="killed"):
        fastmlp.train(X, 50 * y, checkpoint=tmp_path / "c", callbacks=stop, **options)
    resumed = fastmlp.train(X, 50 * y, checkpoint=tmp_path / "c", **options)
    np.testing.assert_array_equal(resumed.parameters, whole.parameters)


def test_nan_and_infinity_are_refused_as_ever():
    X, y = skewed()
    model = fastmlp.train(X, y, scaling="robust", **QUICK)
    X[3, 1] = np.nan
    for call in (lambda: fastmlp.train(X, y, scaling="robust", **QUICK), lambda: model.predict(X)):
        with pytest.raises(ValueError, match="X must be finite, got nan at row 3, column 1"):
            call()


# ---------------------------------------------------------------------------------------------- the preset's options
def options_of(**given):
    return check_options(**{**OPTION_DEFAULTS, **given})


def test_the_preset_is_what_the_docstring_says():
    options = options_of(preset="tabular")
    assert options.optimizer == fastmlp.Adam(learning_rate=0.003, beta2=0.95)
    assert options.schedule == fastmlp.schedules.Cosine()
    classes, numbers = Task("softmax_cross_entropy", 3, np.arange(3)), Task("squared_error", 1)
    assert (options.scaling, options.smoothing_for(classes), options.smoothing_for(numbers)) == ("robust", 0.1, 0)
    plain = options_of()
    assert (plain.scaling, plain.smoothing_for(classes)) == ("none", 0)
    same = {field.name for field in dataclasses.fields(options)} - {"optimizer", "schedule", "scaling", "preset",
                                                                    "seed", "net"}
    assert all(getattr(plain, name) == getattr(options, name) for name in same)


def test_options_that_are_given_override_the_preset():
    assert options_of(preset="tabular", learning_rate=0.1).optimizer == fastmlp.Adam(learning_rate=0.1, beta2=0.95)
    assert options_of(preset="tabular", optimizer=fastmlp.Adam()).optimizer == fastmlp.Adam()
    assert options_of(preset="tabular", optimizer="sgd").optimizer == fastmlp.SGD()
    assert options_of(preset="tabular", schedule="constant").schedule == fastmlp.schedules.Constant()
    assert options_of(preset="tabular", scaling="none").scaling == "none"
    classes = Task("softmax_cross_entropy", 3, np.arange(3))
    assert options_of(preset="tabular", label_smoothing=0).smoothing_for(classes) == 0


@DEVICES
@pytest.mark.parametrize(("labels", "loss"), [(3, "auto"), (2, "auto"), (2, "softmax_cross_entropy")])
def test_label_smoothing_is_training_on_softened_labels(labels, loss, device):
    X, y = blobs(classes=labels)
    options = {**QUICK, "device": device}
    one = loss == "auto" and labels == 2
    soft = 0.75 * y + 0.125 if one else 0.75 * np.eye(labels)[y] + 0.25 / labels
    model = fastmlp.train(X, y, label_smoothing=0.25, loss=loss, validation_data=(X, y), **options)
    other = fastmlp.train(X, soft, loss="sigmoid_cross_entropy" if one else "softmax_cross_entropy", **options)
    np.testing.assert_array_equal(model.parameters, other.parameters)
    assert model.history["accuracy"] == other.history["accuracy"]
    assert model.history["val_loss"][-1] == pytest.approx(model.evaluate(X, y)["loss"], rel=1e-5)


def test_label_smoothing_takes_weights_and_several_labels():
    X, y = blobs()
    weights = np.where(y == 0, 3.0, 1.0)
    one = fastmlp.train(X, y, label_smoothing=0.25, class_weight={0: 3}, **QUICK)
    other = fastmlp.train(X, y, label_smoothing=0.25, sample_weight=weights, **QUICK)
    np.testing.assert_array_equal(one.parameters, other.parameters)
    y = (X[:, :3] > 0).astype(int)
    model = fastmlp.train(X, y, label_smoothing=0.25, **QUICK)
    np.testing.assert_array_equal(model.parameters, fastmlp.train(X, 0.75 * y + 0.125, loss="sigmoid_cross_entropy",
                                                                  **QUICK).parameters)


def test_label_smoothing_of_numbers_is_refused():
    X, y = waves()
    with pytest.raises(ValueError, match=r"label_smoothing=0\.1 needs classes or labels"):
        fastmlp.train(X, y, label_smoothing=0.1, **QUICK)
    with pytest.raises(ValueError, match="label_smoothing must be a finite number at least 0 and below 1"):
        fastmlp.train(*blobs(), label_smoothing=1, **QUICK)


def test_the_best_epoch_is_kept_where_there_is_validation():
    X, y = blobs()
    options = {**QUICK, "epochs": 15, "learning_rate": 0.5, "preset": "tabular"}
    model = fastmlp.train(X, y, validation_fraction=0.3, **options)
    assert len(model.history) == 15
    assert model.history.best_epoch == 1 + int(np.argmin(model.history["val_loss"]))
    assert fastmlp.train(X, y, **options).history.best_epoch is None
    patient = fastmlp.train(X, y, validation_fraction=0.3, early_stopping=1, **options)
    assert len(patient.history) < 15


@pytest.mark.parametrize(("given", "message"), [
    ({"preset": "tabluar"}, "preset must be one of 'tabular', got 'tabluar'; did you mean 'tabular'"),
    ({"scaling": "standard"}, "scaling must be one of 'none', 'robust', got 'standard'"),
])
def test_unknown_names_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        options_of(**given)


def test_a_model_trained_without_scaling_is_not_given_one():
    X, y = blobs()
    model = fastmlp.train(X, y, **QUICK)
    with pytest.raises(ValueError, match="contradicts the model to be trained further"):
        fastmlp.train(X, y, preset="tabular", model=model, epochs=1)


def test_cross_validation_takes_the_preset():
    X, y = skewed()
    result = fastmlp.cross_validate(X, y, 3, {"preset": [None, "tabular"]}, **{**QUICK, "epochs": 20})
    assert result.best == {"preset": "tabular"}


# ---------------------------------------------------------------------------------------------- for others
@pytest.mark.parametrize("data", [skewed(), waves()], ids=["classes", "numbers"])
def test_the_numpy_module_scales_as_the_model_does(data, tmp_path):
    X, y = data
    model = fastmlp.train(X, y, preset="tabular", **QUICK)
    model.export_numpy(tmp_path / "net.py")
    module = {}
    exec((tmp_path / "net.py").read_text(encoding="utf-8"), module)
    np.testing.assert_allclose(module["outputs"](X)[:, 0], outputs_of(model, X), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(module["predict"](X), model.predict(X))


@pytest.mark.parametrize("data", [skewed(), waves()], ids=["classes", "numbers"])
def test_the_onnx_file_scales_as_the_model_does(data, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    X, y = data
    model = fastmlp.train(X, y, preset="tabular", **QUICK)
    model.to_onnx(tmp_path / "net.onnx")
    outputs, = onnxruntime.InferenceSession(tmp_path / "net.onnx").run(None, {"X": X.astype(np.float32)})
    np.testing.assert_allclose(outputs[:, 0], outputs_of(model, X), rtol=1e-4, atol=1e-5)


def outputs_of(model, X):
    return model.predict_proba(X)[:, 1] if model.output == "sigmoid" else model.predict(X)


def test_what_cannot_scale_is_refused():
    X, y = skewed()
    model = fastmlp.train(X, y, preset="tabular", **QUICK)
    with pytest.raises(ValueError, match="scales its input by itself"):
        model.to_sklearn()
