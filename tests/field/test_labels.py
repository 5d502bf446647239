"""Labels as people write them down: lists of mixed types, missing labels, other dtypes than in training."""
import numpy as np
import pytest

import fastmlp

X = np.random.default_rng(0).normal(size=(120, 3))
QUICK = {"hidden": 4, "epochs": 1, "seed": 0, "device": "reference"}
NAN = float("nan")


@pytest.mark.parametrize(("y", "message"), [
    (["a", "b", NAN] * 40, r"y has no label in row 2 \(nan\)"),
    (["a", "b", np.float32("nan")] * 40, r"y has no label in row 2 \(.*nan.*\)"),
    ([b"a", b"b", None] * 40, r"y has no label in row 2 \(None\)"),
    ([1, "one"] * 60, r"a mix of objects \(int, str\)"),
    ([b"1", "1"] * 60, r"a mix of objects \(bytes, str\)"),
    ([True, 2] * 60, r"a mix of objects \(bool, int\)"),
    ([True, "True"] * 60, r"a mix of objects \(bool, str\)"),
    ([2 ** 70, 2 ** 71] * 60, r"integers beyond 64 bits \(2361183241434822606848\)"),
    ([2 ** 60 + 1, 0.5] * 60, "1152921504606846977 among floats"),
    (["a", "a\0"] * 60, "ends with the character NUL"),
    ([[0, 1], [1]] * 60, "rows of different lengths"),
], ids=["missing", "missing float32", "missing object", "number and text", "bytes and text", "bool and int",
        "bool and text", "beyond 64 bits", "beyond float64", "NUL", "ragged"])
def test_a_list_of_labels_that_are_not_of_one_kind(y, message):
    """NumPy would write a missing label as the text 'nan', and 1 as '1': a class that nobody has named."""
    for call in (lambda: fastmlp.train(X, y, **QUICK), lambda: fastmlp.train_perceptron(X, y, max_epochs=1)):
        with pytest.raises(ValueError, match=message):
            call()


def test_estimators_refuse_the_same_lists():
    pytest.importorskip("sklearn")
    for y, message in ((["a", "b", NAN] * 40, "y has no label in row 2"), ([1, "one"] * 60, "a mix of objects")):
        for estimator in (fastmlp.MLPClassifier((4,), max_iter=1), fastmlp.Perceptron()):
            with pytest.raises(ValueError, match=message):
                estimator.fit(X, y)
            with pytest.raises(ValueError, match=message.replace("y has", "classes has")):
                estimator.partial_fit(X, np.arange(120) % 2, classes=y[:3])


@pytest.mark.parametrize("y", [["a", "b", "c"], [3, 1, 2], [True, False, True], [b"a", b"b", b"b"],
                               [2 ** 63, 2 ** 63 + 1, 5], (np.int8(1), 2, 3), [np.array(1), np.array(2), np.array(3)]],
                         ids=str)
def test_a_list_of_labels_comes_back_as_it_was(y):
    model = fastmlp.train(X, y * 40, **QUICK)
    assert model.classes.tolist() == sorted({int(v) if isinstance(v, np.ndarray | np.int8) else v for v in y})


def test_labels_in_numpy_s_own_text_dtype():
    y = np.array(["a", "b", "c"] * 40)
    text = y.astype(np.dtypes.StringDType())
    one, two = (fastmlp.train(X, labels, **QUICK) for labels in (y, text))
    np.testing.assert_array_equal(one.parameters, two.parameters)
    assert two.classes.tolist() == ["a", "b", "c"]
    assert one.evaluate(X, text) == one.evaluate(X, y)
    missing = np.array(["a", "b", None] * 40, dtype=np.dtypes.StringDType(na_object=None))
    with pytest.raises(ValueError, match=r"y has no label in row 2 \(None\)"):
        fastmlp.train(X, missing, **QUICK)


def test_predictions_into_an_array_that_cannot_hold_the_labels():
    """300 would be 44 in int8, "setosa" would be "set"; what fits is taken."""
    model = fastmlp.train(X, [100, 200, 300] * 40, **QUICK)
    with pytest.raises(ValueError, match="out has dtype int8, which cannot hold the label 200"):
        model.predict(X, out=np.zeros(120, np.int8))
    assert (model.predict(X, out=np.zeros(120, np.int16)) == model.predict(X)).all()
    model = fastmlp.train(X, ["setosa", "virginica"] * 60, **QUICK)
    with pytest.raises(ValueError, match="out has dtype <U3, which cannot hold the label 'setosa'"):
        model.predict(X, out=np.zeros(120, "U3"))
    assert (model.predict(X, out=np.zeros(120, object)) == model.predict(X)).all()
    ids = fastmlp.train(X, [2 ** 60, 2 ** 60 + 1] * 60, **QUICK)
    with pytest.raises(ValueError, match="float64, which cannot hold the label 1152921504606846977"):
        ids.predict(X, out=np.zeros(120))
    numbers = fastmlp.MLP.from_parameters([[[1e6]]], [[0.0]], output="identity")
    with pytest.raises(ValueError, match=r"out has dtype float16, which cannot hold predictions up to 1e\+06"):
        numbers.predict([[1.0]], out=np.zeros(1, np.float16))


def test_large_integer_labels_are_never_compared_as_floats():
    """As float64, 2**60 and 2**60 + 1 are one number."""
    model = fastmlp.train(X, [2 ** 60 + 1, 2 ** 60 + 3] * 60, **QUICK)
    with pytest.raises(ValueError, match="holds labels the net was not trained on"):
        model.evaluate(X, np.full(120, 2.0 ** 60))
    same = model.evaluate(X, [2 ** 60 + 1, 2 ** 60 + 3] * 60)
    assert model.evaluate(X, np.array([2 ** 60 + 1, 2 ** 60 + 3] * 60, np.uint64)) == same
    with pytest.raises(ValueError, match="holds labels the net was not trained on"):
        model.evaluate(X, np.full(120, 2 ** 64 - 1, np.uint64))


def test_the_labels_of_a_net_made_by_hand():
    weights = [np.eye(3)], [np.zeros(3)]
    with pytest.raises(ValueError, match=r"classes has no label in row 2 \(nan\)"):
        fastmlp.MLP.from_parameters(*weights, classes=["a", "b", NAN])
    with pytest.raises(ValueError, match=r"classes must hold labels of one kind .* \(int, str\)"):
        fastmlp.MLP.from_parameters(*weights, classes=[1, "one", "two"])


def test_the_dtypes_of_other_libraries():
    """bfloat16, which NumPy knows by ml_dtypes only, is float32 exactly; records are refused by their fields."""
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    y = np.arange(120) % 3
    short = X.astype(bfloat16)
    one, two = fastmlp.train(short, y, **QUICK), fastmlp.train(short.astype(np.float32), y, **QUICK)
    np.testing.assert_array_equal(one.parameters, two.parameters)
    records = np.zeros(120, [("age", "f4"), ("size", "f4")])
    for rows in (records, records.reshape(-1, 1)):
        with pytest.raises(ValueError, match=r"X must hold numbers, got dtype .*age.*, a structured array; pass its "
                                             r"fields as columns, numpy.lib.recfunctions.structured_to_unstructured"):
            fastmlp.train(rows, y, **QUICK)
    with pytest.raises(ValueError, match=r"y must hold numbers, got dtype .*a structured array"):
        fastmlp.train(X, records, **QUICK)


class OnCpu:
    """An array as JAX has it in main memory: its type has the GPU's interface, the array itself does not."""

    shape, dtype, ndim = X.shape, X.dtype, 2

    @property
    def __cuda_array_interface__(self):
        raise AttributeError("Memory is not on a GPU")

    def __array__(self, dtype=None, copy=None):
        return X.astype(dtype or X.dtype)

    def __dlpack__(self, **_):
        return X.__dlpack__()


def test_arrays_of_jax():
    """JAX on the CPU: was "no attribute copy_to_host"."""
    y = np.arange(120) % 3
    one = fastmlp.train(OnCpu(), y, **QUICK)
    np.testing.assert_array_equal(one.parameters, fastmlp.train(X, y, **QUICK).parameters)
    jax = pytest.importorskip("jax")
    two = fastmlp.train(jax.numpy.asarray(X), jax.numpy.asarray(y), **QUICK)
    np.testing.assert_array_equal(two.parameters, fastmlp.train(X.astype(np.float32), y, **QUICK).parameters)
