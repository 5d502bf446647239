"""The report's part on a GPU: from a file that `gpu_session.sh` wrote."""
from .pictures import pick
from .tables import digits, groups, table, time_text


def section(machine, run):
    """The lines on one GPU."""
    rows, versions = run["rows"], ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    return [f"# {machine['processor']}\n", f"{versions}. {run['date']}, commit {run['commit']}.\n",
            *epochs(rows), *accuracy(rows), *kernels(rows), *products(rows), *launches(rows)]


def part(title, words, head, lines):
    return [f"## {title}\n", words + "\n", table(head, lines)] if lines else []


def epochs(rows):
    """Every case with ours first; the others' times as a multiple of our best in float32."""
    lines = []
    for (case, net), members in groups(pick(rows, bench="gpu epoch"), "case", "net").items():
        ours = min((row["seconds"] for row in members if row["name"].startswith("fastmlp float32")), default=None)
        for row in sorted(members, key=lambda row: not row["name"].startswith("fastmlp")):
            ratio = f"{digits(row['seconds'] / ours)}×" if ours else ""
            lines.append([f"{case}: {net}", row["name"], time_text(row["seconds"]), time_text(row["fastest"]),
                          digits(row["microseconds_a_step"]), ratio, row.get("note", "")])
    return part("Epochs on the GPU", "Data resident; medians; the order of the rows made beforehand.",
                ("lab", "who", "per epoch", "fastest", "µs a step", "÷ ours in float32", "differs in"), lines)


def accuracy(rows):
    lines = [[row["case"], row["name"], time_text(row["seconds"]), f"{row['accuracy']:.4f}"]
             for row in pick(rows, bench="gpu accuracy")]
    return part("Accuracy by precision", "On the test images, after the last epoch.",
                ("lab", "who", "training", "accuracy"), lines)


def kernels(rows):
    found = pick(rows, bench="gpu peaks")
    words = "Each launch of a training step by itself, in a graph of many."
    if found:
        peak = found[0]
        words += (f" Floors by {peak['source']}: {peak['memory'] / 1e12:.3g} TB/s"
                  + "".join(f", {name} {peak[name] / 1e12:.4g} TFLOP/s" for name in ("float32", "tf32", "bf16")
                            if peak[name])
                  + f"; a copy reaches {peak['bytes_a_second'] / 1e12:.3g} TB/s. A floor counts memory that the L2 "
                    "cache may hold; a share may therefore exceed 100 %.")
    lines = [[row["case"], row["name"], f"{digits(row['microseconds'])} µs", row["blocks"],
              f"{digits(row['floor_microseconds'])} µs" if "share" in row else "",
              row.get("bound", ""), f"{100 * row['share']:.0f} %" if "share" in row else ""]
             for row in pick(rows, bench="gpu kernel")]
    return part("Kernels on the GPU", words, ("lab", "launch", "time", "blocks", "floor", "bound by", "share"), lines)


def products(rows):
    lines = []
    for (case,), members in groups(pick(rows, bench="gpu gemm"), "case").items():
        alone = {row["name"].split()[-1]: row["seconds"] for row in members if row["name"].startswith("cuBLAS alone")}
        for row in members:
            share = alone.get(row["name"].split()[-1])
            lines.append([case, row["name"], "yes" if row["handed_over"] else "no", time_text(row["seconds"]),
                          digits(row["tflops"]), f"{100 * share / row['seconds']:.0f} %" if share else ""])
    return part("Products", "A dense layer's forward pass with RELU.",
                ("sizes", "who", "handed over", "time", "TFLOP/s", "of cuBLAS alone"), lines)


def launches(rows):
    lines = [[row["case"], row["name"], f"{digits(row['microseconds'])} µs"] for row in pick(rows, bench="gpu launch")]
    return part("Launches", "An empty kernel of one block.", ("arguments", "where", "time"), lines)
