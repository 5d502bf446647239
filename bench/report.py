"""`python -m bench.report`: bench/results/*.json -> bench/RESULTS.md and its pictures, nothing typed by hand."""
import json
import sys
from pathlib import Path

from . import gpu_report
from .pictures import brief, draw, pick
from .run import RESULTS, shown
from .tables import digits, groups, table, time_text

TARGET = Path(__file__).parent / "RESULTS.md"
README = Path(__file__).parent.parent / "README.md"
# What stands between these two lines of the README is written by this command.
README_PART = ("<!-- measured: python -m bench.report -->\n", "<!-- end of measured -->\n")
LABS = ("lab 1", "lab 2", "lab 4")


def load(path):
    """(machine, runs)"""
    found = json.loads(path.read_text())
    return found["machine"], found["runs"]


# ------------------------------------------------------------------------------- numbers as text

def with_spread(values, text):
    """median, with p20 and p80 as deviations from it."""
    low, median, high = values
    return f"{text(median)} ({100 * (low / median - 1):+.0f} {100 * (high / median - 1):+.0f} %)"


def ratio_text(values):
    low, median, high = values
    return f"**{digits(median)}×** ({digits(low)}–{digits(high)})"


def against_ours(row):
    return "" if row["name"] == "fastmlp" else ratio_text(row["ratio"])


# ------------------------------------------------------------------------------- sections

def labs_table(rows):
    """The README's table: seconds per epoch on all threads, and how many times ours that is."""
    names = [name for name, in groups(pick(rows, bench="training"), "name") if name != "fastmlp.train"]
    most = max((row["threads"] for row in rows if row["bench"] == "training"), default=1)
    lines = []
    for case in LABS:
        found = {row["name"]: row for row in pick(rows, bench="training", case=case, threads=most)}
        if not found:
            continue
        cells = []
        for name in names:
            row = found.get(name)
            ratio = f" ({digits(row['ratio'][1])}×)" if row and not name.startswith("fastmlp") else ""
            cells.append(time_text(row["seconds"][1]) + ratio if row else "–")
        lines.append([f"{case}: {next(iter(found.values()))['net']}", *cells])
    return table([f"seconds per epoch, {most} threads", *names], lines)


def training_section(rows, bench, title, unit="epoch"):
    text = [f"## {title}\n"] if pick(rows, bench=bench) else []
    for (case, net), members in groups(pick(rows, bench=bench), "case", "net").items():
        lines = [[row["name"], row["threads"], with_spread(row["seconds"], time_text),
                  against_ours(row), f"{row['rate'][1] / 1e9:.0f}",
                  f"{100 * row['fraction'][1]:.0f} %", f"{row['loss_deviation']:.1e}", row["note"]] for row in members]
        text += [f"### {case}: {net}\n", table(
            ["who", "threads", f"per {unit} (p20, p80)", "÷ ours (p20–p80)", "GFLOP/s", "of the ceiling",
             "loss against the reference", "differs in"], lines)]
    return text


def accuracy_section(rows):
    lines = [[row["case"], row["target"], row["name"], row["epochs"], f"{row['accuracy']:.4f}",
              time_text(row["seconds"]), f"{digits(row['ratio'])}×", row["note"]]
             for row in pick(rows, bench="accuracy")]
    return ["## To a stated test accuracy\n", "All threads, whole epochs; with what a peer compiles anew in every "
            "process, without what ours keeps on disk. The accuracy is that after the last epoch needed.\n",
            table(["lab", "accuracy wanted", "who", "epochs", "reached", "training", "÷ ours", "differs in"], lines)]


def kernels_section(rows):
    text = ["## Kernels\n", "Rates count what the operation needs at least; ceilings are fused multiply-adds from "
            "registers (FLOP/s), or a copy of as many bytes (bytes/s), on as many threads. Our single operations run "
            "on one thread, `forward` on as many as it likes; peers are compared with that.\n"]
    lines = []
    for (case,), members in groups(pick(rows, bench="kernels"), "case").items():
        for row in members:
            unit = "GFLOP/s" if row["rate_unit"] == "FLOP/s" else "GB/s"
            lines.append([case.replace(" | ", ", "), row["name"], row["threads"],
                          with_spread(row["seconds"], time_text), against_ours(row),
                          f"{digits(row['rate'][1] / 1e9)} {unit}", f"{100 * row['fraction'][1]:.0f} %",
                          f"{row['error']:.0e}"])
    head = "operation, shape, type", "who", "threads", "a call (p20, p80)", "÷ ours", "rate", "of the ceiling", "error"
    return [*text, table(head, lines)]


def rows_section(rows):
    lines = [[case.removeprefix("one row | "), row["name"], with_spread(row["seconds"], time_text),
              f"{digits(row['ratio'][1])}×", f"{100 * row['fraction'][1]:.0f} %", f"{row['error']:.0e}"]
             for (case,), members in groups(pick(rows, bench="rows"), "case").items() for row in members]
    head = "net", "who", "a row (p20, p80)", "÷ ours in @njit", "of the ceiling", "error"
    return ["## One row at a time\n", "One thread, float32; each call waits for the one before.\n",
            table(head, lines)] if lines else []


def crossover(rows):
    """FLOP of a step from which all threads beat one at every larger step measured; None if never, and the points."""
    points = sorted((row["step_flops"], row["ratio"][1], row["case"])
                    for row in pick(rows, bench="scaling", name="fastmlp")
                    if row["threads"] > 1 and row["axis"] != "threads")
    start = None
    for flops, ratio, _ in reversed(points):
        if ratio >= 1:
            break
        start = flops
    return start, points


def scaling_section(rows):
    text = ["## Scaling\n"]
    for (axis,), members in groups(pick(rows, bench="scaling"), "axis").items():
        lines = [[row["value"], row["net"], row["name"], row["threads"], time_text(row["seconds"][1]),
                  f"{row['rate'][1] / 1e9:.1f}", f"{100 * row['fraction'][1]:.0f} %"] for row in members]
        head = axis, "net", "who", "threads", "per epoch", "GFLOP/s", "of the ceiling"
        text += [f"### Against {axis}\n", table(head, lines)]
    start, points = crossover(rows)
    if points:
        most = max(row["threads"] for row in pick(rows, bench="scaling"))
        lines = [[f"{flops / 1e6:.2f}", case, f"{digits(ratio)}×"] for flops, ratio, case in points]
        found = f"every size from {start / 1e6:.2f} MFLOP a step on" if start else "no size from which on it stays so"
        text += [f"### One thread or {most}\n", f"Ours is faster on {most} threads than on one at {found}.\n",
                 table(["MFLOP a step", "point", f"{most} threads ÷ 1 thread"], lines)]
    return text


def startup_section(rows):
    text, rows = ["## Start and memory\n"], pick(rows, bench="startup")
    moments = ("import", "first train", "same again", "first predict")
    lines = [[row["case"], row["name"], *(time_text(row["warm"][moment]) for moment in moments),
              time_text(row["cold"]["first train"]) if row["cold"] else "", f"{row['warm']['peak bytes'] / 1e6:.0f} MB"]
             for row in rows]
    return [*text, "Each in a fresh process; `first train` is a short training with all that it loads or compiles.\n",
            table(["lab", "who", *moments, "first train, cold cache", "peak memory"], lines)]


def selection_section(rows):
    text = []
    for row in pick(rows, bench="grid search"):
        lines = [[one["name"], row["threads"], with_spread(one["seconds"], time_text), against_ours(one),
                  f"{one['accuracy']:.4f}", one["note"]] for one in row["rows"]]
        head = "who", "threads", "the search (p20, p80)", "÷ ours", "best mean accuracy", "differs in"
        text += ["## Choosing options\n", "5 folds × 12 configurations on scikit-learn's digits, the same epochs, "
                 "batches and widths, nothing stopped early: `cross_validate` against `GridSearchCV`.\n",
                 table(head, lines)]
    lines = [[row["set"], row["training"], row["metric"], *(gain_text(row[name]) for name in PRESET_COLUMNS)]
             for row in pick(rows, bench="preset")]
    if lines:
        text += ["## The tabular preset\n", "5-fold cross-validation, mean ± standard error over seeds, the same "
                 "folds: `train` by its defaults, the same on columns standardised beforehand, and "
                 "`preset=\"tabular\"`.\n", table(["data", "trained for", "metric", *PRESET_COLUMNS], lines)]
    return text


PRESET_COLUMNS = "plain", "standardised", "preset", "gain on plain", "gain on standardised"


def gain_text(values):
    return f"{values[0]:.4f} ± {values[1]:.4f}"


def estimators_section(rows):
    """Ours beside scikit-learn's classes of the same name."""
    lines = [[row["case"], row["threads"], with_spread(row["theirs"], time_text),
              with_spread(row["seconds"], time_text), ratio_text(row["ratio"]), f"{row['bar']:g}×",
              f"{100 * row['loss_deviation']:.2g} %"]
             for row in pick(rows, bench="estimators")]
    if not lines:
        return []
    head = ("fit", "threads", "scikit-learn (p20, p80)", "fastmlp (p20, p80)", "times as fast", "aimed at",
            "loss differs by")
    return ["## Estimators\n", "`MLPClassifier`, `MLPRegressor` and `Perceptron` beside scikit-learn's own: the same "
            "arguments, iterations, data and threads.\n", table(head, lines)]


def repeat_section(runs):
    """The ratios to the peers of the last two runs."""
    if len(runs) < 2:
        return []
    before, after = ({(row["case"], row["name"], row["threads"]): row["ratio"][1]
                      for row in pick(run["rows"], bench="training") if row["name"] != "fastmlp"} for run in runs[-2:])
    lines = [[case, name, threads, digits(before[case, name, threads]), digits(ratio),
              f"{100 * (ratio / before[case, name, threads] - 1):+.0f} %"]
             for (case, name, threads), ratio in after.items() if (case, name, threads) in before]
    worst = max((abs(float(line[-1][:-2])) for line in lines if line[0] in LABS), default=0)
    return ["## Two runs\n", f"The ratios of the labs differ by {worst:.0f} % at most between the last two runs.\n",
            table(["net", "peer", "threads", "first", "second", "change"], lines)]


def section(path, pictures):
    machine, runs = load(path)
    run = shown(runs)
    rows, versions = run["rows"], ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    return [f"# {machine['processor']}, {machine['cores']} cores, {machine['instruction set']}\n",
            f"{machine['system']} on {machine['architecture']}, Python {machine['python']}; {versions}. "
            f"{run['date']}, commit {run['commit']}, {run['minutes']} minutes, load before {run['load before']}.\n",
            labs_table(rows), *(f"![{name}]({name})\n" for name in pictures),
            *training_section(rows, "training", "Training"),
            *training_section(rows, "busy", "Training with one core kept busy by somebody else"),
            *training_section(rows, "steps", "Whole steps, the batch resident", "step"),
            *accuracy_section(rows), *kernels_section(rows), *rows_section(rows), *scaling_section(rows),
            *startup_section(rows), *selection_section(rows),
            *estimators_section(rows), *repeat_section(runs)]


def write_readme(stem, machine, run):
    """The labs' picture and table, and what they were measured on, into the README."""
    picture = RESULTS / f"{stem}-brief.png"
    brief(machine, run["rows"], picture)
    begin, end = README_PART
    before, rest = README.read_text(encoding="utf-8").split(begin)
    _, after = rest.split(end)
    peers = ", ".join(f"{name} {version}" for name, version in run["versions"].items() if name not in ("fastmlp",))
    text = (f"![Seconds per epoch of the three labs]({picture.relative_to(README.parent).as_posix()})\n\n"
            f"{labs_table(run['rows'])}\n{machine['processor']}, {machine['cores']} cores, "
            f"{machine['instruction set']}, Python {machine['python']}, {peers}; {run['date']}.\n")
    README.write_text(before + begin + text + end + after, encoding="utf-8")


def main():
    files = sorted(RESULTS.glob("*.json"))
    if not files:
        sys.exit("bench/results has no .json yet: run python -m bench.run")
    text = ["<!-- Generated by `python -m bench.report` from bench/results/*.json. -->\n",
            "How these figures are made: the docstring of [bench](__init__.py). A ratio is the median over rounds of "
            "peer ÷ ours within a round, with p20–p80; above 1, ours is faster.\n"]
    for path in files:
        machine, runs = load(path)
        text += section(path, draw(path.stem, machine, shown(runs)["rows"], path.parent))
    for path in sorted((RESULTS / "gpu").glob("*.json")):
        machine, runs = load(path)
        text += gpu_report.section(machine, shown(runs))
    TARGET.write_text("\n".join(text))
    for path in files:
        machine, runs = load(path)
        if pick(shown(runs)["rows"], bench="training"):        # the first machine that trained the labs
            write_readme(path.stem, machine, shown(runs))
            break
    print(f"{TARGET.name} and its pictures from {len(files)} files")


if __name__ == "__main__":
    main()
