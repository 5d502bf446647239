"""fastmlp.train: it learns, every option does what it says, and the same seed gives the same bits."""
import logging

import numpy as np
import pytest
from toy import DEVICES, QUICK, blobs, waves

import fastmlp


# ---------------------------------------------------------------------------------------------- it learns
@DEVICES
@pytest.mark.parametrize("labels", [
    np.array([3, 5, 9]), np.array([3, 5, 9], np.uint8), np.array(["cat", "dog", "élan"]), np.array([-1.0, 0.0, 7.0]),
    np.array([b"a", b"bc", b"d"]), np.array(["a", "b", "c"], object),
], ids=str)
def test_learns_classes_and_gives_labels_back_in_their_type(labels, device):
    X, index = blobs()
    loss = "softmax_cross_entropy" if labels.dtype.kind == "f" else "auto"
    model = fastmlp.train(X, labels[index], loss=loss, epochs=30, batch_size=32, seed=1, device=device)
    predicted = model.predict(X)
    assert predicted.dtype.kind == (labels.dtype.kind if labels.dtype != object else "U")
    assert (predicted == labels[index]).mean() > 0.97
    assert model.output == "softmax"
    assert model.evaluate(X, labels[index])["accuracy"] == (predicted == labels[index]).mean()


@DEVICES
@pytest.mark.parametrize("labels", [np.array([False, True]), np.array(["no", "yes"]), np.array([-1, 1])], ids=str)
def test_two_classes_are_one_sigmoid_unit(labels, device):
    X, index = blobs(classes=2)
    model = fastmlp.train(X, labels[index], epochs=30, batch_size=32, seed=1, device=device)
    assert model.sizes == (4, 100, 1)
    assert model.output == "sigmoid"
    assert (model.predict(X) == labels[index]).mean() > 0.97
    probabilities = model.predict_proba(X)
    assert probabilities.shape == (len(X), 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(labels[probabilities.argmax(axis=1)], model.predict(X))


def test_two_classes_by_softmax_if_named():
    X, y = blobs(classes=2)
    model = fastmlp.train(X, y, loss="softmax_cross_entropy", **QUICK)
    assert model.sizes[-1] == 2
    assert model.predict_proba(X).shape == (len(X), 2)


@DEVICES
def test_learns_numbers(device):
    X, y = waves()
    model = fastmlp.train(X, y, hidden=(32, 32), activation="tanh", learning_rate=0.01, epochs=100, batch_size=32,
                          seed=1, device=device)
    assert model.loss == "squared_error"
    assert model.predict(X).shape == y.shape
    assert model.evaluate(X, y)["loss"] < 0.02 * y.var()
    assert list(model.history.keys()) == ["loss", "learning_rate", "seconds"]


@DEVICES
def test_learns_several_numbers(device):
    X, y = waves(targets=3)
    model = fastmlp.train(X, y, hidden=32, activation="tanh", learning_rate=0.02, epochs=80, batch_size=32, seed=1,
                          device=device)
    assert model.predict(X).shape == y.shape
    assert model.evaluate(X, y)["loss"] < 0.1 * y.var()
    np.testing.assert_allclose(model.evaluate(X, y)["loss"], ((model.predict(X) - y) ** 2).mean(), rtol=1e-5)


def test_a_column_of_numbers_stays_a_column():
    X, y = waves()
    assert fastmlp.train(X, y.reshape(-1, 1), **QUICK).predict(X).shape == (len(X), 1)


@DEVICES
def test_learns_several_labels_a_row(device):
    X, _ = blobs()
    y = (X[:, :3] > 0).astype(int)
    model = fastmlp.train(X, y, epochs=60, batch_size=32, seed=1, device=device)
    assert (model.output, model.classes, model.sizes[-1]) == ("sigmoid", None, 3)
    assert (model.predict(X) == y).mean() > 0.97
    assert model.predict(X).dtype == np.int64
    assert model.predict_proba(X).shape == y.shape
    np.testing.assert_allclose(model.evaluate(X, y)["accuracy"], (model.predict(X) == y).mean())


@DEVICES
@pytest.mark.parametrize("kind", [float, int, bool])
def test_one_hot_rows_are_labels(kind, device):
    X, y = blobs()
    settings = QUICK | {"device": device}
    by_label = fastmlp.train(X, y, **settings)
    by_row = fastmlp.train(X, np.eye(3, dtype=kind)[y], **settings)
    assert by_row.output == "softmax"
    np.testing.assert_allclose(by_row.parameters, by_label.parameters, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(by_row.predict(X), by_label.predict(X))
    np.testing.assert_allclose(by_row.history["loss"], by_label.history["loss"], rtol=1e-5)


def test_what_auto_takes_several_columns_for(caplog):
    X, y = blobs(60)
    with caplog.at_level(logging.INFO, "fastmlp"):
        assert fastmlp.train(X, np.eye(3)[y] * 2, **QUICK).loss == "squared_error"
        assert fastmlp.train(X, np.eye(3, dtype=int)[y] | np.eye(3, dtype=int)[0], **QUICK).output == "sigmoid"
    assert "taken for numbers" in caplog.text


@DEVICES
def test_probabilities_as_targets(device, rng):
    X, _ = blobs()
    share = rng.dirichlet(np.ones(3), len(X))
    assert fastmlp.train(X, share, loss="softmax_cross_entropy", **QUICK | {"device": device}).output == "softmax"
    chance = 1 / (1 + np.exp(-X[:, 0].astype(float)))
    model = fastmlp.train(X, chance, loss="sigmoid_cross_entropy", hidden=(), learning_rate=0.1, epochs=200,
                          batch_size=60, seed=0, device=device)
    np.testing.assert_allclose(model.predict_proba(X)[:, 1], chance, atol=0.02)
    assert set(model.predict(X)) == {0, 1}
    assert model.evaluate(X, (chance > 0.5).astype(int))["accuracy"] > 0.95


# ---------------------------------------------------------------------------------------------- options
@DEVICES
@pytest.mark.parametrize("activation", ["identity", "relu", "leaky_relu", "tanh", "sigmoid", "gelu", "silu"])
def test_every_activation_learns(activation, device):
    X, y = blobs()
    model = fastmlp.train(X, y, hidden=(16, 8), activation=activation, learning_rate=0.02, epochs=15, batch_size=32,
                          seed=0, device=device)
    assert model.activations == (activation, activation)
    assert model.evaluate(X, y)["accuracy"] > 0.9


def test_activation_and_dropout_per_layer():
    X, y = blobs()
    model = fastmlp.train(X, y, **QUICK | {"hidden": (16, 8), "activation": ("tanh", "gelu"), "dropout": (0.0, 0.3)})
    assert (model.activations, model.dropout) == (("tanh", "gelu"), (0.0, 0.3))
    assert "dense_1 (Dense, tanh)" in model.summary()
    assert "dropout_2 (Dropout, 0.3)" in model.summary()


@DEVICES
def test_dropout_acts_in_training_only(device):
    X, y = blobs()
    settings = QUICK | {"epochs": 20, "hidden": 64, "device": device}
    plain, dropped = fastmlp.train(X, y, **settings), fastmlp.train(X, y, dropout=0.5, **settings)
    assert dropped.history["loss"][0] != plain.history["loss"][0]
    assert dropped.history["loss"][-1] > dropped.evaluate(X, y)["loss"]
    np.testing.assert_array_equal(dropped.predict_proba(X), dropped.predict_proba(X))


@pytest.mark.parametrize("device", ["cpu"])
def test_every_device_trains_to_the_weights_of_the_reference(device):
    X, y = blobs()
    settings = QUICK | {"hidden": (16, 8), "dropout": (0.2, 0.0), "l2": 1e-3, "class_weight": "balanced",
                        "schedule": "cosine", "validation_fraction": 0.2, "dtype": "float64", "epochs": 4}
    other, reference = (fastmlp.train(X, y, **settings | {"device": d}) for d in (device, "reference"))
    np.testing.assert_allclose(other.parameters, reference.parameters, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(other.history["val_loss"], reference.history["val_loss"], rtol=1e-8)
    assert other.history["val_accuracy"] == reference.history["val_accuracy"]


@DEVICES
def test_l2_shrinks_weights_and_spares_biases(device):
    X, y = waves()
    settings = {"hidden": (), "optimizer": "sgd", "learning_rate": 0.1, "epochs": 200, "batch_size": 200, "seed": 0,
                "dtype": "float64", "device": device}
    model = fastmlp.train(X, y + 5, l2=1e3 / 1e4, **settings)
    # The minimum of mean((x w + b - y)²) + ½ l2 w², in closed form.
    A, centred = X - X.mean(axis=0), y - y.mean()
    w = np.linalg.solve(2 * A.T @ A / len(X) + 0.1 * np.eye(2), 2 * A.T @ centred / len(X))
    np.testing.assert_allclose(model.weights[0][:, 0], w, rtol=1e-4)
    np.testing.assert_allclose(model.biases[0], (y + 5).mean() - X.mean(axis=0) @ w, rtol=1e-4)


@DEVICES
def test_initializers(device):
    X, y = blobs(features=50)
    for name, variance in {"glorot_uniform": 2 / 450, "glorot_normal": 2 / 450, "he_uniform": 2 / 50,
                           "he_normal": 2 / 50}.items():
        model = fastmlp.train(X, y, hidden=400, initializer=name, epochs=1, optimizer="sgd", learning_rate=1e-12,
                              seed=3, device=device)
        w = model.weights[0]
        assert abs(w.var() / variance - 1) < 0.05
        assert (np.abs(w).max() <= np.sqrt(3 * variance) * 1.00001) == name.endswith("uniform")
        assert np.abs(model.biases[0]).max() < 1e-9


# ---------------------------------------------------------------------------------------------- weights of rows
@DEVICES
@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "numbers"])
def test_a_weight_of_two_is_a_row_twice(kind, device, rng):
    X, y = blobs(90, classes=2 if kind == "sigmoid" else 3)
    y = X[:, 0] * 2 if kind == "numbers" else y
    weights = rng.integers(0, 3, len(X))
    settings = QUICK | {"batch_size": 1000, "dtype": "float64", "epochs": 20, "device": device}
    weighted = fastmlp.train(X, y, sample_weight=weights, **settings)
    repeated = fastmlp.train(np.repeat(X, weights, axis=0), np.repeat(y, weights), **settings)
    np.testing.assert_allclose(weighted.parameters, repeated.parameters, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(weighted.history["loss"], repeated.history["loss"], rtol=1e-9)
    np.testing.assert_allclose(weighted.evaluate(X, y, weights)["loss"],
                               repeated.evaluate(np.repeat(X, weights, axis=0), np.repeat(y, weights))["loss"])


@DEVICES
@pytest.mark.parametrize("classes", [2, 3])
def test_class_weights_multiply_sample_weights(classes, device, rng):
    X, index = blobs(120, classes)
    keep = (index > 0) | (rng.random(len(X)) < 0.2)
    X, index = X[keep], index[keep]
    y = np.array(["a", "b", "c"])[index]
    own = rng.random(len(X))
    settings = QUICK | {"device": device}

    balanced = len(y) / (classes * np.bincount(index))
    one = fastmlp.train(X, y, class_weight="balanced", sample_weight=own, **settings)
    two = fastmlp.train(X, y, sample_weight=own * balanced[index], **settings)
    np.testing.assert_allclose(one.parameters, two.parameters, rtol=1e-4, atol=1e-6)

    one = fastmlp.train(X, y, class_weight={"b": 3}, **settings)
    two = fastmlp.train(X, y, sample_weight=np.where(y == "b", 3, 1), **settings)
    np.testing.assert_array_equal(one.parameters, two.parameters)

    if classes == 3:
        one_hot = fastmlp.train(X, np.eye(3)[index], class_weight="balanced", sample_weight=own, **settings)
        other = fastmlp.train(X, index, class_weight="balanced", sample_weight=own, **settings)
        np.testing.assert_allclose(one_hot.parameters, other.parameters, rtol=1e-4, atol=1e-6)


# ---------------------------------------------------------------------------------------------- the same numbers again
@DEVICES
def test_the_same_seed_gives_the_same_bits(device):
    X, y = blobs()
    settings = QUICK | {"device": device, "dropout": 0.2, "validation_fraction": 0.1}
    one, two = fastmlp.train(X, y, **settings), fastmlp.train(X, y, **settings)
    np.testing.assert_array_equal(one.parameters, two.parameters)
    assert one.history["val_loss"] == two.history["val_loss"]
    assert one.seed == 0
    other = fastmlp.train(X, y, **settings | {"seed": 1})
    assert (one.parameters != other.parameters).any()


def test_no_seed_draws_one_that_can_be_used_again():
    X, y = blobs()
    one, two = (fastmlp.train(X, y, **QUICK | {"seed": None}) for _ in range(2))
    assert one.seed != two.seed
    again = fastmlp.train(X, y, **QUICK | {"seed": one.seed})
    np.testing.assert_array_equal(one.parameters, again.parameters)


def test_threads_do_not_change_the_bits(monkeypatch):
    X, y = blobs(2000, features=30)
    settings = QUICK | {"device": "cpu", "hidden": (64, 32), "batch_size": 256}
    one, two = (fastmlp.train(X, y, n_threads=n, **settings) for n in (1, 2))
    monkeypatch.setenv("FASTMLP_NUM_THREADS", "2")
    three = fastmlp.train(X, y, **settings)
    np.testing.assert_array_equal(one.parameters, two.parameters)
    np.testing.assert_array_equal(one.parameters, three.parameters)
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))


# ---------------------------------------------------------------------------------------------- against scikit-learn
@DEVICES
@pytest.mark.parametrize("problem", ["two classes", "four classes", "numbers"])
@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "adam"])
def test_trains_as_scikit_learn_does(problem, optimizer, device):
    """From the same weights, on whole batches in float64, twenty steps of both end at the same weights."""
    neural_network = pytest.importorskip("sklearn.neural_network", reason="scikit-learn is not installed")
    X, y = waves(120) if problem == "numbers" else blobs(120, 2 if problem == "two classes" else 4)
    X = X.astype(float)
    adam = optimizer == "adam"
    make = neural_network.MLPRegressor if problem == "numbers" else neural_network.MLPClassifier
    peer = make(hidden_layer_sizes=(9, 5), activation="tanh", solver="adam" if adam else "sgd",
                momentum=0.9 if optimizer == "nesterov" else 0, alpha=0.6, learning_rate_init=0.01, batch_size=120,
                shuffle=False, random_state=0, epsilon=1e-15)
    partly = {} if problem == "numbers" else {"classes": np.unique(y)}
    peer.partial_fit(X, y, **partly)

    output = {"two classes": "sigmoid", "four classes": "softmax", "numbers": "identity"}[problem]
    model = fastmlp.MLP.from_parameters(peer.coefs_, peer.intercepts_, activation="tanh", output=output)
    peer._optimizer = type(peer._optimizer)(
        peer.coefs_ + peer.intercepts_, **({"learning_rate_init": 0.01, "epsilon": 1e-15} if adam else
                                           {"learning_rate_init": 0.01, "momentum": peer.momentum}))
    for _ in range(20):
        peer.partial_fit(X, y)

    # scikit-learn minimises half the squared error, and divides alpha by the rows.
    half = 0.5 if problem == "numbers" else 1.0
    ours = fastmlp.Adam(epsilon=1e-15) if adam else optimizer
    fastmlp.train(X, y, model=model, optimizer=ours, learning_rate=0.01 * (1 if adam else half),
                  l2=0.6 / 120 / half, epochs=20, batch_size=120, device=device)
    for one, two in zip((*model.weights, *model.biases), (*peer.coefs_, *peer.intercepts_), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-9)
    if problem != "numbers":
        np.testing.assert_allclose(model.predict_proba(X), peer.predict_proba(X), rtol=1e-6)
    np.testing.assert_array_almost_equal(model.predict(X), peer.predict(X))
