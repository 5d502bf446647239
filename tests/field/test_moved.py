"""What other versions pickled: modules that had another name, layouts that were others."""
import pickle

import numpy as np
import pytest

import fastmlp
from fastmlp import _moved


def model():
    rng = np.random.default_rng(0)
    return fastmlp.MLP.from_parameters([rng.standard_normal((5, 3))], [rng.standard_normal(3)], output="identity")


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, (_, *names) in _moved._HOMES.items()
                                              for name in names])
def test_found_by_the_old_name(module, name):
    """As a pickle names it, and Numba's index of a user's `cache=True` the type of a RowNet: ModuleNotFoundError."""
    found = pickle.loads(f"cfastmlp.{module}\n{name}\n.".encode())
    assert found.__name__ == name


def test_what_was_never_there():
    with pytest.raises(AttributeError, match="NoModel"):
        pickle.loads(b"cfastmlp.model\nNoModel\n.")


def test_a_model_from_before_offset():
    """Whose predictions raised AttributeError."""
    before, after = model(), object.__new__(fastmlp.MLP)
    state = before.__getstate__()
    del state["offset"]
    after.__setstate__(state)
    x = np.ones((2, 5))
    np.testing.assert_array_equal(after.predict(x), before.predict(x))


@pytest.mark.parametrize("other", [("0" * 16, 64), None])
def test_a_row_net_of_another_layout(monkeypatch, other):
    """Another version's or another kind of CPU's: its packed weights would be read in the wrong places."""
    row_net = pytest.importorskip("fastmlp.kernels.cpu.net.row")
    restore, arguments = model().as_njit().__reduce__()
    out = np.empty(3)
    restore(*arguments)(np.ones(5), out)
    np.testing.assert_allclose(out, model().predict(np.ones((1, 5)))[0])
    with pytest.raises(ValueError, match="another kind of CPU: pickle the model instead"):
        restore(*arguments[:4], *([other] if other else []))
    monkeypatch.setattr(row_net, "VECTOR_BYTES", 8)
    with pytest.raises(ValueError, match="another kind of CPU: pickle the model instead"):
        restore(*arguments)
