"""Model files: what comes back is what was saved; what is damaged is refused; nothing is half written."""
import json
import os
import struct

import numpy as np
import pytest
from toy import QUICK, blobs, waves

import fastmlp

X, INDEX = blobs()
LABELS = {
    "int64": np.array([3, 5, 9]), "int8": np.array([-1, 0, 1], np.int8), "text": np.array(["a", "ß,\n\"", "日本"]),
    "bytes": np.array([b"\xff", b"b", b"c"]), "float": np.array([0.5, 1.0, 1e300]) * 2, "bool": np.array([False, True]),
}


def trained(kind):
    if kind in LABELS:
        labels = LABELS[kind]
        loss = "softmax_cross_entropy" if kind == "float" else "auto"
        return X, fastmlp.train(X, labels[INDEX % len(labels)], loss=loss, dropout=0.25, **QUICK)
    if kind == "multilabel":
        return X, fastmlp.train(X, (X[:, :2] > 0), activation="gelu", **QUICK)
    if kind == "images":
        images = np.random.default_rng(0).integers(0, 256, (50, 6), dtype=np.uint8)
        return images, fastmlp.train(images, images[:, 0] > 99, dtype="float64", **QUICK)
    inputs, y = waves(targets=2 if kind == "two numbers" else 1)
    return inputs, fastmlp.train(inputs, y, **QUICK | {"hidden": (), "dtype": "float64"})


@pytest.mark.parametrize("kind", [*LABELS, "multilabel", "images", "number", "two numbers"])
def test_what_comes_back_is_what_was_saved(kind, tmp_path):
    inputs, model = trained(kind)
    path = tmp_path / "model.safetensors"
    assert model.save(path) is None
    loaded = fastmlp.load(str(path))
    loaded.device = "reference"
    assert repr(loaded) == repr(model)
    assert loaded.summary() == model.summary()
    np.testing.assert_array_equal(loaded.parameters, model.parameters)
    predicted = loaded.predict(inputs)
    np.testing.assert_array_equal(predicted, model.predict(inputs))
    assert predicted.dtype == model.predict(inputs).dtype
    assert predicted.shape == model.predict(inputs).shape
    assert (loaded.scale, loaded.dropout, loaded.loss) == (model.scale, model.dropout, model.loss)
    assert loaded.parameters.flags.writeable
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_frames_names_come_back(tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(X, columns=["a", "b", "c", "ü"])
    fastmlp.train(frame, INDEX, **QUICK).save(tmp_path / "m")
    loaded = fastmlp.load(tmp_path / "m")
    assert loaded.feature_names == ("a", "b", "c", "ü")
    with pytest.raises(ValueError, match="another order"):
        loaded.predict(frame[["b", "a", "c", "ü"]])


def test_other_programs_can_read_it(tmp_path):
    numpy_files = pytest.importorskip("safetensors.numpy")
    model = fastmlp.train(X, INDEX, **QUICK)
    model.save(tmp_path / "m")
    tensors = numpy_files.load_file(tmp_path / "m")
    assert set(tensors) == {"layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"}
    np.testing.assert_array_equal(tensors["layers.1.weight"], model.weights[1])


@pytest.mark.parametrize("step", ["write", "rename"])
def test_a_failed_save_leaves_the_old_file(step, tmp_path, monkeypatch):
    old, new = fastmlp.train(X, INDEX, **QUICK), fastmlp.train(X, INDEX, **QUICK | {"seed": 1})
    old.save(tmp_path / "m")

    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync" if step == "write" else "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        new.save(tmp_path / "m")
    assert os.listdir(tmp_path) == ["m"]
    np.testing.assert_array_equal(fastmlp.load(tmp_path / "m").parameters, old.parameters)


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model file at"):
        fastmlp.load(tmp_path / "m")
    with pytest.raises(FileNotFoundError, match="it is a folder"):
        fastmlp.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        fastmlp.train(X, INDEX, **QUICK).save(tmp_path / "absent" / "m")


# ---------------------------------------------------------------------------------------------- damaged files
@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m"
    fastmlp.train(X, np.array(["a", "b", "c"])[INDEX], **QUICK).save(path)
    return path.read_bytes()


def refused(path, content, message=""):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        fastmlp.load(path)


def test_damaged_files_are_refused(content, tmp_path):
    path = tmp_path / "m"
    refused(path, b"", "not a model file")
    refused(path, b"PK\x03\x04 something else altogether", "not a model file")
    for end in range(0, len(content), 37):
        refused(path, content[:end], "not a model file")
    refused(path, content + b"more", "not a model file")
    refused(path, content[:-4] + struct.pack("<f", np.nan), "not finite")


def test_flipped_bytes_never_crash(content, tmp_path):
    """Whatever byte of the header is wrong, the file is refused or still a net of the same shape."""
    path = tmp_path / "m"
    rng = np.random.default_rng(0)
    header = 8 + struct.unpack("<Q", content[:8])[0]
    for place in [*range(8), *rng.integers(8, header, 400).tolist()]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(damaged))
        try:
            model = fastmlp.load(path)
        except ValueError:
            continue
        assert model.sizes == (4, 8, 3)
        model.predict(X[:2])


def edited(content, **changes):
    """The file with entries of its fastmlp header replaced; a value of ... takes the entry out."""
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:8 + length])
    ours = json.loads(header["__metadata__"]["fastmlp"]) | changes
    header["__metadata__"]["fastmlp"] = json.dumps({k: v for k, v in ours.items() if v is not ...})
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length:]


@pytest.mark.parametrize(("changes", "message"), [
    ({"sizes": [4, 10**15, 3]}, "its sizes ask for"), ({"sizes": [4, 8, 0]}, r"at least 1"),
    ({"sizes": [4, 8, 3, 3]}, "one for each of the 2 hidden"), ({"sizes": [4]}, "at least two sizes"),
    ({"sizes": "4"}, "sequence"), ({"sizes": ...}, "sizes"), ({"sizes": [4, 8, 3.0]}, "whole number"),
    ({"activations": ["rely"]}, "relu"), ({"activations": []}, "one for each of the 1 hidden"),
    ({"activations": [3]}, "must be one of"), ({"output": "identity"}, "classes must be None"),
    ({"output": "sofa"}, "output must be one of"), ({"loss": "squared_error"}, "does not belong"),
    ({"classes": None, "output": "identity"}, "does not belong"),
    ({"classes": {"dtype": "O", "values": [1, 2, 3]}}, "dtype"),
    ({"classes": {"dtype": "<U1", "values": ["a", "b"]}}, "classes must be 3"),
    ({"classes": {"dtype": "<U1", "values": ["c", "b", "a"]}}, "sorted"),
    ({"classes": {"dtype": "no", "values": ["c", "b", "a"]}}, "no"), ({"classes": [1, 2, 3]}, ""),
    ({"scale": "big"}, "scale"), ({"scale": float("nan")}, "scale"), ({"feature_names": ["a"]}, "4 names"),
    ({"feature_names": [1, 2, 3, 4]}, "4 names"), ({"dropout": [2.0]}, "below 1"), ({"flat": 1}, "flat"),
    ({"format": 2, "library": "fastmlp 9.0"}, "format 2 .*fastmlp 9.0.*upgrade fastmlp"),
])
def test_headers_that_contradict_their_tensors_are_refused(content, changes, message, tmp_path):
    refused(tmp_path / "m", edited(content, **changes), f"is not a model file that .*{message}")


def test_an_edited_header_that_agrees_is_read(content, tmp_path):
    (tmp_path / "m").write_bytes(edited(content, dropout=[0.5]))
    assert fastmlp.load(tmp_path / "m").dropout == (0.5,)


def test_files_of_others_are_refused(tmp_path):
    numpy_files = pytest.importorskip("safetensors.numpy")
    numpy_files.save_file({"x": np.ones(3)}, tmp_path / "m")
    with pytest.raises(ValueError, match="no 'fastmlp' entry"):
        fastmlp.load(tmp_path / "m")
