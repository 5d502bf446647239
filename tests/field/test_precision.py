"""Numbers that are large, small or close together beside their differences: nothing is rounded before it is centred."""
import runpy
import tracemalloc
import warnings
from fractions import Fraction

import numba
import numpy as np
import pytest
from toy import DEVICES

import fastmlp
from fastmlp.input.scaling import InputScaling, robust_scaling

RNG = np.random.default_rng(0)
QUICK = {"hidden": 16, "epochs": 40, "batch_size": 32, "seed": 0, "preset": "tabular"}
SECONDS = RNG.uniform(0, 60, 400)
FEATURES = RNG.normal(size=(400, 4))


def with_offset(offset, values, dtype=np.float64):
    return np.column_stack([(offset + values).astype(dtype), RNG.normal(size=len(values)).astype(dtype)])


# ---------------------------------------------------------------------------------------------- X
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("offset", "width"), [(1.7e9, 60), (2.4e9, 100), (101_325, 0.01), (-1.7e9, 60)])
def test_a_column_of_unix_seconds(offset, width, dtype):
    """scaling="robust" rounded 1.7e9 + seconds to float32 before it centred: accuracy 0.54."""
    values = SECONDS / 60 * width
    X, y = with_offset(offset, values), values > width / 2
    model = fastmlp.train(X, y, dtype=dtype, **QUICK)
    assert model.evaluate(X, y)["accuracy"] > 0.97
    assert (model.predict(X) == y).mean() > 0.97
    held = fastmlp.train(X, y, dtype=dtype, validation_fraction=0.25, **QUICK)
    assert held.history["val_accuracy"][-1] > 0.95
    again = fastmlp.train(X, y, model=fastmlp.train(X, y, **{**QUICK, "dtype": dtype, "epochs": 1}), **QUICK)
    assert again.evaluate(X, y)["accuracy"] > 0.97


def test_nanoseconds(tmp_path):
    """64-bit integers that float64 rounds to 256: of one microsecond, four values were left."""
    X = 1_700_000_000_000_000_000 + np.arange(1000).reshape(-1, 1)
    for start in (0, -(2 ** 62), 2 ** 62):
        shifted = X + start
        scaling = robust_scaling(shifted, np.arange(1000), np.dtype(np.float32))
        inside = scaling(shifted)
        assert inside.dtype == np.float32
        assert (np.diff(inside.ravel()) > 0).all()
        exact = [float((int(v) - Fraction(float(scaling.center[0]))) * Fraction(float(scaling.factor[0])))
                 for v in shifted.ravel()]
        np.testing.assert_allclose(inside.ravel(), [s / np.sqrt(1 + (s / 3) ** 2) for s in exact], rtol=1e-6)
        assert scaling.factor[0] == pytest.approx(1 / 499.5)
    model = fastmlp.train(X, X[:, 0] % 1000 > 500, **{**QUICK, "epochs": 1})
    wanted, found = model.predict_proba(X)[:, 1], np.empty((len(X), 1))
    assert len(np.unique(wanted)) > 900
    rows(model.as_njit(), X, found)
    np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-5)
    model.export_numpy(tmp_path / "m.py")
    np.testing.assert_allclose(runpy.run_path(str(tmp_path / "m.py"))["outputs"](X)[:, 0], wanted, rtol=1e-5)
    unsigned = (X.astype(np.uint64) + 2 ** 63).astype(np.uint64)
    assert (np.diff(robust_scaling(unsigned, np.arange(1000), np.dtype(np.float32))(unsigned).ravel()) > 0).all()


@pytest.mark.parametrize("width", [1e300, 1e-300, 1e-42])
def test_columns_beyond_float32(width):
    X = FEATURES * width
    model = fastmlp.train(X, FEATURES[:, 0] > 0, **QUICK)
    plain = fastmlp.train(FEATURES, FEATURES[:, 0] > 0, **QUICK)
    assert model.evaluate(X, FEATURES[:, 0] > 0)["accuracy"] == pytest.approx(
        plain.evaluate(FEATURES, FEATURES[:, 0] > 0)["accuracy"], abs=0.02)


def test_unix_seconds_without_scaling_are_warned_of():
    X = with_offset(1.7e9, SECONDS)
    for table in (X, X.astype(np.int64)):
        with pytest.warns(UserWarning, match=r"column 0 of X varies by 1\d.* around 17000000\d+, which float32 ro"):
            fastmlp.train(table, SECONDS > 30, hidden=4, epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fastmlp.train(X, SECONDS > 30, hidden=4, epochs=1, dtype="float64")
        fastmlp.train(X[:, 1:] * 1e-3 + 1, SECONDS > 30, hidden=4, epochs=1)
        fastmlp.train(X, SECONDS > 30, **{**QUICK, "epochs": 1})


def test_a_column_too_far_apart_for_float64():
    X = np.where(np.arange(40).reshape(-1, 1) % 2, 1.7e308, -1.7e308)
    with pytest.raises(ValueError, match="the values of column 0 are too far apart for float64"):
        fastmlp.train(X, np.arange(40) % 2, **QUICK)


def test_a_float32_table_is_scaled_as_ever():
    """In float32, to the bits: nothing is rounded there, and it takes no copy in float64."""
    x = (FEATURES * [1, 10, 1e4, 1e-3] + 5).astype(np.float32)
    scaling = robust_scaling(x, np.arange(400), np.dtype(np.float32))
    assert scaling.center.dtype == scaling.factor.dtype == np.float32
    s = (x - scaling.center) * scaling.factor
    np.testing.assert_array_equal(scaling(x), s / np.sqrt((s / 3.0) * (s / 3.0) + 1))
    np.testing.assert_allclose(scaling(x.astype(np.float64)), scaling(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_unix_seconds_elsewhere(dtype, tmp_path):
    """The saved, exported and compiled net centre as the model does."""
    X, y = with_offset(1.7e9, SECONDS), SECONDS * 1e-3 + 1e5
    for labels in (SECONDS > 30, y):
        model = fastmlp.train(X, labels, **{**QUICK, "dtype": dtype})
        wanted = model.predict_proba(X)[:, 1] if model.classes is not None else model.predict(X)
        model.save(tmp_path / "m")
        loaded = fastmlp.load(tmp_path / "m")
        np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
        assert loaded.scaling.dtype == model.dtype
        model.export_numpy(tmp_path / "m.py")
        module = runpy.run_path(str(tmp_path / "m.py"))
        np.testing.assert_allclose(module["outputs"](X)[:, 0], wanted, rtol=1e-6, atol=1e-5)
        net, found = model.as_njit(), np.empty((len(X), 1))
        rows(net, X, found)
        np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-6, atol=1e-5)
        if dtype == "float32":
            rows(net, X.astype(np.int64), found)      # whole seconds
            shorter = X.astype(np.int64).astype(float)
            np.testing.assert_allclose(found[:, 0], model.predict_proba(shorter)[:, 1] if model.classes is not None
                                       else model.predict(shorter), rtol=1e-6, atol=1e-5)


@numba.njit
def rows(net, X, out):
    for i in range(len(X)):
        net(X[i], out[i])


def test_unix_seconds_in_onnx(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    X, y = with_offset(1.7e9, SECONDS), SECONDS * 1e-3 + 1e5
    for labels in (SECONDS > 30, y):
        model = fastmlp.train(X, labels, **QUICK)
        assert model.scaling.needs_float64
        model.to_onnx(tmp_path / "m.onnx")
        found, = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(None, {"X": X})
        wanted = model.predict_proba(X)[:, 1] if model.classes is not None else model.predict(X)
        np.testing.assert_allclose(found[:, 0], wanted, rtol=1e-6, atol=1e-5)
    model = fastmlp.train(FEATURES, SECONDS > 30, **QUICK)
    assert not model.scaling.needs_float64
    for dtype, given in ((None, "float32"), ("float64", "float64"), ("float32", "float32")):
        model.to_onnx(tmp_path / "m.onnx", input_dtype=dtype)
        found, = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(None, {"X": FEATURES.astype(given)})
        np.testing.assert_allclose(found[:, 0], model.predict_proba(FEATURES)[:, 1], atol=1e-5)


def test_a_stored_table_of_unix_seconds(tmp_path, monkeypatch):
    X = with_offset(1.7e9, SECONDS)
    model = fastmlp.train(X, SECONDS > 30, **QUICK)
    np.save(tmp_path / "x.npy", X)
    stored = np.load(tmp_path / "x.npy", mmap_mode="r")
    monkeypatch.setattr("fastmlp.input.stored.WINDOW_BYTES", 1000)
    np.testing.assert_allclose(model.predict_proba(stored), model.predict_proba(X), rtol=1e-6)
    assert model.evaluate(stored, SECONDS > 30) == pytest.approx(model.evaluate(X, SECONDS > 30))


def test_ensembles_and_folds_of_unix_seconds():
    X, y = with_offset(1.7e9, SECONDS), SECONDS > 30
    nets = fastmlp.ensemble(X, y, 2, **QUICK)
    assert nets.evaluate(X, y)["accuracy"] > 0.97
    options = {name: value for name, value in QUICK.items() if name != "preset"}
    with pytest.warns(UserWarning, match="column 0 of X varies by"):     # where they are not scaled
        result = fastmlp.cross_validate(X, y, 3, {"preset": [None, "tabular"]}, **options)
    assert result.best == {"preset": "tabular"}
    assert result.mean["accuracy"].max() > 0.95


# ---------------------------------------------------------------------------------------------- y
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("offset", "unit"), [(0, 1), (1e3, 1), (1e6, 1), (1e8, 1), (-1e8, 1), (1e12, 1), (0, 1e20),
                                              (0, 1e-30), (3e20, 1e15)])
@pytest.mark.parametrize("columns", [1, 2])
def test_numbers_that_are_large_beside_their_spread(offset, unit, dtype, columns, tmp_path):
    """y = 1e8 + N(0, 1): the loss shown was 0, the true one 0.96; y · 1e20: evaluate gave inf, y · 1e-30 gave 0."""
    y = offset + unit * FEATURES[:, 0] if columns == 1 else offset + unit * FEATURES[:, :2]
    model = fastmlp.train(FEATURES, y, dtype=dtype, validation_data=(FEATURES, y), early_stopping=40, **QUICK)
    true = np.mean((model.predict(FEATURES).astype(float) - y) ** 2)
    assert model.evaluate(FEATURES, y)["loss"] == pytest.approx(true, rel=1e-6)
    assert min(model.history["val_loss"]) == pytest.approx(true, rel=1e-4)
    assert true < 0.1 * unit ** 2
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(fastmlp.load(tmp_path / "m").predict(FEATURES), model.predict(FEATURES))


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", fastmlp.Huber(0.5), fastmlp.Quantile(0.3)],
                         ids=str)
def test_every_loss_with_an_offset(loss):
    y = 1e8 + FEATURES[:, 0]
    far = fastmlp.train(FEATURES, y, loss=loss, **QUICK)
    near = fastmlp.train(FEATURES, y - 1e8 - far.offset[0] + 1e8, loss=loss, **QUICK)
    assert far.history["loss"][-1] == pytest.approx(near.history["loss"][-1], rel=1e-3)
    assert far.evaluate(FEATURES, y)["loss"] == pytest.approx(near.evaluate(FEATURES, y - far.offset[0])["loss"],
                                                              rel=1e-3)


def test_an_offset_is_kept_where_nets_are_averaged_converted_and_trained_further():
    y = 1e8 + FEATURES[:, 0]
    nets = fastmlp.ensemble(FEATURES, y, 2, **QUICK)
    assert nets.predict(FEATURES).dtype == np.float64
    assert nets.evaluate(FEATURES, y)["loss"] == pytest.approx(np.mean((nets.predict(FEATURES) - y) ** 2))
    assert nets.evaluate(FEATURES, y)["loss"] < 0.1
    model = fastmlp.train(FEATURES, y, **QUICK)
    before = model.evaluate(FEATURES, y)["loss"]
    fastmlp.train(FEATURES, y, model=model, **QUICK)
    assert model.evaluate(FEATURES, y)["loss"] < before
    with pytest.raises(ValueError, match="y is too far from what the model was trained on"):
        fastmlp.train(FEATURES, -y, model=model, **QUICK)
    model.scaling = None
    with pytest.raises(ValueError, match="adds an offset to its outputs"):
        model.to_sklearn()
    out = np.empty(400, np.float32)
    np.testing.assert_allclose(model.predict(FEATURES, out=out), out)


def test_numbers_too_close_together_without_scaling_are_refused():
    for y, column in ((1e8 + FEATURES[:, 0], ""), (np.column_stack([FEATURES[:, 0], 1e8 + FEATURES[:, 1]]),
                                                   " in column 1")):
        with pytest.raises(ValueError, match=rf"y varies by .* around 1e\+08|1\d+{column}, which float32 rounds by"):
            fastmlp.train(FEATURES, y, hidden=4, epochs=1)
        fastmlp.train(FEATURES, y, hidden=4, epochs=1, dtype="float64")
        fastmlp.train(FEATURES, y.astype(np.float32), hidden=4, epochs=1)     # rounded by whoever passes it


@pytest.mark.parametrize(("unit", "dtype", "word"), [(1e-42, "float32", "little"), (1e38, "float32", "much"),
                                                     (1e-200, "float64", "little"), (1e200, "float64", "much")])
def test_numbers_beyond_the_dtype_are_refused(unit, dtype, word):
    with pytest.raises(ValueError, match=f"y varies by .*, too {word} for dtype {dtype}"):
        fastmlp.train(FEATURES, unit * FEATURES[:, 0], dtype=dtype, **QUICK)


def test_a_huber_loss_whose_delta_is_zero_in_float32():
    """It read 0 from the first epoch on."""
    with pytest.raises(ValueError, match="loss has the parameter 1e-300, which is 0 in float32"):
        fastmlp.train(FEATURES, FEATURES[:, 0], loss=fastmlp.Huber(1e-300), hidden=4, epochs=1)


@DEVICES
def test_evaluate_squares_in_float64(device):
    """Without any scaling: 1e20 squared is infinite in float32, 1e-30 squared is 0."""
    for unit in (1e20, 1e-30):
        model = fastmlp.MLP.from_parameters([np.float32([[unit]])], [np.float32([0])], output="identity")
        assert model.dtype == np.float32
        model.device = device
        x, y = FEATURES[:, :1].astype(np.float32), unit * FEATURES[:, 1]
        true = np.mean((model.predict(x).astype(float) - y) ** 2)
        assert model.evaluate(x, y)["loss"] == pytest.approx(true, rel=1e-6)
        weights = np.linspace(0, 1, 400)
        assert model.evaluate(x, y, weights)["loss"] == pytest.approx(
            np.average((model.predict(x).astype(float) - y) ** 2, weights=weights), rel=1e-6)


def test_estimators_of_float32_tables():
    """They train in X's dtype, and rounded y and weights to it."""
    pytest.importorskip("sklearn")
    X, y = FEATURES.astype(np.float32), 1e8 + FEATURES[:, 0]
    with pytest.raises(ValueError, match=r"y varies by .*, which float32 rounds by .*, or pass X as float64"):
        fastmlp.MLPRegressor("squared_error", (4,)).fit(X, y)
    with pytest.raises(ValueError, match="sample_weight holds 1e-300 at position 0, too small for dtype float32"):
        fastmlp.MLPClassifier((4,)).fit(X, FEATURES[:, 0] > 0, np.full(400, 1e-300))


# ---------------------------------------------------------------------------------------------- probabilities
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_probability_of_the_first_class(dtype):
    """1 - P(second) is 0 from z = 18 on in float32, from 37 on in float64."""
    z = np.array([-80, -40, -18, -1, 0, 1, 18, 40, 80], dtype).reshape(-1, 1)
    model = fastmlp.MLP.from_parameters([np.ones((1, 1), dtype)], [np.zeros(1, dtype)], output="sigmoid")
    p = model.predict_proba(z)
    assert p.dtype == dtype
    exact = 1 / (1 + np.exp(z.ravel().astype(np.longdouble)))
    np.testing.assert_allclose(p, np.column_stack([exact, exact[::-1]]).astype(float), rtol=10 * np.finfo(dtype).eps)
    nets = fastmlp.Ensemble([model, model])
    np.testing.assert_allclose(nets.predict_proba(z), p, rtol=1e-6)
    for labels in (np.zeros(9, int), np.ones(9, int)):
        assert nets.evaluate(z, labels)["loss"] == pytest.approx(model.evaluate(z, labels)["loss"], rel=1e-5)


def test_the_loss_of_an_ensemble_that_is_sure_of_several_labels():
    z = np.array([[40.0, -40.0], [-40.0, 40.0]])
    model = fastmlp.MLP.from_parameters([np.eye(2)], [np.zeros(2)], output="sigmoid")
    y = np.array([[0, 1], [1, 0]])
    assert fastmlp.Ensemble([model]).evaluate(z, y)["loss"] == pytest.approx(model.evaluate(z, y)["loss"])


def test_the_probabilities_of_estimators():
    pytest.importorskip("sklearn")
    x = FEATURES[:, :1]
    estimator = fastmlp.MLPClassifier((), max_iter=1, random_state=0)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        estimator.fit(x, x[:, 0] > 0)
    estimator.coefs_[0][:], estimator.intercepts_[0][:] = 1, 0
    z = np.array([[-800.0], [-50.0], [0.0], [50.0], [800.0]])
    for rows in (z, np.tile(z, (3, 1))):
        p, logs = estimator.predict_proba(rows)[:5], estimator.predict_log_proba(rows)[:5]
        np.testing.assert_allclose(p[3], [np.exp(-50.0), 1], rtol=1e-12)
        np.testing.assert_allclose(logs[:, 0], -np.logaddexp(0, z[:, 0]), rtol=1e-12)
        np.testing.assert_allclose(logs[:, 1], -np.logaddexp(0, -z[:, 0]), rtol=1e-12)


@pytest.mark.parametrize("activation", ["sigmoid", "silu", "gelu"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exported_activations_far_from_zero(activation, dtype, tmp_path):
    """The module clipped at -87, in float64 as well; its GELU was 0 from -8 on."""
    z = np.array([-700, -100, -80, -20, -8, -1, 0, 1, 20, 700], dtype).reshape(-1, 1)
    ones = [np.ones((1, 1), dtype)] * 2, [np.zeros(1, dtype)] * 2
    model = fastmlp.MLP.from_parameters(*ones, activation=activation, output="identity")
    model.export_numpy(tmp_path / "m.py")
    with np.errstate(under="ignore"):
        found = runpy.run_path(str(tmp_path / "m.py"))["outputs"](z).ravel()
    assert found.dtype == dtype
    if activation == "gelu":                     # the kernels' own is held to an absolute error only
        import math
        exact = np.array([v * math.erfc(-v / math.sqrt(2)) / 2 for v in z.ravel().tolist()])
    else:
        z = z.ravel().astype(np.longdouble)
        exact = (np.where(z < 0, np.exp(-np.abs(z)), 1) / (1 + np.exp(-np.abs(z))) * (z if activation == "silu" else 1))
    tiny = np.finfo(dtype).tiny
    np.testing.assert_allclose(found, exact.astype(dtype), rtol=1e-5 if dtype == np.float32 else 1e-12, atol=tiny)


# ---------------------------------------------------------------------------------------------- weights
@pytest.mark.parametrize("hidden", [8, 200])
@pytest.mark.parametrize("loss", ["auto", "sigmoid_cross_entropy"])
@pytest.mark.parametrize("unit", [1e-40, 1e-36, 1e37, 3e38])
def test_weights_of_importance_sampling(hidden, loss, unit):
    """Only ratios count. Narrow nets divided in float32: 1 / Σ w is infinite for weights of 1e-40."""
    y = RNG.integers(0, 3 if loss == "auto" else 2, 400)
    weights = np.linspace(0.1, 1, 400)
    options = {"hidden": hidden, "epochs": 2, "seed": 0, "batch_size": 32, "loss": loss, "device": "cpu"}
    one = fastmlp.train(FEATURES, y, sample_weight=weights, **options)
    other = fastmlp.train(FEATURES, y, sample_weight=weights * unit, **options)
    assert other.history["loss"] == pytest.approx(one.history["loss"], rel=1e-4)
    np.testing.assert_allclose(other.parameters, one.parameters, atol=1e-3)


@pytest.mark.parametrize(("options", "message"), [
    ({"sample_weight": np.full(400, 1e-300)}, "sample_weight holds 1e-300 at position 0, too small for dtype float32; "
                                              "only the ratios of weights count: multiply all by one number, or pass"),
    ({"sample_weight": np.full(400, 1e39)}, r"sample_weight holds 1e\+39 at position 0, too large for dtype float32"),
    ({"sample_weight": np.full(400, 1e308), "dtype": "float64"}, r"sample_weight holds 1e\+308 .*too large"),
    ({"class_weight": {0: 1e39}}, r"class_weight \(by row\) holds 1e\+39 at position \d+, too large for dtype float32"),
    ({"class_weight": {0: 1e-300}}, r"class_weight \(by row\) holds 1e-300 .*too small"),
    ({"class_weight": {0: 1e30}, "sample_weight": np.full(400, 1e30)},
     r"class_weight times sample_weight holds 1e\+60 .*too large"),
])
def test_weights_that_no_dtype_holds_are_refused_by_name(options, message):
    """They became 0 or infinity, and the message was about rows without weight, or the learning rate."""
    with pytest.raises(ValueError, match=message):
        fastmlp.train(FEATURES, np.arange(400) % 3, hidden=8, epochs=1, **options)


# ---------------------------------------------------------------------------------------------- memory
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_large_table_is_scaled_in_blocks(dtype):
    """predict took two copies of X: 160 MB for 80."""
    X = RNG.random((200_000, 50)).astype(dtype)
    y = X[:, 0] > 0.5
    model = fastmlp.train(X[:1000], y[:1000], **{**QUICK, "epochs": 1})
    parts = [model.predict_proba(X[start:start + 50_000]) for start in range(0, len(X), 50_000)]
    for call in (model.predict, lambda X: model.evaluate(X, y)):
        tracemalloc.start()
        call(X)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 60e6
    np.testing.assert_array_equal(model.predict_proba(X), np.concatenate(parts))
    tracemalloc.start()
    fastmlp.train(X, y, **{**QUICK, "epochs": 1})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < X.size * 4 + 60e6
    assert isinstance(model.scaling, InputScaling)
