"""From a code to a name. The names are restated next to their formulas, so that the oracle depends on nothing it
checks: `activations.NAMES`, `losses.NAMES`, `rules.NAMES`. A code is a name's position.
"""


def name_of(names, code, what):
    if not 0 <= code < len(names):
        raise ValueError(f"{what} code {code} is unknown")
    return names[code]
