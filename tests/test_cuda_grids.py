"""Grids of many rows: no launch has more blocks or threads than a GPU takes. Kernels are not run."""
import numpy as np
import pytest

from fastmlp.kernels import activations as act
from fastmlp.kernels import losses, update_rules

pytest.importorskip("greenlet", reason="the simulator needs greenlet: pip install 'fastmlp[test]'")
import simulator
from simulator import Machine, part, simulated

ROWS = 10 ** 7


@pytest.fixture
def launched(monkeypatch):
    """Launches as (kernel, blocks); the simulator refuses grids that a GPU would."""
    found = []
    monkeypatch.setattr(simulator, "run_blocks", lambda kernel, arguments, blocks, threads:
                        found.append((kernel.__name__, blocks)))
    return found


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_operations(launched, dtype):
    x, w, b, dy = np.empty((ROWS, 1), dtype), np.ones((1, 1), dtype), np.ones(1, dtype), np.empty((ROWS, 1), dtype)
    simulated.dense_forward(x, w, b, act.RELU, dy)
    simulated.dense_backward(x, w, x, dy, act.RELU, dy, np.empty_like(x), np.empty_like(w), np.empty_like(b))
    simulated.dense_forward(w, np.empty((1, ROWS), dtype), np.empty(ROWS, dtype), act.RELU)      # columns likewise
    simulated.softmax_cross_entropy(x, np.zeros(ROWS, np.int64), None, None, dy)
    simulated.squared_error(x, dy, None, np.empty_like(x))
    simulated.dropout(x, 0.5, 0, 0, 0, x)
    simulated.gather(x, np.zeros(ROWS, np.int64), 1.0, dy)
    simulated.update(update_rules.SGD, np.zeros(4), 0.1, 1, x.ravel(), dy.ravel(), None, None)
    simulated.perceptron_batch(x, np.ones(ROWS, dtype), b, b.copy(), np.empty(2, dtype))
    kernels = dict(launched)
    assert min(kernels["forward"], kernels["input_gradient"]) > 2 ** 16 - 1
    assert kernels["weight_gradient"] == 1


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_a_training_step_of_one_large_batch(launched, precision):
    training = part("training").Training(Machine(), choose_plan=lambda *shape: None)
    state = training.prepare(np.ones(4, np.float32), (1, 1, 1), (act.RELU, act.IDENTITY), dropout=(0.5, 0.0),
                             loss=losses.SQUARED_ERROR, rule=update_rules.SGD, hyper=(0, 0, 0, 0), l2=0.0,
                             batch_size=ROWS, scale=1.0, seed=0, n_threads=None, precision=precision)
    x = np.empty((ROWS, 1), np.float32)
    training.train_epoch(state, x, None, x, None, np.zeros(ROWS, np.int64), np.ones(1))
    kernels = dict(launched)
    assert min(kernels["forward"], kernels["input_gradient"]) > 2 ** 16 - 1
    assert "split_gradient" in kernels


def test_what_a_gpu_would_refuse_is_refused(launched):
    kernel = part("steps").sum_weights
    for blocks, threads in ((0, 256), (2 ** 31, 256), (1, 128)):
        with pytest.raises(AssertionError, match=r"blocks|threads"):
            kernel[blocks, threads]()
