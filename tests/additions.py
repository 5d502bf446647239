"""What `test_catalogue` runs in processes of its own, since the catalogue is read when the kernels are imported.

A toy of each kind, as an experimenter would write it, with the twin in NumPy that the reference asks for: the
activation Mish (Misra 2020), the rule Lion (Chen et al. 2023), the loss log-cosh.
"""
import hashlib
import sys
from dataclasses import dataclass
from math import exp, log, log1p, tanh

import numpy as np

from fastmlp.kernels import activations, catalogue, losses, update_rules
from fastmlp.kernels.catalogue import Activation, Loss, Rule, like, plain_constants, select, with_decay
from fastmlp.kernels.reference import activations as reference_activations
from fastmlp.kernels.reference import losses as reference_losses
from fastmlp.kernels.reference import rules as reference_rules


def mish(z):
    return z * tanh(log(1.0 + exp(z)))


def mish_slope(z):
    t = tanh(log(1.0 + exp(z)))
    return t + z * (1.0 - t * t) / (1.0 + exp(-z))


def lion(w, g, s1, s2, c):
    ahead = c.first * s1 + c.rest_of_first * g
    sign = select(ahead > 0.0, 1.0, select(ahead < 0.0, -1.0, ahead))
    return w * c.decay - c.rate * sign, c.second * s1 + c.rest_of_second * g, s2


def lion_constants(hyper, rate, step):
    return with_decay(plain_constants(hyper, rate, step), 1.0 - rate * hyper[3])


def log_cosh(parameter, z, t):
    size = abs(z - t)
    return size + log1p(exp(like(-2.0, z) * size)) - like(0.6931471805599453, z), tanh(z - t)


def register_toys():
    activations.TABLE.register(Activation("mish", mish, mish_slope, needs_z=True))
    update_rules.TABLE.register(Rule("lion", lion, 1, ("beta1", "beta2", "", "weight_decay"), lion_constants))
    losses.TABLE.register(Loss("log_cosh", log_cosh))


def register_twins():
    def np_mish(z, y):
        np.multiply(z, np.tanh(np.logaddexp(0, z)), out=y)

    def np_mish_slope(z):
        t = np.tanh(np.logaddexp(0, z))
        return t + z * (1 - t * t) * reference_activations.sigmoid(z)

    def np_lion(eta, hyper, t, w, g, s1, s2):
        w *= 1 - eta * hyper[3]
        w -= eta * np.sign(hyper[0] * s1 + (1 - hyper[0]) * g)
        s1 *= hyper[1]
        s1 += (1 - hyper[1]) * g

    reference_activations.NAMES.append("mish")
    reference_activations.FUNCTIONS["mish"] = np_mish, np_mish_slope
    reference_activations.NEEDS_Z.add("mish")
    reference_rules.NAMES.append("lion")
    reference_rules.STEPS["lion"] = np_lion, 1
    reference_losses.NAMES.append("log_cosh")
    reference_losses.POINTWISE["log_cosh"] = lambda parameter, z, t: (np.log(np.cosh(z - t)), np.tanh(z - t))


@dataclass(frozen=True)
class Lion:
    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.01

    @property
    def rule(self):
        return update_rules.LION

    @property
    def hyper(self):
        return np.array([self.beta1, self.beta2, 0, self.weight_decay])


def simulate(devices):
    """The device "simulated": the CUDA kernels in the simulator. Narrow nets train in the persistent kernel."""
    from simulator import Machine, part

    def choose_plan(sizes, batch, dtype):
        return part("narrow").plan(sizes, batch, dtype) if len(sizes) == 3 else None

    package, choose, kernels = part("training").Training(Machine(), choose_plan=choose_plan), devices.choose, \
        devices.kernels
    devices.choose = lambda device="auto", **named: (device, "") if device == "simulated" else choose(device, **named)
    devices.kernels = lambda device="auto": package if device == "simulated" else kernels(device)


def check():
    """argv: the toy's kind, the device, a file. A net trained with the toy is that of the reference, and is the same
    once saved and loaded."""
    _, toy, device, path = sys.argv
    register_toys()
    register_twins()
    import fastmlp
    from fastmlp import device as device_names
    from fastmlp import optimizers

    optimizers.NAMES["lion"] = Lion()
    rng, rows, batch_size, hidden_layers = np.random.default_rng(0), 300, 64, ((8,), (200, 30))
    if device == "simulated":                                  # where every thread is Python's
        rows, batch_size, hidden_layers = 20, 8, ((8,), (6, 5, 4))
        simulate(device_names)
    x = rng.normal(size=(rows, 20))
    y = np.column_stack((np.sin(x[:, 0]) + x[:, 1], x[:, 2] * x[:, 3]))
    options = {"activation": {"activation": "mish"}, "rule": {"optimizer": "lion"}, "loss": {"loss": "log_cosh"}}[toy]
    options = {"loss": "squared_error", "epochs": 3, "batch_size": batch_size, "seed": 1} | options
    for hidden in hidden_layers:
        wanted = fastmlp.train(x, y, hidden=hidden, device="reference", dtype="float64", **options)
        for dtype, tolerance in (("float64", 1e-10), ("float32", 2e-3)):
            model = fastmlp.train(x, y, hidden=hidden, device=device, dtype=dtype, **options)
            error = np.linalg.norm(model.parameters - wanted.parameters) / np.linalg.norm(wanted.parameters)
            assert error < tolerance, (hidden, dtype, error)
            np.testing.assert_allclose(model.history["loss"], wanted.history["loss"], rtol=100 * tolerance)
        model.save(path)
        again = fastmlp.load(path)
        again.device = model.device
        assert again.activations == model.activations
        assert again.loss == model.loss
        np.testing.assert_array_equal(again.predict(x), model.predict(x))
        assert again.evaluate(x, y) == model.evaluate(x, y)
        again = fastmlp.train(x, y, model=again, device=device, **options)
        assert np.isfinite(again.parameters).all()
    print("ok")


def train_everything():
    """argv: "straight", or "reverse" for tables in the opposite order. Prints the hash of what each activation, rule
    and loss trains on the CPU."""
    if sys.argv[1] == "reverse":
        for module, names in ((activations, reference_activations.NAMES), (update_rules, reference_rules.NAMES),
                              (losses, reference_losses.NAMES)):
            module.TABLE = catalogue.Table(module.TABLE.module, *reversed(list(module.TABLE)))
            names.reverse()
        assert activations.TABLE.code("identity") == len(activations.NAMES) - 1
    import fastmlp

    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 20)).astype("f")
    y, labels = rng.poisson(1.0, (200, 2)).astype("f"), rng.integers(0, 3, 200)
    runs = [{"activation": name} for name in sorted(activations.TRAINABLE)]
    runs += [{"optimizer": name, "l2": 1e-3} for name in ("sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw")]
    runs += [{"loss": record.name} for record in sorted(losses.TABLE, key=lambda record: record.name)]
    for options in runs:
        name = options.get("loss")
        targets = y if name and losses.TABLE.record(name).y == "numbers" else labels > 0 if name == \
            "sigmoid_cross_entropy" else labels
        for hidden in ((8,), (100,)):
            model = fastmlp.train(x, targets, hidden=hidden, device="cpu", epochs=2, seed=0, **options)
            print(hashlib.sha256(model.parameters.tobytes() + model.predict(x).tobytes()).hexdigest()[:16])
