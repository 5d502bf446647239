"""The command `fastmlp`: the lecture's labs and what is used."""
import re
import subprocess
import sys

import pytest

from fastmlp import cli, datasets
from fastmlp.training import entry as training

PARAMETERS = {1: "7,960", 2: "397,510", 4: "545,810"}


@pytest.fixture
def few_images(monkeypatch):
    """1,024 images to train and 256 to test: 4 steps an epoch."""
    X_train, y_train, X_test, y_test = datasets.mnist()
    few = X_train[:1024], y_train[:1024], X_test[:256], y_test[:256]
    monkeypatch.setattr(datasets, "mnist", lambda: few)


def fails(capsys, *arguments):
    """The message of a command that must end with exit code 2."""
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("lab", PARAMETERS)
def test_lab(lab, few_images, capsys):
    assert cli.main(["lab", str(lab), "--epochs", "2", "--seed", "1", "--device", "reference"]) == 0
    output = capsys.readouterr().out
    epoch = r"4/4 - \d+s - loss: \d\.\d{4} - accuracy: 0\.\d{4} - val_loss: \d\.\d{4} - val_accuracy: (0\.\d{4})\n"
    lines = re.search(rf"Epoch 1/2\n{epoch}Epoch 2/2\n{epoch}", output)
    assert lines, output
    assert re.search(r"^Compile time: \d+\.\d\d s\nTraining duration: \d+\.\d\d s\nTest loss: \d\.\d{4}$", output, re.M)
    assert f"Test accuracy: {lines[2]}\n" in output
    assert f"Total params: {PARAMETERS[lab]}\n" in output


def test_lab_is_lab_2_with_ten_epochs(few_images, capsys):
    assert cli.main(["lab", "--device", "reference"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("Epoch 1/10\n")
    assert "Epoch 10/10\n" in output
    assert f"Total params: {PARAMETERS[2]}\n" in output


def test_same_seed_same_lines(few_images, capsys):
    def lines(seed):
        cli.main(["lab", "1", "--epochs", "1", "--seed", seed, "--threads", "1"])
        return re.findall("loss.*", capsys.readouterr().out)

    assert lines("3") == lines("3") != lines("4")


def test_plot(few_images, capsys, tmp_path):
    file = tmp_path / "loss.svg"
    assert cli.main(["lab", "1", "--epochs", "2", "--device", "reference", "--plot", str(file)]) == 0
    picture = file.read_text()
    for text in ("Model loss", "Epoch", "Loss", "Train", "Test"):
        assert f"<!-- {text} -->" in picture


def test_ctrl_c_reports_the_net_so_far(few_images, capsys, monkeypatch):
    train = training.train

    def interrupted_in_epoch_2(*arguments, **options):
        def interrupt(model, numbers):
            if numbers["epoch"] == 2:
                raise KeyboardInterrupt

        return train(*arguments, **options, callbacks=[interrupt])

    monkeypatch.setattr(training, "train", interrupted_in_epoch_2)
    assert cli.main(["lab", "1", "--device", "reference"]) == 130
    output = capsys.readouterr().out
    assert "Interrupted after 2 of 10 epochs; the net so far:" in output
    assert "Test accuracy" in output


def test_ctrl_c_elsewhere(capsys, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(datasets, "mnist", interrupt)
    assert cli.main(["lab", "--device", "reference"]) == 130
    assert capsys.readouterr().err == "Interrupted.\n"


@pytest.mark.parametrize(("arguments", "message"), [
    (["lab", "3"], "choose from"),
    (["lab", "--epochs", "0"], "argument --epochs: must be a whole number of at least 1, got '0'"),
    (["lab", "--seed", "x"], "argument --seed: must be a whole number of at least 0"),
    (["lab", "--threads", "-2"], "--threads"),
    (["lab", "--device", "abacus"], "device must be"),
    (["lab", "--plot", "loss.txt"], "loss.txt must end in one of"),
    (["lab", "--plot", "nowhere/loss.png"], "there is no folder"),
    ([], "required"),
    (["frobnicate"], "invalid choice"),
])
def test_wrong_arguments(arguments, message, capsys):
    error = fails(capsys, *arguments)
    assert message in error
    assert error.startswith("usage: fastmlp")


def test_plot_without_matplotlib(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "pip install 'fastmlp[plot]'" in fails(capsys, "lab", "--plot", "loss.png")


def test_bad_environment(capsys, monkeypatch):
    monkeypatch.setenv("FASTMLP_NUM_THREADS", "many")
    assert "FASTMLP_NUM_THREADS must be a whole number" in fails(capsys, "lab")


def test_info(capsys, monkeypatch):
    monkeypatch.setenv("FASTMLP_DEVICE", "reference")
    assert cli.main(["info"]) == 0
    facts = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert (facts["device"], facts["reason"]) == ("reference", "named by FASTMLP_DEVICE")
    assert facts["FASTMLP_DEVICE"] == "reference"
    assert re.match(r"(avx512|avx2|neon|portable) \(\d+-bit vectors\)", facts["instruction set"])
    for name in ("threads", "machine code in", "NumPy's BLAS", "processor", "Python", "fastmlp", "numpy", "numba"):
        assert facts[name]


def test_info_tells_what_is_wrong(capsys, monkeypatch):
    monkeypatch.setenv("FASTMLP_DEVICE", "abacus")
    assert cli.main(["info"]) == 0
    assert "named by FASTMLP_DEVICE" in capsys.readouterr().out


def test_reader_that_stops_reading():
    """`fastmlp info | head -1` ends without a traceback."""
    code = "import sys; from fastmlp.cli import main; sys.exit(main(['info']))"
    process = subprocess.Popen([sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() in (0, 1)


def test_command_is_installed():
    result = subprocess.run(["fastmlp", "--help"], text=True, capture_output=True)
    assert result.returncode == 0
    assert "lab" in result.stdout
