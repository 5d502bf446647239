"""Numbers at the edges: long sums, many classes, huge logits, divergence that says so."""
import numpy as np
import pytest
from toy import DEVICES, waves

import fastmlp
from fastmlp.kernels import cpu, reference

ROWS = 10 ** 7


@pytest.mark.parametrize("dtype", ["float32"])
@DEVICES
def test_float32_losses_of_ten_million_rows(device, dtype):
    """Each row's loss is float32, their sum float64: summed in float32, 10⁷ of them would be off by up to 1e-1."""
    x = np.linspace(0.1, 1, ROWS, dtype=dtype).reshape(-1, 1)
    model = fastmlp.MLP.from_parameters([np.ones((1, 1), dtype)], [np.zeros(1, dtype)], output="identity")
    model.device = device
    loss = model.evaluate(x, np.zeros(ROWS, dtype))["loss"]
    assert loss == pytest.approx(np.mean(np.square(x, dtype=np.float64)), rel=1e-5)


@DEVICES
def test_the_loss_of_an_epoch_of_a_million_rows(device):
    """The same while training, at a learning rate that changes nothing."""
    x = np.linspace(0.1, 1, 10 ** 6, dtype=np.float32).reshape(-1, 1)
    model = fastmlp.MLP.from_parameters([np.ones((1, 1), np.float32)], [np.zeros(1, np.float32)], output="identity")
    fastmlp.train(x, np.zeros(len(x), np.float32), model=model, optimizer="sgd", learning_rate=1e-30, epochs=1,
                  batch_size=4096, device=device)
    assert model.history["loss"][0] == pytest.approx(np.mean(np.square(x, dtype=np.float64)), rel=1e-5)


def test_a_million_classes():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2, 10 ** 6)).astype(np.float32)
    labels, dz, oracle = np.array([7, 999_999]), np.empty_like(z), np.empty(z.shape)
    none = np.empty((0, 0)), np.empty(0)
    loss = cpu.softmax_xent(z, labels, *(a.astype(np.float32) for a in none), dz)
    assert loss == pytest.approx(reference.softmax_xent(z.astype(float), labels, *none, oracle), rel=1e-5)
    np.testing.assert_allclose(dz, oracle, rtol=1e-4, atol=1e-12)
    model = fastmlp.MLP.from_parameters([z[:1]], [z[1]])
    model.device = "cpu"
    np.testing.assert_allclose(model.predict_proba([[1.0], [-1.0]]).sum(axis=1), 1, rtol=1e-4)


@DEVICES
def test_logits_of_ten_thousand(device):
    model = fastmlp.MLP.from_parameters([np.eye(3, dtype=np.float32) * 1e4], [np.zeros(3, np.float32)])
    model.device = device
    signs = np.array([[1, -1, 0], [-1, 0, 1]], np.float32)
    np.testing.assert_array_equal(model.predict_proba(signs), [[1, 0, 0], [0, 0, 1]])
    assert model.evaluate(signs, [1, 0])["loss"] == pytest.approx(2e4)


@DEVICES
@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
def test_divergence_names_its_epoch_and_keeps_the_last_finite_weights(device):
    X, y = waves()
    kept = []

    def schedule(steps, total_steps, steps_per_epoch):  # harmless for two epochs, then far too much
        return np.where(steps < 2 * steps_per_epoch, 1.0, 1e30)

    with pytest.raises(fastmlp.DivergedError, match="epoch 3") as caught:
        fastmlp.train(X, y, schedule=schedule, epochs=5, hidden=8, batch_size=32, optimizer="sgd", seed=0,
                      device=device, callbacks=lambda model, _: kept.append(model.parameters.copy()))
    np.testing.assert_array_equal(caught.value.model.parameters, kept[-1])
    assert len(kept) == len(caught.value.model.history) == 2
