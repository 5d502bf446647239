"""train_perceptron against the rule in plain Python, its stopping conditions, and what it refuses."""
import numpy as np
import pandas as pd
import pytest

from fastmlp import device
from fastmlp.training.perceptron import ThresholdUnit, train_perceptron

DEVICES = ("reference", "cpu")
CORNERS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
XOR = np.array([-1, 1, 1, -1])


def textbook(X, y, mode, max_epochs):
    """(theta, bias, mistakes of every pass) by the lecture's rules, one row at a time."""
    theta, bias, passes = np.zeros(X.shape[1]), 0.0, []
    while len(passes) < max_epochs and passes[-1:] != [0]:
        mistakes, step, shift = 0, np.zeros(X.shape[1]), 0.0
        for x, sign in zip(X, y, strict=True):
            if sign * (theta @ x + bias) <= 0:
                mistakes += 1
                if mode == "online":
                    theta, bias = theta + sign * x, bias + sign
                else:
                    step, shift = step + sign * x, shift + sign
        theta, bias = theta + step / len(X), bias + shift / len(X)
        passes.append(mistakes)
    return theta, bias, passes


def separable(rng, n=60, k=5, margin=0.5):
    """Rows on both sides of a hyperplane, none nearer to it than `margin`; X, y, R and the margin."""
    theta, bias = rng.normal(size=k), rng.normal()
    X = rng.normal(size=(20 * n, k))
    score = (X @ theta + bias) / np.sqrt(theta @ theta + bias ** 2)
    X, score = X[np.abs(score) >= margin][:n], score[np.abs(score) >= margin][:n]
    return X, np.where(score > 0, 1, -1), np.sqrt((X ** 2).sum(axis=1).max() + 1), np.abs(score).min()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mode", ["online", "batch"])
@pytest.mark.parametrize("device", DEVICES)
def test_follows_the_rule(device, mode, dtype, rng):
    """On 16 rows of small integers every sum and quotient is exact, so all numbers must be equal."""
    X, y = rng.integers(-4, 5, (16, 3)), rng.choice([-1, 1], 16)
    unit = train_perceptron(X, y, mode=mode, max_epochs=7, device=device, dtype=dtype)
    theta, bias, passes = textbook(X.astype(float), y, mode, 7)
    np.testing.assert_array_equal(unit.theta, theta)
    assert unit.theta.dtype == dtype
    assert (unit.bias, unit.history["mistakes"]) == (bias, passes)
    expected = passes if mode == "online" else [min(1, mistakes) for mistakes in passes]
    assert unit.history["updates"] == expected


@pytest.mark.parametrize("shuffle", [False, True])
def test_mistakes_stay_below_novikoffs_bound(shuffle, rng):
    """A separable set costs the online rule at most (R / margin)² updates, in any order of the rows."""
    for _ in range(5):
        X, y, radius, margin = separable(rng)
        unit = train_perceptron(X, y, shuffle=shuffle, seed=1, device="reference", dtype="float64")
        assert unit.converged
        assert sum(unit.history["updates"]) <= (radius / margin) ** 2
        np.testing.assert_array_equal(unit.predict(X), y)


@pytest.mark.parametrize("device", DEVICES)
def test_batch_separates(device, rng):
    X, y, _, _ = separable(rng)
    unit = train_perceptron(X, y, mode="batch", device=device, max_epochs=10_000)
    assert unit.converged
    assert unit.history["mistakes"][-1] == 0
    np.testing.assert_array_equal(unit.predict(X), y)


@pytest.mark.parametrize("mode", ["online", "batch"])
def test_xor_cannot_be_separated(mode):
    unit = train_perceptron(CORNERS, XOR, mode=mode, max_epochs=50, device="reference")
    assert not unit.converged
    assert len(unit.history["mistakes"]) == 50
    assert min(unit.history["mistakes"]) > 0
    assert "not converged after 50 passes" in repr(unit)


def test_stops_after_the_first_pass_without_mistakes():
    unit = train_perceptron(CORNERS, [1, 1, 1, -1], device="reference")
    assert unit.history["mistakes"].count(0) == 1
    assert unit.history["mistakes"][-1] == 0
    unit = train_perceptron(CORNERS, [1, 1, 1, -1], max_epochs=2, device="reference")
    assert not unit.converged
    assert len(unit.history["mistakes"]) == 2


@pytest.mark.parametrize("y", [
    [0, 1, 1, 1], [7, 3, 3, 3], [-1, 1, 1, 1], [0.5, 2.5, 2.5, 2.5], [False, True, True, True],
    ["off", "on", "on", "on"], np.array(["b", "a", "a", "a"], object), [[0], [1], [1], [1]],
], ids=str)
def test_any_two_labels(y):
    unit = train_perceptron(CORNERS, y, device="reference")
    assert list(unit.classes) == sorted(set(np.ravel(y).tolist()))
    assert unit.predict(CORNERS).tolist() == np.ravel(y).tolist()


def test_shuffled_orders_come_from_the_seed(rng):
    X, y = rng.normal(size=(50, 4)), rng.choice([0, 1], 50)

    def theta(**options):
        return train_perceptron(X, y, shuffle=True, max_epochs=5, device="reference", **options).theta

    np.testing.assert_array_equal(theta(seed=3), theta(seed=3))
    assert (theta(seed=3) != theta(seed=4)).any()
    assert (theta(seed=3) != train_perceptron(X, y, max_epochs=5, device="reference").theta).any()


@pytest.mark.parametrize("shuffle", [False, True])
def test_images_and_odd_layouts_train_alike(shuffle, rng):
    """uint8 counts 0 to 255; read-only, Fortran-order and strided arrays give the same unit."""
    X, y = rng.integers(0, 256, (40, 6), np.uint8), rng.choice([0, 1], 40)
    frozen = X.copy()
    frozen.flags.writeable = False
    wide = np.zeros((40, 12), np.uint8)
    wide[:, ::2] = X
    thetas = [train_perceptron(x, y, max_epochs=5, shuffle=shuffle, seed=0, device="cpu").theta
              for x in (X, frozen, np.asfortranarray(X), wide[:, ::2], X.astype(np.float64), X.tolist())]
    for theta in thetas[1:]:
        np.testing.assert_array_equal(theta, thetas[0])


def test_frames_keep_their_columns():
    frame = pd.DataFrame(CORNERS, columns=["a", "b"])
    unit = train_perceptron(frame, pd.Series(["n", "y", "y", "y"]), device="reference")
    assert unit.feature_names == ("a", "b")
    assert unit.predict(frame).tolist() == ["n", "y", "y", "y"]
    with pytest.raises(ValueError, match="order"):
        unit.predict(frame[["b", "a"]])


def test_zero_counts_as_the_second_label():
    unit = ThresholdUnit(np.ones(1, np.float32), -1.0, np.array(["lo", "hi"]), True, {"mistakes": []})
    assert unit.predict([[0.5], [1.0], [1.5]]).tolist() == ["lo", "hi", "hi"]
    assert unit.decision_function([[0.5], [1.0]]).tolist() == [-0.5, 0.0]


def test_ctrl_c_leaves_the_unit_so_far(monkeypatch):
    kernels = device.kernels("reference")
    one_pass, calls = kernels.perceptron_online, []

    def interrupted(*arguments):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(one_pass(*arguments))
        return calls[-1]

    monkeypatch.setattr(kernels, "perceptron_online", interrupted)
    unit = train_perceptron(CORNERS, XOR, device="reference")
    assert unit.history["mistakes"] == calls
    assert not unit.converged


@pytest.mark.parametrize(("change", "message"), [
    ({"mode": "onlin"}, "mode must be one of 'online', 'batch', got 'onlin'; did you mean 'online'"),
    ({"max_epochs": 0}, "max_epochs must be at least 1"),
    ({"mode": "batch", "shuffle": True}, "shuffle=True needs mode='online'"),
    ({"seed": -1}, "seed must be at least 0"),
    ({"dtype": "float16"}, "dtype must be 'float32' or 'float64'"),
    ({"device": "abacus"}, "device must be"),
    ({"y": [1, 1, 1, 1]}, "y must hold exactly two different labels, got 1: 1"),
    ({"y": [1, 2, 3, 1]}, "exactly two different labels, got 3: 1, 2, 3"),
    ({"y": [1, 2]}, "X and y must have as many rows, got 4 and 2"),
    ({"y": [[1, 2]] * 4}, "as many rows, got 4 and 4 by 2"),
    ({"y": [0, 1, np.nan, 1]}, "y must be finite"),
    ({"y": ["a", None, "b", "a"]}, "y has no label in row 1"),
    ({"X": [0, 1, 2, 3]}, "X must be two-dimensional"),
    ({"X": np.zeros((4, 0))}, "at least one row and one feature"),
    ({"X": [[np.inf, 0]] * 4}, "X must be finite"),
    ({"X": [["a", "b"]] * 4}, "X must hold numbers"),
    ({"X": np.full((4, 2), 2e38) * [[1, -1], [-1, 1], [1, 1], [-1, -1]]}, "too large for sums in float32: scale X"),
])
def test_wrong_arguments(change, message):
    arguments = {"X": CORNERS, "y": XOR, "device": "reference"} | change
    X, y = arguments.pop("X"), arguments.pop("y")
    with pytest.raises(ValueError, match=message), np.errstate(all="ignore"):
        train_perceptron(X, y, **arguments)


def test_shuffle_is_a_truth_value():
    with pytest.raises(TypeError, match="shuffle must be True or False"):
        train_perceptron([[0], [1]], [0, 1], shuffle=np.array([1, 2]))


def test_predict_checks_its_input():
    unit = train_perceptron(CORNERS, [0, 1, 1, 1], device="reference")
    with pytest.raises(ValueError, match="X has 3 features, but the net takes 2"):
        unit.predict(np.zeros((1, 3)))
