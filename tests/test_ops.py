"""Every op of every package against the reference in float64, over the table in cases.py."""
import math

import cases
import numpy as np
import pytest

from fastmlp.kernels import activations, losses, reference, update_rules
from fastmlp.kernels.reference import activations as reference_activations
from fastmlp.kernels.reference import losses as reference_losses
from fastmlp.kernels.reference import rules as reference_rules
from fastmlp.kernels.reference.rules import slots_of


@pytest.mark.parametrize("case", cases.CASES, ids=str)
def test_op(package, case):
    arguments = case.arguments()
    expected = cases.upcast(arguments)
    written = {id(arguments[name]) for name in case.outputs + case.scratch}
    inputs = {name: value for name, value in arguments.items()
              if isinstance(value, np.ndarray) and id(value) not in written}
    before = {name: value.copy() for name, value in inputs.items()}

    result = getattr(package, case.op)(*arguments.values())
    expected_result = getattr(reference, case.op)(*expected.values())

    errors = {name: cases.error(arguments[name], expected[name]) for name in case.outputs}
    if isinstance(result, np.ndarray):             # an output that may be left out is returned
        np.testing.assert_array_equal(result, arguments[case.outputs[0]])
    elif expected_result is not None:
        # A loss near 0 is the difference of logits around 1, and rounds like them.
        errors["result"] = abs(result - expected_result) / max(1, abs(expected_result))
    too_large = {name: e for name, e in errors.items() if not e <= case.tolerance}
    assert not too_large, f"{case} (seed {case.seed}): errors above {case.tolerance:.2g}"
    for name, value in inputs.items():
        np.testing.assert_array_equal(value, before[name], err_msg=f"{case} changed its input {name}")


def test_same_names(package):
    assert set(reference.__all__) <= set(dir(package))


def test_reference_codes():
    """The reference restates the codes; it must restate them right."""
    assert tuple(reference_activations.NAMES) == activations.NAMES
    assert tuple(reference_losses.NAMES) == losses.NAMES
    assert tuple(reference_rules.NAMES) == update_rules.NAMES
    assert {activations.NAMES[code] for code in activations.NEEDS_Z} == reference_activations.NEEDS_Z
    assert reference_activations.LEAKY_SLOPE == activations.LEAKY_SLOPE
    assert tuple(map(slots_of, range(len(reference_rules.NAMES)))) == update_rules.SLOTS


SCALAR_ACTIVATIONS = {
    "identity": lambda z: z,
    "relu": lambda z: max(z, 0.0),
    "leaky_relu": lambda z: z if z > 0 else 0.01 * z,
    "tanh": math.tanh,
    "sigmoid": lambda z: 1 / (1 + math.exp(-z)),
    "gelu": lambda z: z * (1 + math.erf(z / math.sqrt(2))) / 2,
    "silu": lambda z: z / (1 + math.exp(-z)),
    "sign": lambda z: 1.0 if z >= 0 else -1.0,
    "exp": math.exp,
}


@pytest.mark.parametrize("name", SCALAR_ACTIVATIONS)
def test_reference_activations_follow_their_definition(name):
    z = np.concatenate([np.linspace(-30, 30, 2001), [0.0, -0.0, 1e-300, -1e-300, 0.46875 * math.sqrt(2)]])
    y = np.empty_like(z)
    reference_activations.activate(activations.NAMES.index(name), z, y)
    np.testing.assert_allclose(y, [SCALAR_ACTIVATIONS[name](v) for v in z], rtol=1e-14, atol=1e-15)


def test_nan_is_seen(package):
    """No fast-math may optimise a NaN away, and no shortcut for zeros may skip one."""
    x, w = np.ones((9, 5), np.float32), np.ones((5, 17), np.float32)
    b, y = np.zeros(17, np.float32), np.zeros((9, 17), np.float32)
    x[4, 2] = np.nan
    for name in activations.TRAINABLE:
        package.dense_forward(x, w, b, activations.NAMES.index(name), y)
        assert np.isnan(y[4]).all(), name
        assert np.isfinite(np.delete(y, 4, axis=0)).all(), name
    dz = np.zeros_like(y)
    labels, no_targets, no_weights = np.zeros(9, np.int64), np.empty((0, 0), np.float32), np.empty(0, np.float32)
    assert math.isnan(package.softmax_cross_entropy(y, labels, no_targets, no_weights, dz))
    assert np.isnan(dz[4]).all()
    assert math.isnan(package.sigmoid_cross_entropy(y, np.zeros_like(y), no_weights, dz))
    assert np.isnan(dz[4]).all()
    assert math.isnan(package.squared_error(y, np.zeros_like(y), no_weights, dz))
    assert np.isnan(dz[4]).all()
