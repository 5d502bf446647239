"""The pictures of RESULTS.md: bars per lab, a roofline, scaling."""
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

COLOURS = {"fastmlp": "#c0392b", "fastmlp float32": "#e67e73", "fastmlp.train": "#8e2a1f", "NumPy": "#7f8c8d",
           "scikit-learn": "#f39c12", "torch": "#d35400", "torch.compile": "#a04000", "JAX": "#2980b9",
           "Keras": "#8e44ad"}


def pick(rows, **wanted):
    return [row for row in rows if all(row.get(name) == value for name, value in wanted.items())]


def draw(stem, machine, rows, folder):
    """Writes the pictures that these rows allow; returns their paths relative to bench/."""
    names = []
    for kind, picture in (("labs", bars), ("roofline", roofline), ("scaling", scaling)):
        figure = picture(rows)
        if figure is None:
            continue
        figure.suptitle(f"{machine['processor']}, {machine['cores']} cores, {machine['instruction set']}", fontsize=9)
        figure.savefig(folder / f"{stem}-{kind}.png", dpi=110, metadata={"Software": None})
        names.append(f"{folder.name}/{stem}-{kind}.png")
    return names


def bars(rows):
    """Seconds per epoch of every net, on one thread and on all, with p20 to p80."""
    rows = pick(rows, bench="training")
    if not rows:
        return None
    cases = list(dict.fromkeys(row["case"] for row in rows))
    threads = sorted({row["threads"] for row in rows})
    figure = Figure(figsize=(5.5 * len(threads), 2.1 * len(cases)), layout="constrained")
    axes = figure.subplots(len(cases), len(threads), squeeze=False)
    for line, case in zip(axes, cases, strict=True):
        for ax, count in zip(line, threads, strict=True):
            for row in sorted(pick(rows, case=case, threads=count), key=lambda row: -row["seconds"][1]):
                low, median, high = row["seconds"]
                ax.barh(row["name"], median, xerr=[[median - low], [high - median]], error_kw={"linewidth": 0.8},
                        color=COLOURS.get(row["name"], "black"))
            ax.set_title(f"{case}, {count} thread{'s' * (count > 1)}: seconds per epoch", fontsize=9)
            ax.tick_params(labelsize=8)
            ax.spines[["top", "right"]].set_visible(False)
    return figure


def brief(machine, rows, path):
    """The README's picture: seconds per epoch of the lecture's three labs, on all threads."""
    rows = [row for row in pick(rows, bench="training") if row["case"] in ("lab 1", "lab 2", "lab 4")]
    rows = pick(rows, threads=max(row["threads"] for row in rows))
    cases = list(dict.fromkeys(row["case"] for row in rows))
    figure = Figure(figsize=(3.6 * len(cases), 2.6), layout="constrained")
    for ax, case in zip(figure.subplots(1, len(cases), squeeze=False)[0], cases, strict=True):
        members = [row for row in pick(rows, case=case) if row["name"] not in ("fastmlp.train", "fastmlp float32")]
        for row in sorted(members, key=lambda row: -row["seconds"][1]):
            ax.barh(row["name"], row["seconds"][1], color=COLOURS.get(row["name"], "black"))
        ax.set_title(f"{case}: {members[0]['net'].split(',')[0]}", fontsize=9)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"seconds per epoch, {rows[0]['threads']} threads, {machine['processor']}", fontsize=9)
    figure.savefig(path, dpi=90, metadata={"Software": None})


def roofline(rows):
    """GFLOP/s of the dense operations against FLOP per byte, one thread, under the measured ceilings."""
    dense = [row for row in pick(rows, bench="kernels", threads=1) if row["flops"] and "float32" in row["case"]]
    copies = [row for row in pick(rows, bench="kernels", threads=1) if not row["flops"]]
    if not dense or not copies:
        return None
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    ax = figure.subplots()
    for name in dict.fromkeys(row["name"] for row in dense):
        points = pick(dense, name=name)
        ax.scatter([row["flops"] / row["bytes"] for row in points], [row["rate"][1] / 1e9 for row in points], s=22,
                   color=COLOURS.get(name, "black"), label=name)
    fma = max(row["ceiling"][1] for row in dense) / 1e9
    bandwidth = min(row["ceiling"][1] for row in copies) / 1e9
    intensities = [row["flops"] / row["bytes"] for row in dense]
    corners = sorted([min(intensities) / 2, fma / bandwidth, 2 * max(intensities)])
    ax.plot(corners, [min(fma, bandwidth * x) for x in corners], color="black", linewidth=1,
            label=f"ceiling: {fma:.0f} GFLOP/s, {bandwidth:.0f} GB/s (largest copy)")
    ax.set(xscale="log", yscale="log", xlabel="FLOP per byte read or written at least", ylabel="GFLOP/s, one thread")
    ax.legend(fontsize=8)
    return figure


def scaling(rows):
    """Time of an epoch, or of a step, against each axis."""
    rows = pick(rows, bench="scaling")
    axes_names = list(dict.fromkeys(row["axis"] for row in rows))
    if not rows:
        return None
    figure = Figure(figsize=(3.4 * len(axes_names), 3.2), layout="constrained")
    axes = figure.subplots(1, len(axes_names), squeeze=False)
    for ax, axis in zip(axes[0], axes_names, strict=True):
        found = pick(rows, axis=axis)
        lines = dict.fromkeys((row["name"], None if axis == "threads" else row["threads"]) for row in found)
        for name, threads in lines:
            points = pick(found, name=name) if threads is None else pick(found, name=name, threads=threads)
            ax.plot([row["value"] for row in points], [row["seconds"][1] for row in points], marker="o", markersize=3,
                    linestyle="--" if threads == 1 else "-", color=COLOURS.get(name, "black"),
                    label=name + (f", {threads}" if threads else ""))
        ax.set(xscale="log", yscale="log", xlabel=axis)
        values = sorted({row["value"] for row in found})
        ax.set_xticks(values, [f"{value:,}" for value in values], rotation=45)
        ax.xaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.tick_params(labelsize=7)
        ax.legend(fontsize=7)
    axes[0][0].set_ylabel("seconds per epoch")
    return figure
