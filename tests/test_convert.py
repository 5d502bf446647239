"""Nets as files for others, and to and from other libraries: the same outputs on the other side."""
import json
import subprocess
import sys
from itertools import pairwise

import cases
import numpy as np
import pytest
from toy import outputs

import fastmlp
from fastmlp.kernels import activations as act

HIDDEN = act.NAMES[:act.SOFTMAX]
DTYPES = ("float32", "float64")


def net_of(sizes, activation="relu", output="softmax", dtype="float64", scale=1.0, classes=None, seed=0):
    rng = np.random.default_rng(seed)
    weights = [(rng.standard_normal(shape) / shape[0] ** 0.5).astype(dtype) for shape in pairwise(sizes)]
    biases = [(0.1 * rng.standard_normal(n)).astype(dtype) for n in sizes[1:]]
    model = fastmlp.MLP.from_parameters(weights, biases, activation=activation, output=output, scale=scale,
                                        classes=classes)
    model.device = "reference"
    return model


def rows(rng, model, n=20):
    return rng.standard_normal((n, model.sizes[0])).astype(model.dtype)


def assert_close(found, wanted, dtype):
    assert found.shape == wanted.shape
    assert cases.error(found, wanted) <= (1e-6 if dtype == "float32" else 1e-12)


# ------------------------------------------------------------------------------- plain NumPy

def run_module(path, X, tmp_path):
    """predict and outputs, in a process that can import NumPy and the file alone."""
    np.save(tmp_path / "X.npy", X)
    code = f"""
import sys
import numpy as np
sys.path.insert(0, {str(path.parent)!r})
module = __import__({path.stem!r})
X = np.load({str(tmp_path / "X.npy")!r})
np.savez({str(tmp_path / "out.npz")!r}, predict=module.predict(X), outputs=module.outputs(X))
assert not {{"fastmlp", "numba"}} & set(sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
    return np.load(tmp_path / "out.npz")


NUMPY_NETS = {
    "every hidden activation": (((5, *(4,) * len(HIDDEN), 3), HIDDEN), {"classes": ["ant", "bee", "cat"]}),
    "one sigmoid": (((5, 3, 1), "tanh", "sigmoid"), {"classes": [False, True]}),
    "multilabel": (((5, 3), "relu", "sigmoid"), {}),
    "numbers": (((5, 3, 2), "relu", "identity"), {}),
    "counts": (((5, 3, 2), "relu", "exp"), {}),
    "one number": (((5, 3, 1), "relu", "identity", "float32"), {}),
    "images": (((16, 8, 3), "relu", "softmax", "float32"), {"scale": 1 / 255}),
}


@pytest.mark.parametrize("name", NUMPY_NETS)
def test_export_numpy(name, rng, tmp_path):
    arguments, options = NUMPY_NETS[name]
    model = net_of(*arguments, **options)
    X = rng.integers(0, 256, (20, 16)).astype(np.uint8) if name == "images" else rows(rng, model)
    model.export_numpy(tmp_path / "exported.py")
    found = run_module(tmp_path / "exported.py", X, tmp_path)
    assert_close(found["outputs"], outputs(model, X), model.dtype.name)
    wanted = model.predict(X)
    assert found["outputs"].dtype == model.dtype
    if wanted.dtype.kind == "f":
        assert_close(found["predict"], wanted, model.dtype.name)
    else:
        np.testing.assert_array_equal(found["predict"], wanted)


def test_export_numpy_stays_finite_where_exponents_overflow(tmp_path):
    model = fastmlp.MLP.from_parameters([[[1.0]], [[1.0]]], [[0.0], [0.0]], activation="silu", output="sigmoid")
    model.device = "reference"
    X = np.array([[-1e4], [0.0], [1e4]])
    model.export_numpy(tmp_path / "steep.py")
    np.testing.assert_allclose(run_module(tmp_path / "steep.py", X, tmp_path)["outputs"], outputs(model, X), atol=1e-12)


# ------------------------------------------------------------------------------- ONNX

def run_onnx(path, X):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install '.[test]'")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["outputs"], {"X": X})[0], session.get_modelmeta().custom_metadata_map


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [*HIDDEN, "exp"])
def test_onnx_activations(activation, dtype, rng, tmp_path):
    for hidden, output in ((activation, "identity"), ("tanh", activation)):
        if hidden == "exp":
            continue                               # of the last layer only
        model = net_of((7, 9, 4), hidden, output, dtype)
        model.to_onnx(tmp_path / "m.onnx")
        X = rows(rng, model)
        out, _ = run_onnx(tmp_path / "m.onnx", X)
        assert out.dtype == dtype
        np.testing.assert_allclose(out, outputs(model, X), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_onnx_softmax_of_images(dtype, rng, tmp_path):
    model = net_of((784, 10, 10), dtype=dtype, scale=1 / 255)
    X = rng.integers(0, 256, (9, 784)).astype(np.uint8)
    for input_dtype in (None, "uint8", dtype):
        model.to_onnx(tmp_path / "m.onnx", input_dtype=input_dtype)
        out, metadata = run_onnx(tmp_path / "m.onnx", X if input_dtype != dtype else X.astype(dtype))
        np.testing.assert_allclose(out, outputs(model, X), rtol=1e-5, atol=1e-5)
        assert json.loads(metadata["classes"]) == list(range(10))
    with pytest.raises(ValueError, match="input_dtype must be 'uint8' or the net's own"):
        model.to_onnx(tmp_path / "m.onnx", input_dtype="int8")


def test_onnx_absent(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"needs onnx.*pip install 'fastmlp\[onnx\]'"):
        net_of((2, 1), output="sigmoid").to_onnx(tmp_path / "m.onnx")


# ------------------------------------------------------------------------------- PyTorch and Keras

PEER_NETS = [
    *(((6, 9, 4), name, "softmax") for name in HIDDEN if name != "sign"),
    ((6, 9, 1), "relu", "sigmoid"), ((6, 8, 5, 2), ("tanh", "gelu"), "identity"), ((6, 3), (), "silu"),
]
peer_nets = pytest.mark.parametrize("net", PEER_NETS, ids=str)


@pytest.mark.parametrize("dtype", DTYPES)
@peer_nets
def test_torch(net, dtype, rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
    model = net_of(*net, dtype=dtype, scale=0.5)
    model.dropout = (0.25,) * len(model.activations)
    X, module = rows(rng, model), model.to_torch()
    with torch.inference_mode():
        assert_close(module(torch.from_numpy(X)).numpy(), outputs(model, X), dtype)
    back = fastmlp.from_torch(module)
    back.device = "reference"
    assert (back.sizes, back.activations, back.output) == (model.sizes, model.activations, model.output)
    assert (back.dropout, back.dtype) == (model.dropout, model.dtype)
    assert_close(outputs(back, X), outputs(model, X), dtype)


def test_torch_as_people_write_it(rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
    nn = torch.nn
    module = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(12, 5, bias=False), nn.ReLU(), nn.Dropout(0.1)),
                           nn.Linear(5, 5), nn.Linear(5, 3))
    model = fastmlp.from_torch(module, output="softmax", classes=["a", "b", "c"])
    model.device = "reference"
    X = rng.standard_normal((8, 12)).astype(np.float32)
    with torch.inference_mode():
        wanted = torch.softmax(module.eval()(torch.from_numpy(X)), 1).numpy()
    assert_close(model.predict_proba(X), wanted, "float32")
    assert model.dropout == (0.1, 0.0)
    assert set(model.predict(X)) <= {"a", "b", "c"}
    for wrong, message in ((nn.Sequential(nn.Conv2d(1, 1, 3)), "does not support Conv2d"),
                           (nn.Sequential(), "no dense layer"),
                           (nn.Sequential(nn.ReLU(), nn.Linear(2, 2)), "must follow a dense layer"),
                           (nn.Sequential(nn.Linear(2, 2), nn.LeakyReLU(0.2)), "does not support LeakyReLU"),
                           (nn.Sequential(nn.Linear(2, 2), nn.Softmax(1), nn.Linear(2, 2)), "last layer only"),
                           (nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.2)), "after the last dense layer")):
        with pytest.raises(ValueError, match=message):
            fastmlp.from_torch(wrong)
    with pytest.raises(ValueError, match="no module for the activation 'sign'"):
        net_of((2, 1), output="sign").to_torch()


@pytest.mark.parametrize("dtype", DTYPES)
@peer_nets
def test_keras(net, dtype, rng):
    keras = pytest.importorskip("keras", reason="Keras is not installed: pip install keras jax")
    if dtype == "float64" and keras.backend.backend() == "jax":
        pytest.importorskip("jax").config.update("jax_enable_x64", True)
    model = net_of(*net, dtype=dtype, scale=0.5)
    model.dropout = (0.25,) * len(model.activations)
    X, converted = rows(rng, model), model.to_keras()
    # Keras reads inputs in its floatx, float32, whatever the layers compute in.
    assert_close(converted.predict(X, verbose=0), outputs(model, X), "float32")
    back = fastmlp.from_keras(converted)
    back.device = "reference"
    assert (back.sizes, back.activations, back.output) == (model.sizes, model.activations, model.output)
    assert (back.dropout, back.dtype) == (model.dropout, model.dtype)
    assert_close(outputs(back, X), outputs(model, X), dtype)


def test_keras_as_the_lecture_writes_it(rng):
    keras = pytest.importorskip("keras", reason="Keras is not installed: pip install keras jax")
    theirs = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), keras.layers.Dense(10),
                               keras.layers.ReLU(), keras.layers.Dropout(0.4),
                               keras.layers.Dense(10, activation="softmax")])
    model = fastmlp.from_keras(theirs)
    X = rng.random((5, 784)).astype(np.float32)
    assert_close(model.predict_proba(X), theirs.predict(X.reshape(-1, 28, 28), verbose=0), "float32")
    assert (model.sizes, model.activations, model.dropout) == ((784, 10, 10), ("relu",), (0.4,))
    for layer, message in ((keras.layers.Dense(2, "elu"), "does not support the activation 'elu'"),
                           (keras.layers.Reshape((4, 1)), "does not support the layer Reshape")):
        with pytest.raises(ValueError, match=message):
            fastmlp.from_keras(keras.Sequential([keras.Input((4,)), layer]))
    with pytest.raises(ValueError, match="no activation 'sign'"):
        net_of((2, 1), output="sign").to_keras()


@pytest.mark.parametrize("name", ["torch", "keras", "sklearn"])
def test_peer_absent(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=f"needs {name}, which cannot be imported"):
        getattr(net_of((2, 1), output="sigmoid"), f"to_{name}")()


# ------------------------------------------------------------------------------- scikit-learn

SKLEARN_NETS = {
    "three classes": (((6, 9, 3), "tanh"), {"classes": ["a", "b", "c"]}),
    "two classes": (((6, 9, 1), "sigmoid", "sigmoid"), {"classes": ["no", "yes"]}),
    "multilabel": (((6, 9, 3), "relu", "sigmoid"), {}),
    "one number": (((6, 9, 1), "identity", "identity"), {}),
    "numbers": (((6, 8, 7, 2), "relu", "identity"), {}),
    "counts": (((6, 5, 1), "relu", "exp"), {}),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SKLEARN_NETS)
def test_sklearn(name, dtype, rng):
    arguments, options = SKLEARN_NETS[name]
    model = net_of(*arguments, dtype=dtype, **options)
    X, estimator = rows(rng, model), model.to_sklearn()
    back = fastmlp.from_sklearn(estimator)
    back.device = "reference"
    assert_close(outputs(back, X), outputs(model, X), dtype)
    if model.task.kind == "numbers":
        assert_close(estimator.predict(X), model.predict(X), dtype)
    else:
        assert_close(estimator.predict_proba(X), model.predict_proba(X), dtype)
        np.testing.assert_array_equal(estimator.predict(X), model.predict(X))
        np.testing.assert_array_equal(back.predict(X), model.predict(X))


@pytest.mark.parametrize("labels", [2, 3, "columns", "numbers"])
def test_sklearn_trained(labels, rng):
    """A net that scikit-learn trained gives its answers here."""
    import warnings

    from sklearn.neural_network import MLPClassifier, MLPRegressor

    X = rng.standard_normal((60, 4))
    y = {"columns": (X[:, :3] > 0).astype(int), "numbers": X[:, 0]}.get(labels)
    if y is None:
        y = np.array(["u", "v", "w"])[rng.permutation(np.arange(60) % labels)]
    kind = MLPRegressor if labels == "numbers" else MLPClassifier
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")            # five iterations do not converge
        estimator = kind(hidden_layer_sizes=(5,), max_iter=5, random_state=0).fit(X, y)
    model = fastmlp.from_sklearn(estimator)
    model.device = "reference"
    if labels == "numbers":
        assert_close(model.predict(X), estimator.predict(X), "float64")
    else:
        np.testing.assert_array_equal(model.predict(X), estimator.predict(X))


def test_sklearn_refusals():
    from sklearn.linear_model import LinearRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline

    for wrong, message in ((LinearRegression(), "takes an MLPClassifier or MLPRegressor"),
                           (MLPClassifier(), "is not fitted"),
                           (make_pipeline(MLPClassifier()), "convert its last step")):
        with pytest.raises(ValueError, match=message):
            fastmlp.from_sklearn(wrong)
    for model, message in ((net_of((2, 3, 2), "gelu"), "one activation for all hidden layers"),
                           (net_of((2, 3, 3, 2), ("tanh", "relu")), "one activation for all hidden layers"),
                           (net_of((2, 1), output="sign"), "no output 'sign'")):
        with pytest.raises(ValueError, match=message):
            model.to_sklearn()
