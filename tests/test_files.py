"""Model files: what comes back is what was saved; what is damaged is refused; nothing is half written."""
import json
import os
import re
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load as loads
from toy import QUICK, blobs, waves

import fastmlp
from fastmlp.files import checksum, made_by, to_bytes
from fastmlp.input.scaling import InputScaling
from fastmlp.net.saving import contents

DATA = Path(__file__).parent / "data"
VERSIONS = [path.name for path in sorted(DATA.glob("model-format-*.safetensors"))]
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
    refused(path, content[:-4] + struct.pack("<f", np.nan), "its checksum is not that of its content")
    model = fastmlp.train(X, INDEX, **QUICK)
    tensors, header = contents(model)
    model.parameters[3] = np.nan
    refused(path, to_bytes(tensors, "fastmlp", header | made_by()), "holds numbers that are not finite")


def corruptions(content, count, rng):
    """Flipped bits, other bytes, zeroed and repeated stretches, two halves in each other's place; header and all."""
    for number in range(count):
        damaged = bytearray(content)
        place, length = rng.integers(len(content)), int(rng.integers(1, 64))
        if number % 2:  # half of them in the header, where there is more to misread
            place = rng.integers(8 + struct.unpack("<Q", content[:8])[0])
        kind = rng.integers(5)
        if kind == 0:
            damaged[place] ^= 1 << rng.integers(8)
        elif kind == 1:
            damaged[place] = rng.integers(256)
        elif kind == 2:
            damaged[place:place + length] = bytes(len(damaged[place:place + length]))
        elif kind == 3:
            damaged[place:place] = damaged[place:place + length]
        else:
            damaged = damaged[place:] + damaged[:place]
        yield bytes(damaged)


@pytest.mark.parametrize("version", [*VERSIONS, "now"])
def test_no_corruption_is_read(content, version, tmp_path, rng, long):
    """Refused with an error that names the file, or read as what it was: some bytes stand for the same thing."""
    path = tmp_path / "m"
    if version != "now":
        content = (DATA / version).read_bytes()
    path.write_bytes(content)
    expected = fastmlp.load(path)
    outcomes = Counter()
    for damaged in corruptions(content, 10_000 if long else 300, rng):
        path.write_bytes(damaged)
        try:
            model = fastmlp.load(path)
        except ValueError as error:
            outcomes["refused" if str(path) in str(error) else "refused without the file's name"] += 1
            continue
        outcomes["read"] += 1
        assert model.sizes == expected.sizes
        model.predict(np.zeros((2, expected.sizes[0])))
        if version != "model-format-1.safetensors":     # which had no checksum
            np.testing.assert_array_equal(model.parameters, expected.parameters)
            np.testing.assert_array_equal(model.classes, expected.classes)
            assert (model.scale, model.activations, model.dropout, model.feature_names) == (
                expected.scale, expected.activations, expected.dropout, expected.feature_names)
    print(outcomes)
    assert outcomes.keys() <= {"refused", "read"}
    assert outcomes["refused"] > 0.7 * outcomes.total()


def test_every_truncation_is_refused(content, tmp_path, long):
    path = tmp_path / "m"
    for end in range(0, len(content), 1 if long else 17):
        refused(path, content[:end], re.escape(str(path)))


@pytest.mark.parametrize("header", [
    struct.pack("<Q", 1 << 60), struct.pack("<Q", 0), struct.pack("<Q", 2) + b"{}",
    struct.pack("<Q", 200_000) + b"[" * 200_000,
    *(struct.pack("<Q", len(text)) + text for text in (
        b'{"layers.0.weight":{"dtype":"F32","shape":[1152921504606846976,1],"data_offsets":[0,4611686018427387904]}}',
        b'{"layers.0.weight":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}',
        b'{"layers.0.weight":{"dtype":"F32","shape":[-1],"data_offsets":[0,0]}}')),
])
def test_absurd_sizes_are_refused_before_anything_is_allocated(header, tmp_path):
    tracemalloc.start()
    try:
        refused(tmp_path / "m", header + bytes(64), "not a model file")
        assert tracemalloc.get_traced_memory()[1] < 1 << 21
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("version", VERSIONS)
def test_models_of_earlier_versions_are_read(version):
    """tests/data holds a file of each format, written by `write_fixture` of its day."""
    model = fastmlp.load(DATA / version)
    model.device = "reference"
    assert (repr(model), model.feature_names) == ("MLP(3-2-3, tanh, softmax, 17 parameters, float32)", None)
    assert (model.classes.tolist(), model.dropout) == (["cat", "dog", "élan"], (0.25,))
    np.testing.assert_array_equal(model.parameters, np.linspace(-1, 1, 17, dtype=np.float32))
    assert model.predict([[9, 0, 0], [-9, 0, 0]]).tolist() == ["cat", "élan"]
    if version < "model-format-3":
        assert model.scaling is None
    else:
        scaling = model.scaling
        assert (scaling.center.tolist(), scaling.factor.tolist(), scaling.clip) == ([0, 0.5, 0], [1, 2, 0.5], 3)


def write_fixture(path):
    """The file that stands in tests/data for a format: `python tests/test_files.py tests/data/model-format-N...`."""
    parameters = np.linspace(-1, 1, 17, dtype=np.float32)
    model = fastmlp.MLP.from_parameters([parameters[:6].reshape(3, 2), parameters[8:14].reshape(2, 3)],
                                        [parameters[6:8], parameters[14:]], activation="tanh",
                                        classes=["cat", "dog", "élan"])
    model.dropout = (0.25,)
    model.scaling = InputScaling(np.array([0, 0.5, 0], np.float32), np.array([1, 2, 0.5], np.float32), 3.0)
    model.save(path)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_save_leaves_the_old_file_or_the_new(tmp_path, rng, long):
    program = """
import sys, numpy as np, fastmlp
models = [fastmlp.MLP.from_parameters([np.full((200, 200), value)], [np.zeros(200)]) for value in (1, 2)]
models[0].save(sys.argv[1])
print("saving", flush=True)
while True:
    for model in models:
        model.save(sys.argv[1])
"""
    path = tmp_path / "m"
    for _ in range(60 if long else 3):
        child = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
        child.stdout.readline()
        time.sleep(rng.random() / 10)
        child.kill()
        child.communicate()
        values = np.unique(fastmlp.load(path).weights[0])
        assert values.tolist() in ([1.0], [2.0])


def test_two_threads_may_save_to_one_path(tmp_path):
    """Each writes a file of its own before it is renamed."""
    models = [fastmlp.MLP.from_parameters([np.full((64, 64), value)], [np.zeros(64)]) for value in (1, 2)]
    errors = []

    def save(model):
        try:
            for _ in range(40):
                model.save(tmp_path / "m")
                assert len(np.unique(fastmlp.load(tmp_path / "m").weights[0])) == 1
        except Exception as error:
            errors.append(error)

    savers = [threading.Thread(target=save, args=(model,)) for model in models]
    for saver in savers:
        saver.start()
    for saver in savers:
        saver.join()
    assert errors == []
    assert os.listdir(tmp_path) == ["m"]


def edited(content, **changes):
    """The file with entries of its fastmlp header replaced and its checksum in order; ... takes an entry out."""
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:8 + length])
    ours = json.loads(header["__metadata__"]["fastmlp"]) | changes
    header["__metadata__"]["fastmlp"] = json.dumps({k: v for k, v in ours.items() if v is not ...})
    header["__metadata__"]["crc32"] = checksum(header["__metadata__"]["fastmlp"], loads(content))
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
    ({"classes": {"dtype": "(,<U1", "values": ["a", "b", "c"]}}, r"dtype '\(,<U1' are not known"),
    ({"classes": {"dtype": "3<U1", "values": ["a", "b", "c"]}}, "dtype '3<U1'"),
    ({"classes": {"dtype": ["<U1"], "values": ["a", "b", "c"]}}, ""),
    ({"classes": {"dtype": "<U1", "values": ["a", "b"]}}, "classes must be 3"),
    ({"classes": {"dtype": "<U1", "values": ["c", "b", "a"]}}, "sorted"),
    ({"classes": {"dtype": "no", "values": ["c", "b", "a"]}}, "no"), ({"classes": [1, 2, 3]}, ""),
    ({"scale": "big"}, "scale"), ({"scale": float("nan")}, "scale"), ({"feature_names": ["a"]}, "4 names"),
    ({"feature_names": [1, 2, 3, 4]}, "4 names"), ({"dropout": [2.0]}, "below 1"), ({"flat": 1}, "flat"),
    ({"classes": {"dtype": "<U100000000", "values": ["a", "b", "c"]}}, "more than a model file may hold"),
    ({"classes": {"dtype": "S1", "values": [1, 2, 3]}}, "not all of that kind"),
    ({"classes": {"dtype": "S1", "values": 3}}, ""),
    ({"format": 9, "library": "fastmlp 9.0"}, "format 9 .*fastmlp 9.0.*upgrade fastmlp"),
    ({"format": True}, "format True"), ({"format": [1]}, "format"), ({"format": 1.0}, "format"),
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


if __name__ == "__main__":
    write_fixture(sys.argv[1])
