"""Bad input gets an error that names the argument; odd but good input gets the right answer; neither is changed."""
import numpy as np
import pytest
from toy import DEVICES, QUICK, blobs, waves

import fastmlp
from fastmlp.input.rows import split

X, Y = blobs(60)
NUMBERS = waves(60)[1]


def with_value(array, value, where=(7, 1)):
    array = np.array(array, dtype=np.float64)
    array[where] = value
    return array


class Sparse:
    """What a sparse matrix is known by."""

    def tocsr(self):
        raise AssertionError("never converted silently")


def refused(error, message, inputs=X, targets=Y, **options):
    with pytest.raises(error, match=message):
        fastmlp.train(inputs, targets, **QUICK | options)


# ---------------------------------------------------------------------------------------------- X
@pytest.mark.parametrize(("inputs", "message"), [
    (X[:, 0], r"X must be two-dimensional .*got shape \(60,\).*X\.reshape\(-1, 1\) for one feature"),
    (X.reshape(60, 2, 2), r"X must be two-dimensional .*make each row flat"),
    (3.0, "X must be two-dimensional .* from a float"), ("data.csv", "X must be two-dimensional .* from a str"),
    ({"a": [1]}, "X must be two-dimensional .* from a dict"),
    ([[1, 2], [3]], "X cannot be read as an array"),
    (X[:0], r"X must have at least one row and one feature, got shape \(0, 4\)"),
    (X[:, :0], r"X must have at least one row and one feature, got shape \(60, 0\)"),
    (with_value(X, np.nan), "X must be finite, got nan at row 7, column 1"),
    (with_value(X, -np.inf), "X must be finite, got -inf at row 7, column 1"),
    (with_value(X, 1e39), r"X holds 1e\+39 at row 7, column 1, too large for dtype float32"),
    (X.astype(object), r"X must hold numbers, got dtype object: .*X\.astype\(float\)"),
    (X.astype(str), "X must hold numbers, got dtype <U"), (X + 1j, r"X must hold numbers, got dtype complex.*X\.real"),
    (np.full((60, 2), np.datetime64("2024-03-19")), "X must hold numbers, got dtype datetime64.*days"),
    (np.zeros((60, 2), "i4,i4"), "X must hold numbers, got dtype"),
])
def test_x_refused(inputs, message):
    refused(ValueError, message, inputs)


@pytest.mark.parametrize(("inputs", "message"), [
    (None, "X is None"), (Sparse(), r"X is a sparse matrix.*X\.toarray\(\)"),
    (np.ma.masked_array(X, X > 3), r"X is a masked array; .*X\.filled\(0\)"),
])
def test_x_of_the_wrong_kind(inputs, message):
    refused(TypeError, message, inputs)


def test_frames_refused():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    refused(ValueError, r"X must have numeric columns without missing entries, got 'city' \(",
            pandas.DataFrame({"a": X[:, 0], "city": Y.astype(str)}))
    refused(ValueError, "X must be finite, got nan at row 1, column 0",
            pandas.DataFrame({"a": [1.0, None] * 30}))
    refused(ValueError, r"X has columns of the same name: \['a'\]", pandas.DataFrame(X, columns=list("abca")))
    refused(ValueError, r"y has no label in row 1", X, pandas.Series(["a", None] * 30, dtype=object))
    refused(ValueError, r"y .*row 1", X, pandas.Series(["a", None] * 30))


# ---------------------------------------------------------------------------------------------- y
@pytest.mark.parametrize(("targets", "options", "message"), [
    (Y[:59], {}, "X and y must have as many rows, got 60 and 59"),
    ([], {}, "y must have at least one row"), (Y.reshape(60, 1, 1), {}, "y must have one value or label a row"),
    (np.array([None, "a"] * 30, object), {}, "y has no label in row 0"),
    (np.array([np.nan, "a"] * 30, object), {}, r"y has no label in row 0 \(nan\)"),
    (with_value(Y, np.nan, 5), {}, "y must be finite, got nan at row 5"),
    (with_value(NUMBERS, np.inf, 5), {}, "y must be finite, got inf at row 5"),
    (NUMBERS.astype(float) * 1e300, {}, "y holds .* too large for dtype float32"),
    (np.zeros(60, int), {}, "y must hold at least two different labels, got only 0"),
    (np.array(["a", 1] * 30, object), {}, r"y must hold labels of one kind .*mix of objects \(int, str\)"),
    (np.array([[1], [2, 3]] * 30, object), {}, r"y must hold labels of one kind"),
    (Y + 1j, {}, "y must hold labels .*got dtype complex"),
    (np.full(60, np.datetime64("2024")), {}, "y must hold labels .*got dtype datetime64"),
    (np.array([["a", "b"]] * 60), {}, "y must be one-dimensional for text labels"),
    (Y.astype(str), {"loss": "squared_error"}, "y holds labels .*loss='squared_error' cannot predict"),
    (NUMBERS, {"loss": "softmax_cross_entropy"}, "y holds fractions such as .*pass loss='squared_error'"),
    (Y, {"loss": "sigmoid_cross_entropy"}, r"y holds 3 different labels \(0, 1, 2\)"),
    (np.eye(3)[Y] * 2, {"loss": "softmax_cross_entropy"}, "y must hold 0, 1 or probabilities .* got 0 to 2"),
    (np.full((60, 3), 0.5), {"loss": "softmax_cross_entropy"}, "y: each row must sum to 1 .* got 1.5 in row 0"),
    (np.eye(3)[Y] - 0.5, {"loss": "sigmoid_cross_entropy"}, "y must hold 0, 1 or probabilities"),
    (Y, {"loss": "cross_entropy"}, "loss must be one of .*got 'cross_entropy'; did you mean '.*cross_entropy'"),
])
def test_y_refused(targets, options, message):
    refused(ValueError, message, X, targets, **options)


def test_integers_that_look_like_numbers_to_predict_warn():
    with pytest.warns(UserWarning, match="60 different integers in 60 rows.*pass loss='squared_error'"):
        fastmlp.train(X, np.arange(60), **QUICK)


# ---------------------------------------------------------------------------------------------- options
@pytest.mark.parametrize(("options", "message"), [
    ({"hidden": -1}, "hidden must be at least 1, got -1"),
    ({"hidden": (5, 0)}, r"hidden\[1\] must be at least 1, got 0"),
    ({"hidden": 10**9}, r"hidden: a 4-1000000000-3 net has 8,000,000,003 parameters"),
    ({"hidden": (10**30,)}, "hidden: .* use narrower layers"),
    ({"activation": "rellu"}, "activation must be one of .*did you mean 'relu'"),
    ({"activation": "softmax"}, "activation must be one of"), ({"activation": "sign"}, "activation must be one of"),
    ({"activation": ("relu", "tanh")}, "activation must be one value, or one for each of the 1 hidden layers"),
    ({"dropout": 1}, "dropout must be a finite number at least 0 and below 1, got 1"),
    ({"dropout": -0.1}, "dropout must be"), ({"dropout": (0.1, 0.1)}, "dropout must be one value, or one for each"),
    ({"dropout": 0.1, "hidden": ()}, "dropout=0.1 acts on hidden layers, of which there are none"),
    ({"initializer": "glorot"}, "initializer must be one of .*did you mean 'glorot"),
    ({"optimizer": "addam"}, "optimizer must be one of .*did you mean 'adam'"),
    ({"learning_rate": 0}, "learning_rate must be a finite number above 0, got 0"),
    ({"learning_rate": np.nan}, "learning_rate must be a finite number"), ({"l2": -1}, "l2 must be a finite number"),
    ({"epochs": 0}, "epochs must be at least 1, got 0"), ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ({"validation_fraction": 1}, "validation_fraction must be .* below 1"),
    ({"validation_fraction": 0.001}, "validation_fraction=0.001 of 60 rows leaves 0 for validation"),
    ({"validation_fraction": 0.1, "validation_data": (X, Y)}, "exclude each other"),
    ({"validation_data": (X[:, :3], Y)}, "X of validation_data has 3 features, but the net takes 4"),
    ({"validation_data": (X, Y[:9])}, "X of validation_data and y of validation_data must have as many rows"),
    ({"validation_data": (X, Y + 1)}, "y of validation_data holds labels .* not trained on: 3; it knows 0, 1, 2"),
    ({"validation_data": (X, Y.astype(str))}, "y of validation_data holds text, but the net's labels are 0, 1, 2"),
    ({"validation_data": (with_value(X, np.nan), Y)}, "X of validation_data must be finite"),
    ({"validation_data": (X, Y, -np.ones(60))}, "sample_weight of validation_data must not be negative"),
    ({"early_stopping": 5}, r"early_stopping watches val_loss, which needs validation: .*monitor='loss'"),
    ({"early_stopping": 0}, "early_stopping must be at least 1"),
    ({"class_weight": "even"}, "class_weight must be one of 'balanced'"),
    ({"class_weight": {"a": 1}}, "class_weight holds text"),
    ({"class_weight": {7: 1}}, "class_weight holds labels .*7"),
    ({"class_weight": {None: 1}}, "class_weight has no label"),
    ({"class_weight": {0: -1}}, r"class_weight\[0\] must be a finite number at least 0"),
    ({"class_weight": {0: 0, 1: 0, 2: 0}}, "class_weight leaves every row with weight 0"),
    ({"sample_weight": np.ones(59)}, "sample_weight must be one number for each of the 60 rows"),
    ({"sample_weight": np.zeros(60)}, "sample_weight must not be zero for every row"),
    ({"sample_weight": with_value(np.ones(60), np.nan, 3)}, "sample_weight must be finite, got nan at position 3"),
    ({"sample_weight": with_value(np.ones(60), -1, 3)}, "sample_weight must not be negative, got -1 in row 3"),
    ({"device": "gpu"}, "device must be 'auto', 'cpu'"), ({"device": "refrence"}, "did you mean 'reference'"),
    ({"dtype": "float16"}, "dtype must be 'float32' or 'float64', got 'float16'"), ({"dtype": None}, "dtype must be"),
    ({"dtype": (None,)}, "dtype must be"), ({"dtype": "banana"}, "dtype must be"),
    ({"n_threads": 0}, "n_threads must be at least 1, got 0"), ({"seed": -1}, "seed must be at least 0, got -1"),
    ({"verbose": 3}, "verbose must be 0"),
])
def test_options_refused(options, message):
    refused(ValueError, message, **options)


@pytest.mark.parametrize(("options", "message"), [
    ({"hidden": "100"}, "hidden must be a sequence of layer widths"), ({"hidden": None}, "hidden must be a sequence"),
    ({"hidden": (3.5,)}, r"hidden\[0\] must be a whole number of at least 1, got 3.5"),
    ({"hidden": True}, "hidden must be"),
    ({"epochs": 1.5}, "epochs must be a whole number"), ({"epochs": "5"}, "epochs must be a whole number"),
    ({"batch_size": None}, "batch_size must be a whole number"), ({"activation": None}, "activation must be one of"),
    ({"activation": np.array(3.7)}, "activation must be one of"),
    ({"learning_rate": "fast"}, "learning_rate must be a finite number above 0, got 'fast'"),
    ({"optimizer": fastmlp.Adam}, r"got the class; write fastmlp.Adam\(\)"), ({"optimizer": None}, "optimizer must be"),
    ({"validation_data": X}, r"validation_data must be \(X, y\)"),
    ({"validation_data": (X,)}, "validation_data must be"),
    ({"validation_data": 0.1}, "validation_data must be"),
    ({"early_stopping": "yes"}, "early_stopping must be a number"),
    ({"early_stopping": True}, "early_stopping must be a number"),
    ({"class_weight": 3}, "class_weight must be 'balanced'"),
    ({"callbacks": 3}, "callbacks must be a list of callables"), ({"callbacks": [print, 3]}, "callbacks must be"),
    ({"seed": 1.5}, "seed must be a whole number"), ({"n_threads": 1.5}, "n_threads must be a whole number"),
    ({"device": 1}, "device must be a name"), ({"model": "m.safetensors"}, "model must be a fastmlp.MLP"),
])
def test_options_of_the_wrong_kind(options, message):
    refused(TypeError, message, **options)


def test_a_device_asked_for_by_name_and_absent(monkeypatch):
    monkeypatch.setattr(fastmlp.device, "gpus", lambda: ((), "CuPy is not installed"))
    refused(RuntimeError, r"device='cuda:1' \(asked for by name\): CuPy is not installed\. It needs an NVIDIA GPU with "
                          r"its driver and pip install 'fastmlp\[cuda13\]'", device="cuda:1")
    monkeypatch.setenv("FASTMLP_DEVICE", "cuda")
    refused(RuntimeError, r"device='cuda' \(named by FASTMLP_DEVICE\): CuPy is not installed", device="auto")
    monkeypatch.setenv("FASTMLP_DEVICE", "gpu")
    refused(ValueError, "named by FASTMLP_DEVICE", device="auto")
    monkeypatch.setenv("FASTMLP_NUM_THREADS", "many")
    refused(TypeError, "FASTMLP_NUM_THREADS must be a whole number")


def test_a_precision_that_needs_a_gpu(monkeypatch):
    refused(ValueError, "precision must be one of", precision="half")
    for device in ("cpu", "reference"):
        refused(ValueError, f"precision='tf32' needs the tensor cores of a GPU, and the device is '{device}'",
                precision="tf32", device=device)
    monkeypatch.setattr(fastmlp.device, "gpus", lambda: (("GPU",), ""))
    refused(ValueError, "precision='bf16' is of float32 nets", precision="bf16", device="cuda", dtype="float64")


def test_options_that_need_classes():
    refused(ValueError, "class_weight needs one class a row", targets=NUMBERS, class_weight="balanced")
    refused(ValueError, "predicting numbers does not have", targets=NUMBERS,
            early_stopping=fastmlp.EarlyStopping(monitor="accuracy"))


def test_going_on_refused():
    model = fastmlp.train(X, Y, **QUICK)
    refused(ValueError, "hidden=.* contradicts the model .* leave hidden out", model=model, hidden=9)
    refused(ValueError, "activation=.* contradicts the model", model=model, activation="tanh")
    refused(ValueError, "loss=.* contradicts the model", model=model, loss="squared_error")
    refused(ValueError, "dtype=.* contradicts the model", model=model, dtype="float64")
    refused(ValueError, "X has 3 features, but the net takes 4", X[:, :3], model=model)
    refused(ValueError, "y holds labels the net was not trained on: 3", targets=Y + 1, model=model)
    unit = fastmlp.MLP.from_parameters([np.ones((4, 1))], [np.ones(1)], output="sign")
    with pytest.raises(ValueError, match="units that cannot be trained: sign"):
        fastmlp.train(X, Y, model=unit)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "evaluate"])
def test_prediction_refused(method):
    model = fastmlp.train(X, Y, **QUICK)

    def call(inputs, targets=Y):
        return getattr(model, method)(inputs, *([targets] if method == "evaluate" else []))

    for inputs, message in ((X[:, :3], "X has 3 features, but the net takes 4"), (X[0], "X must be two-dimensional"),
                            (X[:0], "X must have at least one row"), (with_value(X, np.nan), "X must be finite")):
        with pytest.raises(ValueError, match=message):
            call(inputs)
    if method == "evaluate":
        with pytest.raises(ValueError, match="y holds labels the net was not trained on"):
            call(X, Y + 1)
        with pytest.raises(ValueError, match=r"y must have shape \(rows, 3\)"):
            call(X, np.eye(4)[Y])
        with pytest.raises(ValueError, match="as many rows"):
            call(X, Y[:5])


# ---------------------------------------------------------------------------------------------- odd but good
def memory_mapped(x, tmp_path):
    path = tmp_path / f"{x.dtype}{x.ndim}.npy"
    np.save(path, x)
    return np.load(path, mmap_mode="r")


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def unaligned(x):
    raw = np.empty(x.nbytes + 1, np.uint8)
    view = raw[1:].view(x.dtype).reshape(x.shape)
    view[:] = x
    return view


ODD = {
    "read-only": read_only, "Fortran order": np.asfortranarray, "every second row": lambda x: np.repeat(x, 2, 0)[::2],
    "reversed": lambda x: np.flip(np.flip(x).copy()), "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "float64": lambda x: x.astype(np.float64), "longdouble": lambda x: x.astype(np.longdouble),
    "nested lists": lambda x: x.tolist(), "memory-mapped": None, "unaligned": unaligned,
    "a subclass": lambda x: x.view(np.matrix) if x.ndim == 2 else x,
}


CHANGES_DTYPE = ("float64", "longdouble", "nested lists")


@DEVICES
@pytest.mark.parametrize(("odd", "kind"), [(odd, "float32") for odd in ODD] + [(odd, "uint8") for odd in ODD
                                                                               if odd not in CHANGES_DTYPE])
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_odd_inputs_give_the_same_bits(odd, kind, device, tmp_path):
    plain = X if kind == "float32" else (np.abs(X) * 20).astype(np.uint8)
    make = ODD[odd] or (lambda x: memory_mapped(x, tmp_path))
    inputs = make(plain)
    weights = np.linspace(1, 2, 60).astype(np.float32)
    odd_y, odd_weights = make(Y.astype(np.int64)), make(weights)
    kept = [np.array(a) for a in (inputs, odd_y, odd_weights)]
    settings = QUICK | {"device": device}
    expected = fastmlp.train(plain, Y, sample_weight=weights, **settings)
    model = fastmlp.train(inputs, odd_y if odd not in CHANGES_DTYPE else Y, sample_weight=odd_weights,
                          validation_data=(inputs, Y), **settings)
    np.testing.assert_array_equal(model.parameters, expected.parameters)
    np.testing.assert_array_equal(model.predict_proba(inputs), expected.predict_proba(plain))
    for before, after in zip(kept, (inputs, odd_y, odd_weights), strict=True):
        np.testing.assert_array_equal(before, np.array(after))


@DEVICES
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("odd", ["unaligned", "read-only", "big-endian", "every second row"])
def test_odd_numbers_to_predict_are_evaluated(odd, dtype, device):
    """The losses' kernels read y itself where it has the dtype and the layout already."""
    settings = QUICK | {"device": device, "dtype": dtype}
    y = NUMBERS.astype(dtype)
    model = fastmlp.train(X, y, **settings)
    assert model.evaluate(X, ODD[odd](y)) == model.evaluate(X, y)


@DEVICES
@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint16, bool, np.float16])
def test_other_dtypes_are_numbers(dtype, device):
    numbers = (np.abs(X) * 3).astype(dtype)
    settings = QUICK | {"device": device}
    np.testing.assert_array_equal(fastmlp.train(numbers, Y, **settings).parameters,
                                  fastmlp.train(numbers.astype(np.float32), Y, **settings).parameters)


@DEVICES
def test_batches_larger_than_the_data_and_tiny_data(device):
    settings = QUICK | {"device": device}
    large = fastmlp.train(X, Y, **settings | {"batch_size": 10**15})
    exact = fastmlp.train(X, Y, **settings | {"batch_size": 60})
    np.testing.assert_array_equal(large.parameters, exact.parameters)
    two = fastmlp.train([[0.0], [1.0]], ["a", "b"], **settings)
    assert len(two.predict([[0.5]])) == 1
    assert fastmlp.train([[2.0]], [3.0], **settings).predict([[2.0]]).shape == (1,)
    fastmlp.train(X, Y, **settings | {"hidden": 1, "batch_size": 1})


@DEVICES
@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
def test_huge_values_give_an_answer_or_a_clear_error(device):
    """Logits of ±1e30 in training and prediction: finite, or DivergedError; never NaN handed back."""
    for size in (1e4, 1e18, 1e30):
        try:
            model = fastmlp.train(X * np.float32(size), Y, **QUICK | {"device": device})
        except fastmlp.DivergedError as error:
            model = error.model
        assert np.isfinite(model.parameters).all()
    model = fastmlp.MLP.from_parameters([np.eye(3) * 1e30], [np.zeros(3)], output="softmax")
    model.device = device
    np.testing.assert_array_equal(model.predict_proba(np.eye(3)), np.eye(3))
    assert model.evaluate(np.eye(3), [0, 1, 2]) == {"loss": 0.0, "accuracy": 1.0}
    assert model.evaluate(np.eye(3), [1, 2, 0])["loss"] > 1e29


# ---------------------------------------------------------------------------------------------- the split
@pytest.mark.parametrize("fraction", [0.05, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("counts", [(60,), (30, 30), (55, 4, 1), (10, 20, 30, 7)])
def test_split_is_shuffled_and_stratified(fraction, counts, rng):
    answers = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    n = len(answers)
    train, held = split(n, fraction, answers, rng)
    assert sorted([*train, *held]) == list(range(n))
    assert len(set(answers[train])) == len(counts)
    assert abs(len(held) - n * fraction) <= len(counts)
    for label, count in enumerate(counts):
        assert abs((answers[held] == label).sum() - fraction * count) <= 1.5
    plain_train, plain_held = split(n, fraction, None, rng)
    assert len(plain_held) == round(n * fraction)
    assert sorted([*plain_train, *plain_held]) == list(range(n))
    assert sorted(plain_held) != list(plain_held) or len(plain_held) < 4
