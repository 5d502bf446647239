"""The catalogue: what is added to it works everywhere, nothing depends on the order of codes, unknown codes raise."""
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastmlp.kernels import activations, catalogue, losses, reference, update_rules

HERE = Path(__file__).parent


def run(code, *arguments):
    result = subprocess.run([sys.executable, "-c", code, *arguments], cwd=HERE, text=True, capture_output=True,
                            timeout=600)
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout.split()


# ------------------------------------------------------------------------------- additions

@pytest.mark.parametrize("device", ["cpu", "simulated"])
@pytest.mark.parametrize("toy", ["activation", "rule", "loss"])
def test_an_addition_trains_saves_and_loads(toy, device, tmp_path):
    """`additions.py` registers a toy of each kind and its twins in the reference, and does all that in a process of its
    own, for a narrow net and a wide one; simulated is `kernels.cuda`."""
    if device == "simulated":
        pytest.importorskip("greenlet", reason="the simulator needs greenlet: pip install 'fastmlp[test]'")
    assert run("import additions; additions.check()", toy, device, str(tmp_path / "model.safetensors")) == ["ok"]


def test_registered_before_kernels_are_imported():
    from fastmlp.kernels.cpu import dense_forward  # noqa: F401
    with pytest.raises(RuntimeError, match="mish comes too late"):
        activations.TABLE.register(catalogue.Activation("mish", lambda z: z))
    with pytest.raises(ValueError, match="there is a relu"):
        catalogue.Table("nowhere", *[catalogue.Activation("relu", None)] * 2)


# ------------------------------------------------------------------------------- order

def test_nothing_depends_on_the_order_of_codes():
    """The same parameters, to the bit, from tables in the opposite order."""
    straight, reverse = (run("import additions; additions.train_everything()", order)
                         for order in ("straight", "reverse"))
    assert straight == reverse
    assert len(straight) > 20


STAMP = "from fastmlp.kernels.cpu.jit import source_stamp; print(source_stamp())"


def test_machine_code_is_found_whatever_was_imported_first():
    """Each order of imports had a stamp, and compiled all anew."""
    stamps = {run(f"from fastmlp.kernels import {first}; {STAMP}")[0]
              for first in ("activations", "losses", "update_rules", "catalogue", "cpu")}
    assert len(stamps) == 1
    added = run(f"from fastmlp.kernels import activations, catalogue; from math import tanh; "
                f"activations.TABLE.register(catalogue.Activation('twice', lambda z: tanh(tanh(z)))); {STAMP}")[0]
    assert added not in stamps


def test_stamp_sees_default_arguments():
    """They are in the machine code."""
    one, two = (catalogue.Table("nowhere", catalogue.Activation("steep", lambda z, slope=slope: slope * z))
                for slope in (1.0, 2.0))
    assert catalogue.stamp(one) != catalogue.stamp(two)


# ------------------------------------------------------------------------------- unknown codes

@pytest.mark.parametrize("code", [-1, 99])
def test_unknown_codes_raise(package, code):
    x, w, b = np.ones((3, 4)), np.ones((4, 2)), np.ones(2)
    none = np.empty(0)
    y, dx, dw = np.ones((3, 2)), np.ones((3, 4)), np.ones((4, 2))
    parameters, identity = np.zeros(10), activations.IDENTITY
    options = {"dropout": (0.0,), "loss": losses.SQUARED_ERROR, "rule": update_rules.SGD, "hyper": np.zeros(4),
               "l2": 0.0, "batch_size": 2, "scale": 1.0, "seed": 0, "n_threads": 1}
    with pytest.raises(ValueError, match="activation"):
        package.dense_forward(x, w, b, code, y)
    with pytest.raises(ValueError, match="activation"):
        package.dense_backward(x, w, y, y.copy(), code, y.copy(), dx, dw, b)
    with pytest.raises(ValueError, match="loss"):
        package.pointwise_loss(code, 0.0, y, y.copy(), none, y.copy())
    with pytest.raises(ValueError, match="rule"):
        package.update(code, np.zeros(4), 0.1, 1, b, b.copy(), none, none)
    with pytest.raises(ValueError, match="activation"):
        package.forward(parameters, (4, 2), (code,), x, 1.0, 1, y)
    with pytest.raises(ValueError, match="activation"):
        package.prepare(parameters, (4, 2), (code,), **options)
    with pytest.raises(ValueError, match="loss"):
        package.prepare(parameters, (4, 2), (identity,), **options | {"loss": code})
    with pytest.raises(ValueError, match="rule"):
        package.prepare(parameters, (4, 2), (identity,), **options | {"rule": code})
    with pytest.raises(ValueError, match="rule"):
        update_rules.step_constants(code, np.zeros(4), 0.1, 1)


# ------------------------------------------------------------------------------- formulas, in Python

@pytest.mark.parametrize("name", activations.TRAINABLE)
def test_slopes_are_derivatives(name):
    record = activations.TABLE.record(name)
    for z in (-2.0, -0.3, 0.4, 3.0):
        h = 1e-6
        numeric = (record.f(z + h) - record.f(z - h)) / (2 * h)
        assert record.slope(z if record.needs_z else record.f(z)) == pytest.approx(numeric, abs=1e-8)


@pytest.mark.parametrize("code", losses.ELEMENTWISE, ids=lambda code: losses.NAMES[code])
def test_gradients_of_losses_are_derivatives(code):
    element = losses.TABLE.record(code).element
    for z, t in ((-2.0, 0.0), (-0.3, 1.0), (0.4, 0.5), (1.5, 1.0)):
        h = 1e-6
        numeric = (element(0.7, z + h, t)[0] - element(0.7, z - h, t)[0]) / (2 * h)
        assert element(0.7, z, t)[1] == pytest.approx(numeric, abs=1e-8)


@pytest.mark.parametrize("rule", update_rules.NAMES)
def test_rules_in_python_agree_with_the_reference(rule):
    record, hyper = update_rules.TABLE.record(rule), np.array([0.9, 0.99, 1e-3, 0.1])
    w, g, s1, s2 = np.array([1.0]), np.array([0.3]), np.array([0.2]), np.array([0.1])
    constants = update_rules.step_constants(rule, hyper, 0.05, 3)
    expected = record.step(w[0], g[0], s1[0], s2[0], constants)
    reference.update(update_rules.NAMES.index(rule), hyper, 0.05, 3, w, g, s1, s2)
    np.testing.assert_allclose((w[0], s1[0], s2[0]), expected, rtol=1e-14)


def test_a_formula_outside_the_vocabulary_is_refused():
    def formula(z):
        return subprocess.run(z)                                 # a name of this module that no target knows

    with pytest.raises(NameError, match="formula names subprocess"):
        catalogue.binder(lambda function: function, {})(formula)
