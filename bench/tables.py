"""Numbers and rows as the lines of a Markdown table."""
from collections import defaultdict


def groups(rows, *names):
    """{values of `names`: rows}, in the order of first appearance."""
    found = defaultdict(list)
    for row in rows:
        found[tuple(row.get(name) for name in names)].append(row)
    return found


def time_text(seconds):
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs"), (1e9, "ns")):
        if seconds * factor >= 1 or unit == "ns":
            return f"{digits(seconds * factor)} {unit}"
    return ""


def digits(value):
    """Three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(head, lines):
    ruled = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*ruled, *("| " + " | ".join(map(str, line)) + " |" for line in lines)]) + "\n"
