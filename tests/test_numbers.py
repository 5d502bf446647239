"""Numbers at the edges: long sums, many classes, huge logits, divergence that says so."""
import numpy as np
import pytest
from levels import levels_here, run_on
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


LONG_SUMS = """
import numpy as np
import fastmlp
from fastmlp.kernels import cpu, reference
rng = np.random.default_rng(0)

def error(found, wanted):
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)

def uniform(*shape):
    return rng.random(shape).astype("f")

k = 10 ** 6
x, w, b = uniform(4, k), uniform(k, 3), np.zeros(3, "f")
print("X W", error(cpu.dense_forward(x, w, b, 0), x.astype("d") @ w.astype("d")))
dz, dw, db, x = np.empty((k, 3), "f"), np.empty((4, 3), "f"), np.empty(3, "f"), np.ascontiguousarray(x.T)
cpu.dense_backward(x, np.zeros((4, 3), "f"), w, w, 0, dz, np.empty((0, 0), "f"), dw, db)
print("dW", error(dw, x.T.astype("d") @ w.astype("d")))
print("db", error(db, w.sum(axis=0, dtype="d")))
for loss in ("softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error"):
    z, t = np.log(uniform(1, k)), uniform(1, k)
    if loss == "softmax_cross_entropy":
        t /= t.sum()
    labels = (np.empty(0, np.int64),) if loss == "softmax_cross_entropy" else ()
    found, wanted = (getattr(package, loss)(z.astype(dtype), *labels, t.astype(dtype), np.empty(0, dtype),
                                            np.empty(z.shape, dtype))
                     for package, dtype in ((cpu, "f"), (reference, "d")))
    print(loss, abs(found / wanted - 1))
net, out = fastmlp.MLP.from_parameters([w], [b], output="identity"), np.empty(3, "f")
net.as_njit()(x[:, 0].copy(), out)
print("a row of a net", error(out, x[:, 0].astype("d") @ w.astype("d")))
for name, zeros, features in (("steps", 0, 130), ("steps that skip zeros", 0.9, 130), ("narrow steps", 0, 20)):
    n, sizes = 100_000, (features, 1)
    X = (uniform(n, features) * (rng.random((n, 1)) >= zeros)).astype("f")
    models = []
    for device, dtype in (("cpu", "float32"), ("reference", "float64")):
        net = fastmlp.MLP.from_parameters([np.full(s, 0.01, dtype) for s in zip(sizes, sizes[1:])],
                                          [np.zeros(s, dtype) for s in sizes[1:]], activation="identity",
                                          output="identity")
        models.append(fastmlp.train(X, np.ones(n), model=net, epochs=1, batch_size=n, optimizer="sgd",
                                    learning_rate=1.0, device=device, n_threads=1).parameters)
    start = np.concatenate([np.r_[np.full(i * o, 0.01), np.zeros(o)] for i, o in zip(sizes, sizes[1:])])
    print(name, error(models[0] - start, models[1] - start))
"""


@pytest.mark.parametrize("level", levels_here())
def test_sums_of_a_million_terms(level):
    """Summed in one run, X W, dW and losses were off by 1.5e-4, steps that skip zeros by 9e-4, db by 1.9e-5; in blocks
    by 2.4e-6 (equal terms, which all round the same way) and 6e-7 (the others) at most."""
    for line in run_on(level, LONG_SUMS).splitlines():
        name, error = line.rsplit(" ", 1)
        assert float(error) < 5e-6, name


def test_a_million_classes():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2, 10 ** 6)).astype(np.float32)
    labels, dz, oracle = np.array([7, 999_999]), np.empty_like(z), np.empty(z.shape)
    none = np.empty((0, 0)), np.empty(0)
    loss = cpu.softmax_cross_entropy(z, labels, *(a.astype(np.float32) for a in none), dz)
    assert loss == pytest.approx(reference.softmax_cross_entropy(z.astype(float), labels, *none, oracle), rel=1e-5)
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
