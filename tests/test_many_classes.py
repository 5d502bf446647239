"""A hundred thousand classes, a million of them, and labels with huge gaps: right, within little memory."""
import tracemalloc
import warnings

import numpy as np
import pytest
from toy import DEVICES

import fastmlp

MILLION = 10 ** 6
GAP = 10 ** 12
LABELS = np.arange(MILLION) * GAP - 5
QUICK = {"hidden": (2,), "epochs": 2, "batch_size": 2, "seed": 0}


def rows(n):
    return np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)


def net_of_a_million(device):
    """Hand-made, with labels that lie 10¹² apart; each class has a bias of its own."""
    rng = np.random.default_rng(1)
    model = fastmlp.MLP.from_parameters(
        [rng.normal(size=shape).astype(np.float32) for shape in ((3, 2), (2, MILLION))],
        [rng.normal(size=n).astype(np.float32) for n in (2, MILLION)], activation="tanh", classes=LABELS)
    model.device = device
    return model


@DEVICES
@pytest.mark.parametrize("labels", [
    [0, 2 ** 62, -2 ** 62], [-2 ** 63, 2 ** 63 - 1, 0], np.array([0, 2 ** 64 - 1, 2 ** 63], np.uint64),
    [0.0, 1e300, -1e300], [1.0, 2.0 ** 53, 2.0 ** 53 + 2],
], ids=["quarter", "int64", "uint64", "floats", "neighbours"])
def test_labels_with_huge_gaps(labels, device):
    """As the same labels called 0, 1, 2: nothing is counted from the least to the greatest."""
    labels, index = np.sort(np.asarray(labels)), np.arange(30) % 3
    X = rows(30) + 4 * index[:, None].astype(np.float32)
    options = QUICK | {"device": device, "loss": "softmax_cross_entropy", "epochs": 3}
    model, plain = fastmlp.train(X, labels[index], **options), fastmlp.train(X, index, **options)
    np.testing.assert_array_equal(model.parameters, plain.parameters)
    predicted = model.predict(X)
    np.testing.assert_array_equal(predicted, labels[plain.predict(X)])
    assert predicted.dtype == labels.dtype
    with pytest.raises(ValueError, match="labels the net was not trained on"):
        model.evaluate(X[:1], [labels.dtype.type(7)])


def test_integers_beyond_64_bits_are_refused():
    with pytest.raises(ValueError, match="y holds integers beyond 64 bits"):
        fastmlp.train(rows(3), [2 ** 70, 0, 1], **QUICK)


@DEVICES
def test_three_rows_learn_from_a_million_columns(device):
    """One-hot rows of a million columns, against the reference in float64."""
    targets = np.eye(3, MILLION, dtype=np.float32)[:, ::-1]
    model = fastmlp.train(rows(3), targets, **QUICK, device=device)
    oracle = fastmlp.train(rows(3), targets, **QUICK, device="reference", dtype="float64")
    np.testing.assert_allclose(model.history["loss"], oracle.history["loss"], rtol=1e-5)
    np.testing.assert_allclose(model.parameters, oracle.parameters, rtol=1e-4, atol=1e-5)
    assert set(model.predict(rows(3))) <= set(np.arange(MILLION))


@DEVICES
def test_a_net_of_a_million_labels_trains_further(device, tmp_path):
    """Few rows, whose labels are the first, the last and some between; validation, a file and back."""
    y = LABELS[[0, 1, 499_999, MILLION - 2, MILLION - 1]]
    model = net_of_a_million(device)
    before = model.evaluate(rows(5), y)["loss"]
    fastmlp.train(rows(5), y, model=model, epochs=1, batch_size=2, learning_rate=0.1, seed=0, device=device,
                  validation_data=(rows(5), y))
    assert model.history["val_loss"][-1] < before
    assert model.history["val_loss"][-1] == pytest.approx(model.evaluate(rows(5), y)["loss"], rel=1e-5)
    model.save(tmp_path / "m")
    loaded = fastmlp.load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.classes, LABELS)
    np.testing.assert_array_equal(loaded.parameters, model.parameters)


def test_errors_do_not_print_a_million_labels():
    with pytest.raises(ValueError, match="classes must be 2") as caught:
        fastmlp.MLP.from_parameters([np.ones((3, 2))], [np.zeros(2)], classes=LABELS)
    assert len(str(caught.value)) < 1000


@DEVICES
def test_answers_need_not_the_outputs_of_all_rows(device, monkeypatch):
    """700 rows × 10⁵ classes are 280 MB of outputs; predict and evaluate do with blocks of 8 MB."""
    rng = np.random.default_rng(1)
    model = fastmlp.MLP.from_parameters([rng.normal(size=(3, 10 ** 5)).astype("f")],
                                        [rng.normal(size=10 ** 5).astype("f")])
    model.device = device
    X, y = rows(700), np.arange(700)
    expected, answers = model.evaluate(X, y), model.predict(X)
    monkeypatch.setattr(fastmlp.net.model, "WINDOW_BYTES", 8 << 20)
    tracemalloc.start()
    try:
        found, predicted = model.evaluate(X, y), model.predict(X)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(predicted, answers)
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-6)
    assert found["accuracy"] == expected["accuracy"]


@pytest.mark.parametrize("count", [1000, 100_000])
def test_as_many_classes_as_rows(count, long):
    """A label for each row. 100,000 of them take a minute, 3 · 10¹⁰ outputs: with --long."""
    if count > 1000 and not long:
        pytest.skip("a minute: run with --long")
    y = np.random.default_rng(2).permutation(count) * GAP
    X = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = fastmlp.train(X, y, hidden=(2,), epochs=1, batch_size=256, seed=0, device="cpu")
    np.testing.assert_array_equal(model.classes, np.arange(count) * GAP)
    assert model.history["loss"][0] == pytest.approx(np.log(count), rel=0.05)
    assert np.isin(model.predict(X[:50]), y).all()
