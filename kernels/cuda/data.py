"""Data sets in a GPU's memory: what is trained on, and what the net is evaluated on.

Each of the two is kept until another replaces it. Arrays from the host are copied into the memory of those before
them where they fit: a graph that reads from there serves them as well, and windows of a file that is larger than memory
cost one graph, not one each. (The last window of an epoch is shorter, and fits.) Arrays that lie on the GPU already are
read where they are; for others of them the graph is captured anew.
"""
from dataclasses import dataclass

import numpy as np

from .operands import is_given
from .streams import is_on_gpu

TRAINED, EVALUATED = "trained", "evaluated"


@dataclass(eq=False)
class Data:
    """Rows in the GPU's memory; arrays that are not given have one element, which nobody reads."""

    x: object                        # flat: uint8 or the net's dtype
    labels: object
    targets: object
    weights: object
    features: int
    rows: int
    labelled: bool
    weighted: bool
    copied: bool                     # from the host: the memory is ours

    @property
    def arrays(self):
        return self.x, self.labels, self.targets, self.weights


def make_data(machine, x, dtype, labels=None, targets=None, weights=None):
    """`Data` in the machine's memory, from arrays on the host or the GPU."""
    def there(array, kind):
        if not is_given(array):
            return machine.zeros(1, kind)
        return machine.upload(array if is_on_gpu(array) else np.asarray(array, kind)).reshape(-1)

    check_kind(x, dtype)
    return Data(machine.upload(x).reshape(-1), there(labels, np.int64), there(targets, dtype), there(weights, dtype),
                int(x.shape[1]), int(x.shape[0]), is_given(labels), is_given(weights),
                not any(map(is_on_gpu, (x, labels, targets, weights))))


def check_kind(x, dtype):
    kind = np.dtype(str(x.dtype).removeprefix("torch."))
    if kind != np.uint8 and kind != dtype:
        raise TypeError(f"x must be uint8 or {np.dtype(dtype)}, got {kind}")


def fits(data, x, *others):
    """Whether these arrays can be copied into the memory of `data`."""
    return (data.copied and not any(map(is_on_gpu, (x, *others))) and x.dtype == data.x.dtype
            and x.shape[1] == data.features and x.size <= data.x.size
            and all(array.size <= there.size for array, there in zip(others, data.arrays[1:], strict=True)
                    if is_given(array)))


def refill(machine, data, x, labels, targets, weights):
    """Other rows into the memory of `data`."""
    for array, there in zip((x, labels, targets, weights), data.arrays, strict=True):
        if is_given(array):
            machine.write(there, np.asarray(array, there.dtype))
    data.rows, data.labelled, data.weighted = len(x), is_given(labels), is_given(weights)


def resident(state, role, *arrays):
    """The `Data` of these arrays (x, labels, targets, weights), copied to the GPU when they are first seen."""
    for seen, data in state.data.values():
        if all(a is b for a, b in zip(seen, arrays, strict=True)):
            return data
    x, *others = arrays
    check_kind(x, state.dtype)
    _, data = state.data.pop(role, (None, None))         # an interrupted copy must not be taken for what was there
    if data is not None and fits(data, *arrays):
        refill(state.machine, data, *arrays)
    else:
        data = make_data(state.machine, x, state.dtype, *others)
    state.data[role] = arrays, data
    return data
