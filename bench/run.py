"""`python -m bench.run`: the whole suite, kept in bench/results/<machine>.json.

    python -m bench.run              a new file: one run
    python -m bench.run --again      one more run into the same file; the report shows how well the two agree
    python -m bench.run -k lab_1     with any option of pytest, a part: replaces those rows of the last full run

It is `pytest --benchmark` and a condensed copy of what pytest-benchmark recorded: a row for each figure.
"""
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tqdm import tqdm

from .machine import ROOT, commit, describe, file_name, versions

RESULTS = Path(__file__).parent / "results"


def rounded(value):
    """Five digits are more than any of this is worth."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def run_suite(options):
    """(rows, seconds, exit code) of one run of the suite, with progress."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "benchmark.json"
        command = [sys.executable, "-m", "pytest", "--benchmark", "-v", "--color=no", "-p", "no:cacheprovider",
                   f"--benchmark-json={output}", *options]
        start = time.monotonic()
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True,
                                   env=os.environ | {"COLUMNS": "200"})
        with tqdm(total=number_of_benches(options), unit="bench") as progress:
            for line in process.stdout:
                if "::bench_" in line and any(word in line for word in (" PASSED", " FAILED", " SKIPPED", " ERROR")):
                    progress.update()
                    progress.set_postfix_str(line.split("::")[1].split()[0])
                if line.startswith(("FAILED", "ERROR", "SKIPPED", "missing:")):
                    progress.write(line.rstrip())
        code, seconds = process.wait(), time.monotonic() - start
        found = json.loads(output.read_text())["benchmarks"] if output.exists() else []
        rows = [bench["extra_info"] for bench in found]
    return rounded([row for row in rows if "bench" in row]), seconds, code


def number_of_benches(options):
    command = [sys.executable, "-m", "pytest", "--benchmark", "--collect-only", "-q", *options]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    return sum("::bench_" in line for line in lines)


def shown(runs):
    """The run that the report shows: the last full one. Second runs may be of a part."""
    return max(reversed(runs), key=lambda run: len(run["rows"]))


def key_of(row):
    return tuple(row.get(name) for name in ("bench", "case", "name", "threads"))


def write(path, machine, runs):
    """One row a line, so that a diff shows which figures changed."""
    lines = []
    for run in runs:
        rows = ",\n".join("   " + json.dumps(row) for row in run["rows"])
        head = json.dumps({name: value for name, value in run.items() if name != "rows"})
        lines.append(f'  {head[:-1]}, "rows": [\n{rows}\n  ]}}')
    path.write_text(f'{{"machine": {json.dumps(machine)},\n "runs": [\n' + ",\n".join(lines) + "\n ]}\n")


def main(arguments):
    again = "--again" in arguments
    options = [argument for argument in arguments if argument != "--again"]
    machine = describe()
    path = RESULTS / f"{file_name(machine)}.json"
    runs = json.loads(path.read_text())["runs"] if path.exists() and (again or options) else []
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    rows, seconds, code = run_suite(options)
    if not rows:
        print("no figures; nothing written")
        return code
    run = {"date": datetime.date.today().isoformat(), "commit": commit(), "versions": versions(),
           "load before": load, "minutes": round(seconds / 60, 1)}
    if options and runs and not again:
        new, whole = {key_of(row) for row in rows}, shown(runs)
        whole["rows"] = [row for row in whole["rows"] if key_of(row) not in new] + rows
        whole["part measured again"] = run
    else:
        runs.append({**run, "rows": rows})
    write(path, machine, runs)
    print(f"{path.relative_to(ROOT)}: {len(rows)} rows in {seconds / 60:.1f} minutes; next: python -m bench.report")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
