"""Which output belongs to which loss, and the task of a net that is known by its outputs alone."""
import numpy as np

from ..input.labels import Task, label_array
from ..kernels import activations as act
from ..kernels import losses

OUTPUT_OF_LOSS = {record.name: record.output for record in losses.TABLE}
LOSS_OF_OUTPUT = {**dict.fromkeys(act.TRAINABLE, "squared_error"),
                  **{output: name for name, output in OUTPUT_OF_LOSS.items() if output != "identity"}}


def task_of_output(output, n_outputs, classes=None):
    """The task of a net known by its outputs; ValueError if `classes` cannot be theirs."""
    loss = LOSS_OF_OUTPUT.get(output)
    counted = n_outputs if output == "softmax" else 2 if output == "sigmoid" and n_outputs == 1 else None
    if classes is not None:
        classes = label_array(classes, "classes")
        if classes.shape != (counted,) or classes.dtype.kind not in "biufUS" or len(np.unique(classes)) != counted \
                or (np.sort(classes) != classes).any():
            raise ValueError(f"classes must be {counted or 'None, not'} different sorted labels for output {output!r} "
                             f"of {n_outputs} units, got {classes!r}")
    elif counted:
        classes = np.arange(counted)
    return Task(loss, n_outputs, classes, flat=counted is None and n_outputs == 1)
