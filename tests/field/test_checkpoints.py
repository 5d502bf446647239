"""Long runs: neighbours, full disks, folders that change, other runs' files."""
import errno
import functools
import logging
import os
import subprocess
import sys
import traceback
import warnings

import numpy as np
import pytest
from toy import QUICK, blobs, waves

import fastmlp
from fastmlp import files
from fastmlp.training import checkpoints

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")
X, Y = blobs()
OPTIONS = QUICK | {"epochs": 5}


class Killed(Exception):
    pass


def killed_after(epoch):
    def callback(model, numbers):
        if numbers["epoch"] == epoch:
            raise Killed
    return callback


def train(**options):
    return fastmlp.train(X, Y, **OPTIONS | options)


@pytest.fixture(scope="module")
def unbroken():
    return train().parameters


# ---------------------------------------------------------------------------------------------- neighbours
@POSIX
@pytest.mark.parametrize(("mine", "other"), [
    ("run", "run.2"), ("run", "run."), ("run[2]", "run2"), ("run*", "run.2"), ("?", "a"), ("r" * 255, "r" * 254)])
def test_runs_side_by_side_leave_each_other_alone(mine, other, tmp_path, monkeypatch):
    """Each begins in the moment when the other one writes its checkpoint."""
    fsync = os.fsync
    for ours, theirs in ((mine, other), (other, mine)):
        def meanwhile(descriptor, ours=ours):
            monkeypatch.setattr(os, "fsync", fsync)
            train(checkpoint=tmp_path / ours)
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", meanwhile)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            train(checkpoint=tmp_path / theirs)
        assert sorted(os.listdir(tmp_path)) == sorted([mine, other])
        for path in tmp_path.iterdir():
            path.unlink()


@POSIX
def test_a_killed_run_leaves_nothing_behind(tmp_path):
    program = """
import os, sys, time
sys.path.insert(0, sys.argv[2])
from field.test_checkpoints import train
fsync, count = os.fsync, 0
def sometimes(descriptor):
    global count
    fsync(descriptor)
    count += 1
    if count == 3:
        print("half written", flush=True)
        sys.stdin.read()
os.fsync = sometimes
train(checkpoint=sys.argv[1])
"""
    path = tmp_path / "run [1]"
    child = subprocess.Popen([sys.executable, "-c", program, str(path), os.path.dirname(os.path.dirname(__file__))],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child.stdout.readline()
    child.kill()
    child.communicate()
    assert len(os.listdir(tmp_path)) == 2
    seen = []
    train(checkpoint=path, callbacks=lambda _, numbers: seen.append(numbers["epoch"]))
    assert seen == [3, 4, 5]
    assert os.listdir(tmp_path) == [path.name]


@POSIX
def test_a_checkpoint_behind_a_link(tmp_path, unbroken):
    """Runs that keep their state on a scratch disk and a link to it where they were started."""
    (tmp_path / "scratch").mkdir()
    link = tmp_path / "run"
    link.symlink_to("scratch/run")
    with pytest.raises(Killed):
        train(checkpoint=link, callbacks=killed_after(3))
    os.chmod(tmp_path / "scratch" / "run", 0o600)
    np.testing.assert_array_equal(train(checkpoint=link).parameters, unbroken)
    assert link.is_symlink()
    assert os.stat(tmp_path / "scratch" / "run").st_mode & 0o777 == 0o600


def test_a_program_that_changes_its_folder(tmp_path, monkeypatch, unbroken):
    """A relative path is that of the moment when training began."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()

    def change(model, numbers):
        os.chdir(tmp_path / "elsewhere")
        if numbers["epoch"] == 3:
            raise Killed

    with pytest.raises(Killed):
        train(checkpoint="run", callbacks=change)
    assert os.listdir("../elsewhere") == []
    monkeypatch.chdir(tmp_path)
    seen = []
    model = train(checkpoint="run", callbacks=lambda _, numbers: seen.append(numbers["epoch"]))
    assert seen == [3, 4, 5]
    np.testing.assert_array_equal(model.parameters, unbroken)


# ---------------------------------------------------------------------------------------------- full disks
def full_disk(monkeypatch, *calls):
    """From now on, writing fails at these calls, counted from 1."""
    count, fsync = [0], os.fsync

    def sometimes(descriptor):
        count[0] += 1
        if count[0] in calls:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", sometimes)


def test_a_full_disk_costs_no_model(tmp_path, monkeypatch, unbroken, caplog):
    """https://github.com/bghira/SimpleTuner/issues/2353"""
    full_disk(monkeypatch, 2, 3)
    with pytest.warns(RuntimeWarning, match=r"run could not be written after epoch 2 \(.*No space left") as warned, \
            caplog.at_level(logging.INFO, "fastmlp"):
        model = train(checkpoint=tmp_path / "run")
    assert len(warned) == 1
    assert [record.message.split("after ")[1][:7] for record in caplog.records if "checkpoint" in record.message] == [
        "epoch 2", "epoch 3", "4 epoch"]
    np.testing.assert_array_equal(model.parameters, unbroken)
    assert os.listdir(tmp_path) == ["run"]
    np.testing.assert_array_equal(train(checkpoint=tmp_path / "run", callbacks=killed_after(1)).parameters, unbroken)


def test_a_disk_that_stays_full_is_told_at_the_end_again(tmp_path, monkeypatch, unbroken):
    full_disk(monkeypatch, 3, 4, 5)
    with pytest.warns(RuntimeWarning) as warned:
        model = train(checkpoint=tmp_path / "run")
    first, last = (str(warning.message) for warning in warned)
    assert "after epoch 3" in first
    assert "after epoch 5" in last
    assert "save the model itself" in last
    np.testing.assert_array_equal(model.parameters, unbroken)
    seen = []
    again = train(checkpoint=tmp_path / "run", callbacks=lambda _, numbers: seen.append(numbers["epoch"]))
    assert seen == [3, 4, 5]
    np.testing.assert_array_equal(again.parameters, unbroken)


def test_a_folder_that_is_cleaned_away_meanwhile(tmp_path, unbroken):
    folder = tmp_path / "scratch"
    folder.mkdir()

    def cleaned(model, numbers):
        if numbers["epoch"] == 2:
            (folder / "run").unlink()
            folder.rmdir()

    with pytest.warns(RuntimeWarning, match="there is no folder"):
        model = train(checkpoint=folder / "run", callbacks=cleaned)
    np.testing.assert_array_equal(model.parameters, unbroken)


def test_no_memory_for_a_checkpoint(tmp_path, monkeypatch, unbroken):
    def none(*_):
        raise MemoryError

    monkeypatch.setattr(files, "to_bytes", none)
    with pytest.warns(RuntimeWarning, match="out of memory"):
        np.testing.assert_array_equal(train(checkpoint=tmp_path / "run").parameters, unbroken)


# ---------------------------------------------------------------------------------------------- bad files
@POSIX
def test_what_cannot_be_written_is_known_before_training(tmp_path):
    os.mkfifo(tmp_path / "fifo")                # reading it would wait for ever
    (tmp_path / "folder").mkdir()
    for name, kind in (("fifo", "a FIFO"), ("folder", "a folder"), ("fifo/x", ""), ("absent/x", "there is no folder")):
        with pytest.raises(OSError, match=f"checkpoint: .*{kind}.*{name}"):
            train(checkpoint=tmp_path / name, callbacks=killed_after(1))


@POSIX
def test_a_read_only_checkpoint(tmp_path, unbroken):
    path = tmp_path / "run"
    with pytest.raises(Killed):
        train(checkpoint=path, callbacks=killed_after(3))
    path.chmod(0o444)
    with pytest.raises(PermissionError, match=r"checkpoint: it is read-only .*run"):
        train(checkpoint=path, callbacks=killed_after(1))
    path.chmod(0o600)
    train(checkpoint=path)
    path.chmod(0o444)                           # a finished run is read and not written
    np.testing.assert_array_equal(train(checkpoint=path, callbacks=killed_after(1)).parameters, unbroken)


def scheduled(factor, steps, total_steps, steps_per_epoch):
    return np.full(len(steps), factor)


def lambdas(factor):
    return lambda steps, total, per_epoch: np.where(steps < total - 1, 1.0, factor)


@pytest.mark.parametrize("of", [functools.partial(functools.partial, scheduled), lambdas])
def test_another_schedule_of_the_same_name_is_another_run(of, tmp_path):
    with pytest.raises(Killed):
        train(checkpoint=tmp_path / "run", callbacks=killed_after(3), schedule=of(1.0))
    with pytest.raises(ValueError, match=r"other arguments: schedule \("):
        train(checkpoint=tmp_path / "run", schedule=of(0.1))
    np.testing.assert_array_equal(train(checkpoint=tmp_path / "run", schedule=of(1.0)).parameters,
                                  train(schedule=of(1.0)).parameters)


@pytest.mark.parametrize(("one", "other"), [(fastmlp.Huber(1.0), fastmlp.Huber(0.1)),
                                            (fastmlp.Quantile(0.5), fastmlp.Quantile(0.9))])
def test_another_loss_of_the_same_name_is_another_run(one, other, tmp_path):
    inputs, targets = waves()
    with pytest.raises(Killed):
        fastmlp.train(inputs, targets, loss=one, checkpoint=tmp_path / "run", callbacks=killed_after(2), **OPTIONS)
    with pytest.raises(ValueError, match=r"other arguments: loss \("):
        fastmlp.train(inputs, targets, loss=other, checkpoint=tmp_path / "run", **OPTIONS)


def test_a_schedule_of_a_very_long_run(tmp_path):
    """Its rates are sampled."""
    with pytest.raises(Killed):
        train(checkpoint=tmp_path / "run", callbacks=killed_after(2), epochs=10**9, schedule=lambdas(0.5))
    with pytest.raises(ValueError, match=r"schedule \("):
        train(checkpoint=tmp_path / "run", epochs=10**9, schedule=lambdas(0.4))


@pytest.mark.parametrize("change", [
    lambda run: run.update(hidden=[1] * 1_000_000), lambda run: run.update(optimizer="x" * 10_000_000),
    lambda run: run.update({"y" * 10_000_000: 0}), lambda run: run.update(seed="z" * 10_000_000),
    lambda run: run.update({f"{i}": i for i in range(100_000)})])
def test_a_message_is_short_whatever_the_file_says(change, tmp_path):
    train(checkpoint=tmp_path / "run")
    header, tensors = files.read_tensors(tmp_path / "run", "fastmlp_checkpoint", checkpoints.FORMAT)
    change(header["run"])
    (tmp_path / "run").write_bytes(files.to_bytes(tensors, "fastmlp_checkpoint", header))
    with pytest.raises(ValueError, match="checkpoint ") as caught:
        train(checkpoint=tmp_path / "run", seed=None)
    assert str(tmp_path / "run") in str(caught.value)
    assert max(map(len, traceback.format_exception(caught.value))) < 5000


def test_a_model_resumed_and_then_trained_further(tmp_path):
    """What a checkpoint gives back can be trained: its arrays are the model's own."""
    train(checkpoint=tmp_path / "run", early_stopping=9, validation_fraction=0.2)
    model = train(checkpoint=tmp_path / "run", early_stopping=9, validation_fraction=0.2)
    assert model.parameters.flags.writeable
    assert model.optimizer_state.s1.flags.writeable
    fastmlp.train(X, Y, model=model, epochs=2, device="reference")
