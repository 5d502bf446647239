"""Saving and loading models: links, modes, full disks, odd names, and files of others."""
import errno
import json
import os
import socket
import stat
import struct
import subprocess
import sys
import traceback
import tracemalloc

import numpy as np
import pytest
from toy import QUICK, blobs

import fastmlp
from fastmlp import files
from fastmlp.input.scaling import InputScaling
from fastmlp.net.saving import contents

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")
X, Y = blobs()
LABELS = np.array(["a", "b", "c"])
WRITERS = {
    "save": lambda model, path: model.save(path),
    "save of an ensemble": lambda model, path: fastmlp.Ensemble([model, model]).save(path),
    "export_numpy": lambda model, path: model.export_numpy(path),
    "to_onnx": lambda model, path: model.to_onnx(path),
}


@pytest.fixture(scope="module")
def model():
    return fastmlp.train(X, LABELS[Y], **QUICK)


@pytest.fixture(params=WRITERS)
def write(request, model):
    """write(path): one of the library's writers at work."""
    if request.param == "to_onnx":
        pytest.importorskip("onnx", reason="onnx is not installed: pip install 'fastmlp[onnx]'")
    return lambda path: WRITERS[request.param](model, path)


# ---------------------------------------------------------------------------------------------- what is replaced
@POSIX
def test_a_link_stays_and_its_target_is_replaced(write, tmp_path):
    """https://github.com/wkentaro/labelme/issues/2485"""
    folder, link = tmp_path / "versions", tmp_path / "current"
    folder.mkdir()
    link.symlink_to("versions/v1")
    for _ in range(2):                          # to where the link leads though nothing is there, and again
        write(link)
        assert link.is_symlink()
        assert os.readlink(link) == "versions/v1"
        assert (folder / "v1").is_file()
        old = (folder / "v1").stat().st_ino
    write(link)
    assert (folder / "v1").stat().st_ino != old
    assert sorted(os.listdir(tmp_path)) == ["current", "versions"]
    assert os.listdir(folder) == ["v1"]


@POSIX
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755, 0o666])
def test_a_secret_file_stays_secret(mode, write, tmp_path):
    write(tmp_path / "m")
    os.chmod(tmp_path / "m", mode)
    write(tmp_path / "m")
    assert stat.S_IMODE(os.stat(tmp_path / "m").st_mode) == mode


@POSIX
def test_no_other_user_sees_a_secret_model_while_it_is_written(model, tmp_path, monkeypatch):
    model.save(tmp_path / "m")
    os.chmod(tmp_path / "m", 0o600)
    seen, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (seen.append(os.fstat(descriptor).st_mode & 0o777),
                                                         fsync(descriptor)))
    model.save(tmp_path / "m")
    assert seen == [0o600]


@POSIX
def test_a_new_file_has_the_mode_that_umask_asks_for(write, tmp_path):
    before = os.umask(0o027)
    try:
        write(tmp_path / "m")
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(tmp_path / "m").st_mode) == 0o640


@POSIX
def test_a_read_only_file_is_kept(write, tmp_path):
    """Even from root. https://github.com/wkentaro/labelme/issues/2485"""
    path = tmp_path / "kept"
    path.write_text("released")
    path.chmod(0o444)
    with pytest.raises(PermissionError, match=r"read-only \(mode 0444\).*kept"):
        write(path)
    assert path.read_text() == "released"
    assert os.listdir(tmp_path) == ["kept"]


def null_device(path):
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("needs the right to make devices")


def unix_socket(path):
    with socket.socket(socket.AF_UNIX) as bound:
        folder = os.getcwd()
        os.chdir(path.parent)                   # the name of a socket has 107 bytes at most
        try:
            bound.bind(path.name)
        finally:
            os.chdir(folder)


@POSIX
@pytest.mark.parametrize(("make", "kind"), [(os.mkdir, "a folder"), (os.mkfifo, "a FIFO"), (null_device, "a device"),
                                            (unix_socket, "a socket")])
@pytest.mark.parametrize("through_a_link", [False, True])
def test_what_is_no_regular_file_is_left_alone(through_a_link, make, kind, write, tmp_path):
    thing = path = tmp_path / "thing"
    make(thing)
    if through_a_link:
        path = tmp_path / "link"
        path.symlink_to(thing)
    before = os.lstat(thing)
    with pytest.raises(OSError, match=f"it is {kind}, .*{path.name}"):
        write(path)
    after = os.lstat(thing)
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)


@POSIX
def test_links_that_lead_in_a_circle(write, tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match=r"/a'$") as caught:
        write(tmp_path / "a")
    assert caught.value.errno == errno.ELOOP


@pytest.mark.parametrize("name", ["m" * 255, "é" * 127, "日" * 85, "run[1]*?.st", " ", "-rf", "a\nb"])
@POSIX
def test_any_name_that_a_file_can_have(name, write, tmp_path):
    for _ in range(2):
        write(tmp_path / name)
    assert os.listdir(tmp_path) == [name]


def test_a_path_that_is_none(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (None, True, 3, b"m" if os.name == "nt" else ["m"]):
        with pytest.raises(TypeError, match=r"must be a path such as 'model\.safetensors'"):
            write(path)
    with pytest.raises(ValueError, match="an empty one"):
        write("")
    with pytest.raises(IsADirectoryError, match="folder"):
        write("folder/")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*absent.*absent/m"):
        write("absent/m")
    assert os.listdir(tmp_path) == []


# ---------------------------------------------------------------------------------------------- what goes wrong
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_error_names_the_path_that_was_given(step, write, tmp_path, monkeypatch):
    path = tmp_path / "m"
    path.write_text("old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / ".m.part"))

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write(path)
    assert caught.value.filename == str(path)
    assert ".part" not in "".join(traceback.format_exception(caught.value))
    assert path.read_text() == "old"            # export_numpy and to_onnx wrote into it
    assert os.listdir(tmp_path) == ["m"]


@POSIX
def test_a_killed_save_leaves_nothing_that_the_next_does_not_remove(tmp_path):
    program = """
import os, sys, fastmlp
def killed(*_):
    print("writing", flush=True)
    sys.stdin.read()
os.fsync = killed
fastmlp.MLP.from_parameters([[[1.0]]], [[0.0]], output="identity").save(sys.argv[1])
"""
    path = tmp_path / "m[1]"
    model = fastmlp.MLP.from_parameters([[[2.0]]], [[0.0]], output="identity")
    child = subprocess.Popen([sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             text=True)
    child.stdout.readline()
    model.save(path)
    model.save(tmp_path / "m")
    assert len(os.listdir(tmp_path)) == 3       # the part file of a process that lives stays
    child.kill()
    child.communicate()
    model.save(tmp_path / "m")
    assert len(os.listdir(tmp_path)) == 3       # that of another file is left alone
    model.save(path)
    assert sorted(os.listdir(tmp_path)) == ["m", "m[1]"]


# ---------------------------------------------------------------------------------------------- what load refuses
def broken(model, **changes):
    model = fastmlp.MLP.from_parameters(model.weights, model.biases, classes=LABELS)
    for name, value in changes.items():
        setattr(model, name, value)
    return model


def nan_weights(model):
    model = broken(model)
    model.parameters[-1] = np.nan
    return model


@pytest.mark.parametrize(("change", "message"), [
    (nan_weights, "layers.1.bias holds numbers that are not finite"),
    (lambda model: broken(model, scaling=InputScaling(np.full(4, np.inf, "f4"), np.ones(4, "f4"))),
     "input.center holds numbers that are not finite"),
    (lambda model: broken(model, scaling=InputScaling(np.zeros(3, "f4"), np.ones(3, "f4"))), "has shape"),
    (lambda model: broken(model, scale=float("nan")), "scale must be"),
    (lambda model: broken(model, dropout=(2.0,)), "dropout.* below 1"),
    (lambda model: broken(model, activations=("rely",)), "did you mean 'relu'"),
    (lambda model: broken(model, feature_names={"a": 1, "b": 2, "c": 3, "d": 4}), "feature_names must be 4 names"),
])
def test_what_could_not_be_loaded_is_not_saved(change, message, model, tmp_path):
    path = tmp_path / "m"
    model.save(path)
    good = path.read_bytes()
    for save in (change(model).save, fastmlp.Ensemble([model, change(model)]).save):
        with pytest.raises(ValueError, match=f"cannot be saved, and nothing was written.*{message}"):
            save(path)
    assert path.read_bytes() == good


def crafted(path, model, **changes):
    """A file of `model` in whose header some entries are others; its checksum is in order."""
    tensors, header = contents(model)
    path.write_bytes(files.to_bytes(tensors, "fastmlp", header | files.made_by() | changes))


@pytest.mark.parametrize("labels", [
    {"dtype": "<U20000000", "values": ["a", "b", "c"]},
    {"dtype": "|S20000000", "values": ["a", "b", "c"]},
    {"dtype": "<U0", "values": ["a", "b", "c" * 10_000_000]},
    {"dtype": "<U1", "values": {"a": 0, "b": 1, "c": 2}},
    {"dtype": "<U1", "values": [1, 2, 3]},
])
def test_a_tiny_file_cannot_fill_the_memory(labels, model, tmp_path):
    crafted(tmp_path / "m", model, classes=labels)
    size = (tmp_path / "m").stat().st_size
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="is not a model file"):
            fastmlp.load(tmp_path / "m")
        assert tracemalloc.get_traced_memory()[1] < (1 << 22) + 8 * size
    finally:
        tracemalloc.stop()


def test_labels_cut_from_a_wide_column_come_back_as_wide(tmp_path):
    """y of a table often is padded far beyond its longest label."""
    model = fastmlp.train(X, LABELS[Y].astype("U500"), **QUICK)
    model.save(tmp_path / "m")
    assert fastmlp.load(tmp_path / "m").predict(X[:3]).dtype == "U500"


@pytest.mark.parametrize("changes", [
    {"feature_names": {"a": 1, "b": 2, "c": 3, "d": 4}}, {"feature_names": "abcd"},
    {"loss": "x" * 10_000_000}, {"format": "9" * 10_000_000}, {"library": "y" * 10_000_000, "format": 99},
    {"sizes": [4] + [1] * 100_000 + [3], "activations": ["relu"] * 100_000, "dropout": [0] * 100_000},
    {"classes": {"dtype": "z" * 10_000_000, "values": []}},
])
def test_a_message_is_short_whatever_the_file_says(changes, model, tmp_path):
    crafted(tmp_path / "m", model, **changes)
    with pytest.raises(ValueError, match="is not a model file") as caught:
        fastmlp.load(tmp_path / "m")
    assert str(tmp_path / "m") in str(caught.value)
    assert len(str(caught.value)) < 1000
    shown = traceback.format_exception(caught.value)
    assert max(map(len, shown)) < 2000


@POSIX
def test_a_file_that_another_program_cuts_short_meanwhile(tmp_path):
    """cp and editors write in place: mapped memory behind the new end kills the process that reads it (SIGBUS).
    https://github.com/sgl-project/sglang/issues/6083"""
    write_in_place = """
import sys, time
content = open(sys.argv[1], "rb").read()
while True:
    with open(sys.argv[1], "r+b") as file:
        file.truncate(100_000)
        file.write(content)
    time.sleep(0.002)
"""
    load = """
import sys, fastmlp
outcomes = {"loaded": 0, "refused": 0}
for _ in range(100):
    try:
        fastmlp.load(sys.argv[1])
        outcomes["loaded"] += 1
    except ValueError as error:
        assert sys.argv[1] in str(error)
        outcomes["refused"] += 1
print(outcomes)
"""
    fastmlp.MLP.from_parameters([np.ones((1000, 1000))], [np.zeros(1000)]).save(tmp_path / "m")
    writer = subprocess.Popen([sys.executable, "-c", write_in_place, str(tmp_path / "m")])
    try:
        done = subprocess.run([sys.executable, "-c", load, str(tmp_path / "m")], capture_output=True, text=True)
    finally:
        writer.kill()
        writer.wait()
    print(done.stdout)
    assert done.returncode == 0, (done.returncode, done.stderr)


def test_an_ensemble_whose_file_was_put_together_by_hand(model, tmp_path):
    fastmlp.Ensemble([model, model]).save(tmp_path / "m")
    header, tensors = files.read_tensors(tmp_path / "m", "fastmlp_ensemble", files.FORMAT)
    members = header["members"]
    for changed, more, message in (([], {}, "holds no members"), (members[:1], {}, "members.1.* none of its members"),
                                   (members, {"extra": np.ones(1)}, "extra belongs to none"),
                                   ([*members, members[0]], {}, "its sizes ask for"), ("ab", {}, ""), (None, {}, "")):
        (tmp_path / "m").write_bytes(files.to_bytes(tensors | more, "fastmlp_ensemble", header | {"members": changed}))
        with pytest.raises(ValueError, match=f"is not a model file .*{message}"):
            fastmlp.Ensemble.load(tmp_path / "m")


@POSIX
@pytest.mark.parametrize("load", [fastmlp.load, fastmlp.Ensemble.load])
def test_loading_from_what_is_no_file(load, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(FileNotFoundError, match="not a regular file"):
        load(tmp_path / "fifo")                 # which nobody writes to: reading would wait for ever
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError, match="no model file at"):
        load(tmp_path / "link")
    with pytest.raises(TypeError, match="must be a path"):
        load(None)
    (tmp_path / "long").write_bytes(struct.pack("<Q", 1 << 40) + b"{}")
    with pytest.raises(ValueError, match="cut short, or not a safetensors file"):
        load(tmp_path / "long")
    (tmp_path / "list").write_bytes(struct.pack("<Q", 4) + json.dumps([12]).encode())
    with pytest.raises(ValueError, match="is not a model file"):
        load(tmp_path / "list")
