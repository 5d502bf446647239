"""The benches on a GPU without one: floors, a dry run of what times launches, the report, the session's time limits."""
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import cases
import numpy as np
import pytest

pytest.importorskip("greenlet", reason="the simulator needs greenlet: pip install 'fastmlp[test]'")
from simulator import Machine, part
from test_cuda import REASON
from test_cuda_training import no_plan, tiny_tiles

from bench import gpu, gpu_floors, gpu_kernels, gpu_report, report

ROOT = Path(__file__).parent.parent
LIMITS = gpu_floors.Peaks(1e12, 1e13, 1e14, 1e14, "an invented GPU")


class Timed(Machine):
    """A machine whose graphs can be launched as CuPy's are."""

    stream = SimpleNamespace(synchronize=lambda: None)
    argument = staticmethod(lambda value: value)

    def capture(self, launches, repeats):
        graph = super().capture(launches, min(repeats, 1))
        return SimpleNamespace(launch=lambda stream: Machine.replay(self, graph))

    def replay(self, graph):
        graph.launch(self.stream)


@pytest.fixture
def state():
    """A net of two layers after an epoch."""
    package, run = part("training").Training(Timed(), tiny_tiles, no_plan), cases.RUNS["rule_adam"]
    state = run.prepare(package, np.float32)
    x, _, labels, targets, weights = run.data(np.float32)
    package.train_epoch(state, x[:16], labels[:16], targets, weights, np.arange(16), np.full(-(-16 // run.batch_size),
                                                                                              0.01))
    return state


def rows_of(output):
    return [json.loads(line) for line in output.read_text().splitlines()]


@pytest.fixture
def recorded(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["gpu", "kernels", str(tmp_path / "rows.jsonl")])
    return tmp_path / "rows.jsonl"


def test_floors_of_a_step(state):
    """Written out by hand for the one net."""
    (k, n, outputs), m = state.sizes, state.work.rows
    work = {}
    for launch in state.graph[3]:
        found = gpu_floors.work_of(launch, state)
        assert (found is None) == (gpu_floors.name_of(launch) == "finish_step")
        if found:
            work.setdefault(gpu_floors.name_of(launch), []).append(found)
    first, second = work["forward"]
    assert first == (4 * (m * k + k * n + n + 2 * m * n), 2 * m * k * n)            # y and slopes
    assert second == (4 * (m * n + n * outputs + outputs + m * outputs), 2 * m * n * outputs)
    assert work["input_gradient"] == [(4 * (m * outputs + outputs * n + 2 * m * n), 2 * m * n * outputs)]
    assert work["gather"] == [(m * (8 * k + 8), 0)]
    assert work["row_loss"] == [(4 * m * (2 * outputs + 1) + 16 * m, 0)]
    parameters = (k + 1) * n + (n + 1) * outputs
    assert work["weight_update"] == [(4 * (m * (k + n) + m * (n + outputs) + 6 * parameters), 2 * m * parameters)]


def test_floor_is_the_larger_of_two():
    work = gpu_floors.Work(2e6, 1e9)
    assert work.floor(LIMITS, "float32") == (1e9 / 1e13, "arithmetic")
    assert work.floor(LIMITS, "tf32") == (1e9 / 1e14, "arithmetic")
    assert gpu_floors.Work(1e9, 1e9).floor(LIMITS, "bf16") == (1e-3, "memory")
    assert work.floor(gpu_floors.Peaks(1e12), "float32") == (None, "")              # a GPU that is not listed
    assert gpu_floors.Work(2e6).floor(gpu_floors.Peaks(1e12), "tf32") == (2e-6, "memory")


@pytest.mark.parametrize(("name", "memory", "float32"), [
    ("NVIDIA H200", 4.8e12, 67e12), ("NVIDIA H100 80GB HBM3", 3.35e12, 67e12), ("NVIDIA H100 PCIe", 2e12, 51e12),
    ("NVIDIA A100-SXM4-80GB", 2.039e12, 19.5e12), ("NVIDIA A100-PCIE-40GB", 1.555e12, 19.5e12),
    ("Tesla T4", 2.5e11, 0)])
def test_peaks(name, memory, float32):
    found = gpu_floors.peaks(name, lambda: 2.5e11)
    assert (found.memory, found.float32) == (memory, float32)


def test_dry_run_of_the_kernels(state, recorded, monkeypatch, tmp_path):
    """What times launches runs, and the report shows it; the figures mean nothing."""
    net = SimpleNamespace(name="lab 0", batch_size=32)
    monkeypatch.setattr(gpu_kernels, "Trained", lambda net, precision: SimpleNamespace(
        epoch=lambda: None, state=state))
    gpu_kernels.time_step(net, "float32", LIMITS)
    rows = rows_of(recorded)
    names = [row["name"].split()[1] for row in rows]
    assert names == ["gather", "forward", "forward", "row_loss", "input_gradient", "weight_update"]
    assert all(row["share"] == pytest.approx(row["floor_microseconds"] / row["microseconds"], rel=1e-3) for row in rows)
    text = "\n".join(gpu_report.section({"processor": "GPU"}, {"rows": rows, "versions": {}, "date": "", "commit": ""}))
    assert text.count("| lab 0, batch 32 |") == 6
    assert "input_gradient float32" in text


def test_dry_run_of_products_and_launches(recorded, monkeypatch):
    """With the simulated modules in place of the package's."""
    package = pytest.importorskip("fastmlp.kernels.cuda", reason="needs pip install 'fastmlp[cuda-compile]'")
    for name in ("dense", "large", "tensor_core"):
        monkeypatch.setattr(package, name, part(name), raising=False)
    monkeypatch.setattr("fastmlp.kernels.cuda.shims.cuda", part("shims").cuda)
    monkeypatch.setattr(part("large"), "THREADS", 64)
    machine = Timed()
    for precision in gpu.PRECISIONS:
        gpu_kernels.time_products(precision, machine, (8,))
    gpu_kernels.empty_kernels(machine, 2)
    rows = rows_of(recorded)
    assert [row["name"] for row in rows[:3]] == ["tiles float32", "cuBLAS and epilogue float32", "cuBLAS alone float32"]
    assert len(rows) == 9 + 4
    assert not any(row["handed_over"] for row in rows[:9])


INVENTED = [
    {"bench": "gpu epoch", "case": "lab 1, batch 256", "name": "torch eager", "net": "784-10-10", "note": "why",
     "seconds": 0.02, "fastest": 0.019, "microseconds_a_step": 85.1},
    {"bench": "gpu epoch", "case": "lab 1, batch 256", "name": "fastmlp float32", "net": "784-10-10",
     "seconds": 0.002, "fastest": 0.0019, "microseconds_a_step": 8.51, "with_permutation": 0.003, "tflops": 1.0},
    {"bench": "gpu launch", "case": "3 arrays", "name": "graph node", "microseconds": 1.5},
    {"bench": "gpu peaks", "case": "memory", "name": "copy", "bytes_a_second": 3e12, "of_peak": 0.9,
     **gpu_floors.PEAKS["H100 80GB HBM3"]._asdict()},
    {"bench": "gpu kernel", "case": "lab 1, batch 256", "name": "0 gather float32", "microseconds": 2.0, "blocks": 784,
     "bytes": 1e6, "flops": 0.0, "floor_microseconds": 0.5, "share": 0.25, "bound": "memory"},
    {"bench": "gpu kernel", "case": "lab 1, batch 256", "name": "1 unknown float32", "microseconds": 2.0, "blocks": 1},
    {"bench": "gpu gemm", "case": "4096 x 4096 x 4096", "name": "cuBLAS and epilogue float32", "seconds": 3e-3,
     "tflops": 45.8, "handed_over": True},
    {"bench": "gpu gemm", "case": "4096 x 4096 x 4096", "name": "cuBLAS alone float32", "seconds": 2.7e-3,
     "tflops": 50.9, "handed_over": True},
    {"bench": "gpu accuracy", "case": "lab 2, 20 epochs", "name": "fastmlp tf32", "seconds": 0.1, "accuracy": 0.9812},
]


def test_report_of_a_gpu(monkeypatch, tmp_path):
    """Invented figures of every kind, through the command, beside the CPUs' that are there."""
    (tmp_path / "gpu").mkdir()
    (tmp_path / "cpu.json").write_text(json.dumps({"machine": {}, "runs": [{"rows": []}]}))
    (tmp_path / "gpu" / "an-invented-gpu.json").write_text(json.dumps({
        "machine": {"processor": "Invented GPU"}, "runs": [{"date": "2000-01-01", "commit": "0", "versions": {"x": "1"},
                                                            "rows": INVENTED}]}))
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(report, "TARGET", tmp_path / "RESULTS.md")
    monkeypatch.setattr(report, "draw", lambda *arguments: [])
    monkeypatch.setattr(report, "section", lambda path, pictures: [])
    report.main()
    lines = (tmp_path / "RESULTS.md").read_text().splitlines()
    assert "# Invented GPU" in lines
    ours, torch = (next(i for i, line in enumerate(lines) if name in line) for name in ("| fastmlp float32", "| torch"))
    assert ours < torch
    assert "| 10.0× | why |" in lines[torch]
    for row in ("| 3 arrays | graph node | 1.50 µs |",
                "| lab 1, batch 256 | 0 gather float32 | 2.00 µs | 784 | 0.50 µs | memory | 25 % |",
                "| lab 1, batch 256 | 1 unknown float32 | 2.00 µs | 1 |  |  |  |",
                "| 4096 x 4096 x 4096 | cuBLAS and epilogue float32 | yes | 3.00 ms | 45.8 | 90 % |",
                "| lab 2, 20 epochs | fastmlp tf32 | 100 ms | 0.9812 |"):
        assert row in lines
    assert any("3.35 TB/s, float32 67 TFLOP/s, tf32 494.5 TFLOP/s" in line for line in lines)


def test_the_session_ends_in_time():
    """Every stage, in less than nine minutes though each takes all it may."""
    script = ROOT / "bench" / "gpu_session.sh"
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text()
    limits = {name: int(seconds) for name, seconds in re.findall(r"(?:^|\s)(?:stage|figures) ([a-z]+) (\d+)\b", text)}
    assert sum(limits.values()) <= 9 * 60
    called = set(re.findall(r"bench\.gpu (\w+)", text)) | set(re.findall(r"figures (\w+)", text))
    assert called - {"1"} >= set(gpu.STAGES)
    assert all((ROOT / path).exists() for path in re.findall(r"tests/\w+\.py", text))


def test_collected_figures_go_to_the_folder_that_is_named(monkeypatch, tmp_path):
    """Behind those that the checkout has of this GPU; the checkout stays as it is."""
    (tmp_path / "results" / "gpu").mkdir(parents=True)
    before = tmp_path / "results" / "gpu" / "invented-gpu-1.json"
    before.write_text(json.dumps({"machine": {}, "runs": [{"date": "", "rows": [{"name": "old"}]}]}))
    text = before.read_text()
    (tmp_path / "rows.jsonl").write_text('{"name": "new"}\n')
    monkeypatch.setattr(gpu, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(gpu, "gpu_name", lambda: "Invented GPU (1)")
    monkeypatch.setattr("sys.argv", ["gpu", "collect", str(tmp_path / "rows.jsonl"), str(tmp_path)])
    gpu.collect()
    runs = json.loads((tmp_path / "invented-gpu-1.json").read_text())["runs"]
    assert [run["rows"] for run in runs] == [[{"name": "old"}], [{"name": "new"}]]
    assert before.read_text() == text


PYTHON = """#!/bin/sh
echo "$FASTMLP_REQUIRE_CUDA" "$@"
case "$*" in
    *epochs*) echo '{"name": "a figure"}' >>"$4" ;;
    *peers*) exit 3 ;;
    *collect*) echo '{}' >"$5/invented-gpu.json" ;;
esac
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
def test_rehearsal_of_the_session(tmp_path):
    """From end to end with a stand-in for Python: what is in the folder at the end, and that a failure is named."""
    stand_ins, out = tmp_path / "bin", tmp_path / "out"
    stand_ins.mkdir()
    for name, text in (("python3", PYTHON), ("nvidia-smi", "#!/bin/sh\n")):
        (stand_ins / name).write_text(text)
        (stand_ins / name).chmod(0o755)
    script = ROOT / "bench" / "gpu_session.sh"
    run = subprocess.run(["bash", script, out], capture_output=True, text=True, cwd=tmp_path,
                         env=os.environ | {"PATH": f"{stand_ins}:/usr/bin:/bin", "TMPDIR": str(stand_ins)})
    assert run.returncode == 1, run.stdout
    assert run.stdout.splitlines()[-1].split()[:2] == ["FAILED:", "peers"]
    assert sorted(path.name for path in out.iterdir()) == ["invented-gpu.json", "rows.jsonl", "session.tar.gz"]
    assert (out / "rows.jsonl").read_text() == '{"name": "a figure"}\n'
    with tarfile.open(out / "session.tar.gz") as archive:
        names = {Path(name).stem for name in archive.getnames()}
        tests = archive.extractfile("logs/tests.log").read().decode()
    assert {"versions", "smoke", "tests", "epochs", "peers", "kernels", "collect"} <= names
    assert tests.startswith("1 -m pytest")
    assert [path.name for path in stand_ins.iterdir() if path.is_dir()] == []              # nothing left behind
    assert subprocess.run(["bash", script], capture_output=True).returncode == 2


@pytest.mark.skipif(REASON is None, reason="there is a GPU")
@pytest.mark.parametrize("name", [name for name in gpu.STAGES if name != "collect"])
def test_stages_run_up_to_where_a_gpu_is_needed(name, monkeypatch, capsys):
    pytest.importorskip("numba_cuda", reason="needs pip install 'fastmlp[cuda-compile]'")
    monkeypatch.setattr("sys.argv", ["gpu", name])
    monkeypatch.setattr(gpu.gpu_peers, "PEERS", {"absent": SimpleNamespace(needs="no_such_package")})
    try:
        gpu.STAGES[name]()
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    else:
        said = capsys.readouterr().out
    assert re.search(r"cupy|libcuda|CUDA|cudaError|not installed", said), said
