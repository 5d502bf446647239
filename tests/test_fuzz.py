"""Generated attacks on everything public, each in processes of their own: right, or refused by name, and nothing else.

`pytest --long -s tests/test_fuzz.py` makes 2,600 calls of each and prints the table of attacks and outcomes.
"""
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed: pip install -e '.[test]'")
import fuzz


def run(name, calls, number):
    """Outcomes of `calls` calls in a child process; what ended it, if it died."""
    child = subprocess.run([sys.executable, fuzz.__file__, name, str(calls), str(number)], cwd=Path(__file__).parent,
                           capture_output=True, text=True)
    if child.returncode:
        return Counter({f"CRASH {child.returncode}": 1}), [child.stderr[-3000:]]
    answer = json.loads(child.stdout.splitlines()[-1])
    return Counter(answer["outcomes"]), answer["examples"]


@pytest.mark.parametrize("name", fuzz.ATTACKS)
def test_right_or_refused(name, long):
    children, calls = (13, 200) if long else (1, 60)
    total, examples = Counter(), []
    for number in range(children):
        outcomes, shown = run(name, calls, 1000 * long + number)
        total, examples = total + outcomes, examples + shown
    print(f"\n{name}: {total.total()} calls: " + ", ".join(f"{count} {what}" for what, count in total.most_common()))
    assert not examples, "\n".join(examples)
    assert total.total() == children * calls
