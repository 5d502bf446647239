"""MLP: hand-made nets, the lecture's worked examples, prediction, evaluation, summary, copies."""
import copy
import pickle

import numpy as np
import pytest
from toy import DEVICES, QUICK, blobs, waves

import fastmlp

CORNERS = [[0, 0], [0, 1], [1, 0], [1, 1]]


# ---------------------------------------------------------------------------------------------- the lecture
@DEVICES
def test_worked_example_a(device):
    """b = -10, w = (12, 5), sign activation."""
    unit = fastmlp.MLP.from_parameters([[[12], [5]]], [[-10]], output="sign")
    unit.device = device
    assert unit.predict(CORNERS).tolist() == [-1, -1, 1, 1]


@DEVICES
def test_worked_example_b(device):
    """NAND by a threshold unit: 1, 1, 1, 0 as 1, 1, 1, -1; and on the boundary sign(0) = 1."""
    unit = fastmlp.MLP.from_parameters([[[-2], [-2]]], [[3]], output="sign")
    unit.device = device
    assert unit.predict(CORNERS).tolist() == [1, 1, 1, -1]
    assert unit.predict([[1.5, 0]]).tolist() == [1]


@DEVICES
def test_threshold_units_in_two_layers_compute_xor(device):
    net = fastmlp.MLP.from_parameters([[[2, -2], [2, -2]], [[1], [1]]], [[-1, 3], [-1]], activation="sign",
                                      output="sign")
    net.device = device
    assert net.predict(CORNERS).tolist() == [-1, 1, 1, -1]


@pytest.mark.parametrize(("sizes", "total"), [
    ((784, 10, 10), "7,960"), ((784, 500, 10), "397,510"), ((784, 500, 300, 10), "545,810")])
def test_summary_counts_the_labs(sizes, total):
    rates = (0.4, 0.4) if len(sizes) == 4 else None
    model = fastmlp.MLP(sizes, ("relu",) * (len(sizes) - 2), "softmax", dropout=rates)
    summary = model.summary()
    assert f"Total params: {total}" in summary
    assert f"Trainable params: {total}" in summary
    assert "Non-trainable params: 0" in summary
    assert f"{model.n_parameters:,}" == total
    assert summary.count("Dropout") == (2 if rates else 0)
    assert len({len(line) for line in summary.splitlines() if "dense" in line}) == 1


# ---------------------------------------------------------------------------------------------- parameters
def test_weights_are_views_into_one_array():
    model = fastmlp.train(*blobs(), **QUICK)
    assert model.parameters.size == model.n_parameters == 4 * 8 + 8 + 8 * 3 + 3
    assert [w.shape for w in model.weights] == [(4, 8), (8, 3)]
    model.parameters[:] = np.arange(model.n_parameters)
    assert model.weights[0][1, 2] == 10
    assert model.biases[1].tolist() == [64, 65, 66]
    model.biases[1][:] = 0
    assert model.parameters[-1] == 0
    with pytest.raises(TypeError):
        model.weights[0] = np.zeros((4, 8))


def test_from_parameters_copies_and_chooses_the_dtype():
    w = np.ones((2, 1))
    model = fastmlp.MLP.from_parameters([w], [np.zeros(1)], output="identity")
    w[:] = 5
    assert model.weights[0].tolist() == [[1], [1]]
    assert model.dtype == np.float64
    assert fastmlp.MLP.from_parameters([w.astype(np.float32)], [np.zeros(1)], output="identity").dtype == np.float32
    assert fastmlp.MLP.from_parameters([[[1], [2]]], [[0]], output="identity").dtype == np.float32


@pytest.mark.parametrize(("weights", "biases", "options", "message"), [
    ([], [], {}, "one array per layer"),
    ([np.ones((2, 3))], [], {}, "one array per layer"),
    ([np.ones(3)], [np.ones(3)], {}, r"weights\[0\] must be numbers of shape"),
    ([np.ones((2, 3)), np.ones((2, 1))], [np.ones(3), np.ones(1)], {}, r"weights\[1\] .* \(3, n_out\)"),
    ([np.ones((2, 3))], [np.ones(2)], {}, r"biases\[0\] must be 3 numbers"),
    ([np.full((2, 3), np.nan)], [np.ones(3)], {}, r"weights\[0\] must be finite"),
    ([np.array([["a", "b"]])], [np.ones(2)], {}, r"weights\[0\] must be numbers"),
    ([np.ones((2, 3))], [np.ones(3)], {"output": "softmx"}, "did you mean 'softmax'"),
    ([np.ones((2, 3)), np.ones((3, 3))], [np.ones(3), np.ones(3)], {"activation": "softmax"}, "activation must be one"),
    ([np.ones((2, 3))], [np.ones(3)], {"activation": ("relu",)}, "0 hidden layers"),
    ([np.ones((2, 3))], [np.ones(3)], {"classes": ["a", "b"]}, "classes must be 3"),
    ([np.ones((2, 2))], [np.ones(2)], {"classes": ["b", "a"]}, "sorted"),
    ([np.ones((2, 2))], [np.ones(2)], {"output": "identity", "classes": [0, 1]}, "classes must be None"),
    ([np.ones((2, 2))], [np.ones(2)], {"scale": np.inf}, "scale must be a finite number"),
])
def test_from_parameters_refuses(weights, biases, options, message):
    with pytest.raises(ValueError, match=message):
        fastmlp.MLP.from_parameters(weights, biases, **options)


# ---------------------------------------------------------------------------------------------- prediction
@DEVICES
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer. Maximum iterations")
@pytest.mark.parametrize("activation", ["identity", "relu", "tanh", "sigmoid"])
@pytest.mark.parametrize("classes", [2, 3, None])
def test_predicts_as_scikit_learn_with_the_same_weights(activation, classes, device):
    neural_network = pytest.importorskip("sklearn.neural_network", reason="scikit-learn is not installed")
    X, y = blobs(classes=classes) if classes else waves()
    names = {"relu": "relu", "tanh": "tanh", "sigmoid": "logistic", "identity": "identity"}
    peer = (neural_network.MLPClassifier if classes else neural_network.MLPRegressor)(
        hidden_layer_sizes=(7, 5), activation=names[activation], max_iter=30, random_state=0)
    peer.fit(X.astype(float), y)
    model = fastmlp.MLP.from_parameters(peer.coefs_, peer.intercepts_, activation=activation,
                                        output={2: "sigmoid", 3: "softmax", None: "identity"}[classes])
    model.device = device
    X = X.astype(float)
    np.testing.assert_allclose(model.predict(X), peer.predict(X), rtol=1e-9, atol=1e-12)
    if classes:
        np.testing.assert_allclose(model.predict_proba(X), peer.predict_proba(X), rtol=1e-9, atol=1e-12)
        assert model.evaluate(X, y)["accuracy"] == peer.score(X, y)


@DEVICES
def test_each_row_is_predicted_by_itself(device):
    """Any subset, any order, one row at a time; also more rows than a block.

    Products of other shapes are summed in another order: float32 logits of size 10 differ by some 1e-6, and a
    probability differs by as much of itself as its logit does.
    """
    X, y = blobs(3000)
    model = fastmlp.train(X, y, **QUICK | {"device": device})
    whole = model.predict_proba(X)
    np.testing.assert_allclose(model.predict_proba(X[::-7]), whole[::-7], rtol=1e-5)
    np.testing.assert_allclose(np.vstack([model.predict_proba(X[i:i + 1]) for i in range(20)]), whole[:20], rtol=1e-5)
    assert whole.dtype == np.float32


@DEVICES
def test_images_of_8_bits_train_and_predict_as_they_are(device, rng):
    X = rng.integers(0, 256, (150, 20), dtype=np.uint8)
    y = (X[:, 0] > 127).astype(int)
    settings = QUICK | {"device": device}
    images = fastmlp.train(X, y, **settings)
    floats = fastmlp.train(X.astype(np.float32) * np.float32(1 / 255), y, **settings)
    assert (images.scale, floats.scale) == (1 / 255, 1)
    np.testing.assert_allclose(images.parameters, floats.parameters, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(images.predict_proba(X), floats.predict_proba(X / 255), rtol=1e-4)
    # The scale belongs to the net: a pixel of 200 is a pixel of 200 in every dtype.
    np.testing.assert_allclose(images.predict_proba(X.astype(float)), images.predict_proba(X), rtol=1e-5)
    with pytest.warns(UserWarning, match="between 0 and 1"):
        images.predict(X / 255)


def test_bytes_of_0_and_1_are_no_images(rng):
    X = rng.integers(0, 2, (60, 5), dtype=np.uint8)
    assert fastmlp.train(X, X[:, 0], **QUICK).scale == 1


def test_predict_proba_needs_probabilities():
    model = fastmlp.MLP.from_parameters([[[12], [5]]], [[-10]], output="sign")
    with pytest.raises(ValueError, match="predict_proba needs an output of 'softmax' or 'sigmoid'"):
        model.predict_proba(CORNERS)
    with pytest.raises(ValueError, match="has no loss"):
        model.evaluate(CORNERS, [1, 1, 1, 1])


@DEVICES
def test_evaluate_is_the_formula(device, rng):
    X, y = blobs(classes=3)
    model = fastmlp.train(X, y, **QUICK | {"device": device, "dtype": "float64"})
    weights = rng.random(len(X))
    p = model.predict_proba(X)
    loss = -np.log(p[np.arange(len(y)), y])
    numbers = model.evaluate(X, y, weights)
    np.testing.assert_allclose(numbers["loss"], np.average(loss, weights=weights), rtol=1e-10)
    np.testing.assert_allclose(numbers["accuracy"], (p.argmax(axis=1) == y).mean())
    assert model.evaluate(X, np.eye(3)[y])["accuracy"] == numbers["accuracy"]


# ---------------------------------------------------------------------------------------------- frames
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_keep_their_names(library):
    frames = pytest.importorskip(library, reason=f"{library} is not installed")
    X, y = blobs()
    columns = {"width": X[:, 0], "height": X[:, 1], "seen": y > 1, "count": np.arange(len(y)) % 5}
    frame, labels = frames.DataFrame(columns), frames.Series(np.array(["a", "b", "c"])[y])
    model = fastmlp.train(frame, labels, validation_data=(frame, labels), **QUICK)
    assert model.feature_names == tuple(columns)
    plain = np.column_stack([np.asarray(c, np.float32) for c in columns.values()])
    np.testing.assert_array_equal(model.predict_proba(frame), model.predict_proba(plain))
    assert model.evaluate(frame, labels) == model.evaluate(plain, np.array(["a", "b", "c"])[y])

    with pytest.raises(ValueError, match=r"another order; use X\[list\(model.feature_names\)\]"):
        model.predict(frame[["height", "width", "seen", "count"]])
    with pytest.raises(ValueError, match=r"missing: \['count'\]"):
        model.predict(frame[["width", "height", "seen"]])
    renamed = frame.rename({"count": "n"}) if library == "polars" else frame.rename(columns={"count": "n"})
    with pytest.raises(ValueError, match=r"missing: \['count'\]; not known: \['n'\]"):
        model.predict(renamed)
    with pytest.raises(ValueError, match="X of validation_data has the net's columns in another order"):
        fastmlp.train(frame, labels, validation_data=(frame[["height", "width", "seen", "count"]], labels), **QUICK)


def test_a_frame_of_one_column_is_y():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    X, y = waves()
    assert fastmlp.train(X, pandas.DataFrame({"y": y}), **QUICK).predict(X).shape == y.shape
    X, y = blobs()
    assert set(fastmlp.train(X, pandas.DataFrame({"y": y > 0}), **QUICK).classes) == {False, True}
    category = pandas.Series(np.array(["x", "y", "z"])[y], dtype="category")
    assert fastmlp.train(X, category, **QUICK).classes.tolist() == ["x", "y", "z"]
    assert fastmlp.train(X, pandas.Series(y, dtype="Int64"), **QUICK).classes.tolist() == [0, 1, 2]


# ---------------------------------------------------------------------------------------------- copies
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))],
                         ids=["deepcopy", "pickle"])
def test_copies_are_whole_and_apart(duplicate):
    X, y = blobs()
    model = fastmlp.train(X, y, **QUICK)
    twin = duplicate(model)
    np.testing.assert_array_equal(twin.predict_proba(X), model.predict_proba(X))
    assert twin.history["loss"] == model.history["loss"]
    twin.parameters[:] = 0
    assert not twin.weights[0].any()
    assert model.parameters.any()
    twin.weights[0][:] = 1
    assert twin.parameters[0] == 1
    fastmlp.train(X, y, model=twin, epochs=1, device="reference")


def test_repr_and_names():
    X, y = blobs()
    model = fastmlp.train(X, y, **QUICK)
    assert repr(model) == "MLP(4-8-3, relu, softmax, 67 parameters, float32)"
    assert repr(model.history).startswith("History(2 epochs: loss")
    with pytest.raises(KeyError, match="this history has loss, accuracy"):
        model.history["val_loss"]
    with pytest.raises(ValueError, match="no epochs to draw"):
        fastmlp.History().plot()
