"""The CPU operations refuse operands that they would read or write past, before raw memory is touched.

Each of these gave a wrong answer, hung or killed the process before there were checks.
"""
import numpy as np
import pytest
from numba.core.errors import TypingError

from fastmlp.kernels import activations as act
from fastmlp.kernels import cpu, losses

F = np.float32
NONE, NO_TARGETS, NO_LABELS = np.empty(0, F), np.empty((0, 0), F), np.empty(0, np.int64)


def ones(*shape, dtype=F):
    return np.ones(shape, dtype)


def read_only(array):
    array.flags.writeable = False
    return array


def shifted(m, n):
    """Two (m, n) arrays, the second starting one element into the first."""
    raw = np.ones(m * n + 1, F)
    return raw[:-1].reshape(m, n), raw[1:].reshape(m, n)


SQUARE = ones(4, 4)
DENSE = {"x": ones(4, 6), "w": ones(6, 2), "b": ones(2), "activation": 0, "y": ones(4, 2)}
BACKWARD = {"x": ones(4, 6), "w": ones(6, 2), "y": ones(4, 2), "dy": ones(4, 2), "activation": 1, "dz": ones(4, 2),
            "dx": ones(4, 6), "dw": ones(6, 2), "db": ones(2)}
XENT = {"z": ones(2, 3), "labels": np.array([0, 2]), "targets": NO_TARGETS, "weights": NONE, "dz": ones(2, 3)}
SIGMOID = {"z": ones(2, 3), "targets": ones(2, 3), "weights": NONE, "dz": ones(2, 3)}
POINTWISE = {"loss": losses.HUBER, "parameter": 1.0, **SIGMOID}
GATHER = {"x": ones(5, 3), "rows": np.array([0, 4]), "scale": 1.0, "out": ones(2, 3)}
DROPOUT = {"x": ones(4, 3), "rate": 0.5, "seed": 1, "step": 0, "layer": 0, "y": ones(4, 3)}
UPDATE = {"rule": 1, "hyper": np.zeros(4), "learning_rate": 0.1, "step": 1, "w": ones(3), "g": ones(3), "s1": ones(3),
          "s2": NONE}
ONLINE = {"x": ones(4, 3), "y": ones(4), "theta": ones(3), "bias": ones(1)}
BATCH = {**ONLINE, "delta": ones(4)}
FORWARD = {"parameters": ones(14), "sizes": (6, 2), "activations": (0,), "x": ones(4, 6), "scale": 1.0,
           "n_threads": None, "out": ones(4, 2)}

REFUSED = [
    ("dense_forward", DENSE, {"y": read_only(ones(4, 2))}, "y is written, but it is read-only"),
    ("dense_forward", DENSE, {"x": ones(6)}, "x must be a two-dimensional"),
    ("dense_forward", DENSE, {"x": [[1.0]]}, "x must be a NumPy array"),
    ("dense_forward", DENSE, {"w": ones(2, 6).T}, "w must be C-contiguous"),
    ("dense_forward", DENSE, {"b": ones(2, 1)}, "b must be a one-dimensional"),
    ("dense_forward", DENSE, {"activation": 0.5}, "activation must be a whole number"),
    ("dense_forward", DENSE, {"activation": 8}, "activation must be a code"),
    ("dense_forward", DENSE, {"x": SQUARE, "w": ones(4, 4), "b": ones(4), "y": SQUARE}, "must not share memory"),
    ("dense_backward", BACKWARD, {"db": read_only(ones(2))}, "db is written, but it is read-only"),
    ("dense_backward", BACKWARD, {"dw": BACKWARD["w"]}, "must not share memory"),
    ("dense_backward", BACKWARD, {"dx": BACKWARD["x"]}, "must not share memory"),
    ("dense_backward", BACKWARD, dict(zip(("dz", "dy"), shifted(4, 2), strict=True)), "dz may be dy, but"),
    ("softmax_cross_entropy", XENT, {"labels": np.array([0, 3])}, "labels must lie in"),
    ("softmax_cross_entropy", XENT, {"labels": np.array([0, -1])}, "labels must lie in"),
    ("softmax_cross_entropy", XENT, {"labels": np.array([0.0, 1.0], F)}, "labels"),
    ("softmax_cross_entropy", XENT, {"dz": read_only(ones(2, 3))}, "dz is written, but it is read-only"),
    ("softmax_cross_entropy", XENT, dict(zip(("z", "dz"), shifted(2, 3), strict=True)), "dz is written: it may be z"),
    ("softmax_cross_entropy", XENT, {"z": ones(2, 0), "dz": ones(2, 0), "labels": NO_LABELS, "targets": ones(2, 0)},
     "at least one column"),
    ("softmax_cross_entropy", XENT, {"labels": NO_LABELS}, "needs labels"),
    ("sigmoid_cross_entropy", SIGMOID, {"dz": SIGMOID["targets"]}, "must not share memory"),
    ("sigmoid_cross_entropy", SIGMOID, {"z": ones(2, 0), "dz": ones(2, 0), "targets": ones(2, 0)},
     "at least one column"),
    ("squared_error", SIGMOID, {"targets": ones(2, 2)}, "needs z, targets"),
    ("squared_error", SIGMOID, {"z": ones(2, 0), "dz": ones(2, 0), "targets": ones(2, 0)}, "at least one column"),
    ("pointwise_loss", POINTWISE, {"loss": 99}, "loss must be a code of kernels.losses.ELEM"),
    ("gather", GATHER, {"rows": np.array([0, 5])}, "rows must lie in"),
    ("gather", GATHER, {"rows": np.array([0.0, 1.0], F)}, "rows must be int64"),
    ("gather", GATHER, {"out": ones(2, 3, dtype=np.int32)}, "out must be float32 or float64"),
    ("gather", GATHER, {"out": GATHER["x"][:2]}, "must not share memory"),
    ("dropout", DROPOUT, {"rate": np.nan}, "rate must be at least 0"), ("dropout", DROPOUT, {"seed": -1}, "seed"),
    ("dropout", DROPOUT, {"y": read_only(ones(4, 3))}, "y is written, but it is read-only"),
    ("update", UPDATE, {"g": UPDATE["w"]}, "must not share memory"),
    ("update", UPDATE, {"s1": NONE}, "must have the same length"), ("update", UPDATE, {"rule": 99}, "rule must be"),
    ("update", UPDATE, {"w": read_only(ones(3))}, "w is written, but it is read-only"),
    ("perceptron_online", ONLINE, {"theta": read_only(ones(3))}, "theta is written, but it is read-only"),
    ("perceptron_online", ONLINE, {"theta": ONLINE["x"][0]}, "must not share memory"),
    ("perceptron_batch", BATCH, {"delta": ones(3)}, "needs x"),
    ("forward", FORWARD, {"out": [[0.0, 0.0]]}, "out must be a C-contiguous writable"),
    ("forward", FORWARD, {"parameters": ones(13)}, r"parameters must have shape \(14,\)"),
    ("forward", FORWARD, {"parameters": ones(14, dtype=np.int64)}, "parameters must be an array of float32"),
    ("forward", FORWARD, {"activations": ()}, "activations must be 1 codes"),
    ("forward", FORWARD, {"activations": (77,)}, r"activations\[0\] must be a code"),
    ("forward", FORWARD, {"sizes": (-6, 2)}, "sizes must be"), ("forward", FORWARD, {"sizes": (6,)}, "sizes must be"),
    ("forward", FORWARD, {"x": ones(4, 5)}, "x must be a two-dimensional array of 6 columns"),
    ("forward", FORWARD, {"x": ones(6)}, "x must be a two-dimensional array of 6 columns"),
    ("forward", FORWARD, {"x": ones(4, 6, dtype=np.float64)}, "x must be uint8 or float32"),
    ("forward", FORWARD, {"n_threads": 0}, "n_threads must be"),
    ("forward", FORWARD, {"out": read_only(ones(4, 2))}, "out must be"),
]


@pytest.mark.parametrize(("op", "arguments", "change", "message"), REFUSED,
                         ids=[f"{op}-{'-'.join(change)}-{i}" for i, (op, _, change, _) in enumerate(REFUSED)])
def test_refused(op, arguments, change, message):
    with pytest.raises((ValueError, TypeError, TypingError), match=message):
        getattr(cpu, op)(*(arguments | change).values())


NET = {"parameters": np.zeros(14, F), "sizes": (6, 2), "activations": (0,), "dropout": (0.0,), "loss": 0, "rule": 4,
       "hyper": (0.9, 0.999, 1e-8, 0), "l2": 0.0, "batch_size": 3, "scale": 1.0, "seed": 1, "n_threads": 1}
EPOCH = {"x": ones(5, 6), "labels": np.array([0, 1, 0, 1, 0]), "targets": NO_TARGETS, "weights": NONE,
         "order": np.arange(5), "rates": np.full(2, 0.1)}


def prepared(**changes):
    options = NET | changes
    return cpu.prepare(options.pop("parameters"), options.pop("sizes"), options.pop("activations"), **options)


@pytest.mark.parametrize(("change", "message"), [
    ({"parameters": np.zeros(13, F)}, "parameters must have shape"), ({"activations": (0, 0)}, "activations must be"),
    ({"dropout": ()}, "dropout must be"), ({"dropout": (1.5,)}, "dropout must be"), ({"loss": 99}, "loss must be"),
    ({"activations": (7,)}, "must have a derivative"), ({"rule": -1}, "rule must be"),
    ({"hyper": (0, 0)}, "hyper must be"), ({"batch_size": 0}, "batch_size must be"),
    ({"n_threads": 0}, "n_threads must be"),
])
def test_prepare_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        prepared(**change)


WRONG_ROWS = [
    ({"x": ones(5, 7)}, "x must be a two-dimensional array of 6 columns"), ({"x": ones(5, 6).astype(int)}, "x must be"),
    ({"labels": np.array([0, 1, 0, 1, 2])}, r"labels must lie in 0 \.\. 1"), ({"labels": NO_LABELS}, "targets must"),
    ({"labels": np.array([0, 1])}, "labels must be one for each"), ({"labels": np.zeros(5)}, "labels must be"),
    ({"targets": ones(5, 2)}, "targets must have shape"), ({"weights": ones(4)}, "weights must be one for each"),
    ({"labels": NO_LABELS, "targets": ones(5, 3)}, "targets must have shape"),
]
WRONG_ORDERS = [
    ({"order": np.array([0, 1, 2, 3, 5])}, r"order must lie in 0 \.\. 4"), ({"order": -np.arange(5)}, "order must lie"),
    ({"order": np.arange(5.0)}, "order must be .* whole numbers"), ({"rates": np.ones(1)}, "rates must be"),
]


@pytest.mark.parametrize(("change", "message"), WRONG_ROWS + WRONG_ORDERS)
def test_train_epoch_refuses(change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        cpu.train_epoch(prepared(), *(EPOCH | change).values())


@pytest.mark.parametrize(("change", "message"), WRONG_ROWS)
def test_evaluate_refuses(change, message):
    x, labels, targets, weights, *_ = (EPOCH | change).values()
    with pytest.raises((ValueError, TypeError), match=message):
        cpu.evaluate(prepared(), x, labels, targets, weights)


def test_weights_and_slots_of_another_size_are_refused():
    state = prepared()
    for call in (cpu.read_parameters, cpu.write_parameters):
        with pytest.raises(ValueError, match=r"parameters must have shape \(14,\)"):
            call(state, np.zeros(13, F))
        with pytest.raises(TypeError, match="parameters must be an array of float32"):
            call(state, np.zeros(14))
    with pytest.raises(ValueError, match="parameters is written"):
        cpu.read_parameters(state, read_only(np.zeros(14, F)))
    for slots in ((NONE, np.zeros(14, F)), (np.zeros(14, F), NONE), (np.zeros(15, F), np.zeros(14, F))):
        with pytest.raises(ValueError, match=r"s[12] must have shape"):
            cpu.write_optimizer(state, 1, *slots)
        with pytest.raises(ValueError, match=r"s[12] must have shape"):
            cpu.read_optimizer(state, *slots)


@pytest.mark.parametrize("change", [
    lambda x: x.astype(np.float64), lambda x: x.astype(np.float16), lambda x: x.astype(">f4"), lambda x: x.tolist(),
    lambda x: [], lambda x: np.repeat(x, 2, axis=1)[:, ::2], lambda x: np.asfortranarray(x), lambda x: x.astype(object),
    lambda x: np.frombuffer(b"\0" + x.tobytes(), np.float32, x.size, 1).reshape(x.shape)],
    ids=["other dtype", "half", "byte order", "list", "empty list", "strided", "Fortran order", "objects",
         "not aligned"])
def test_refused_after_what_is_right_was_compiled(change):
    """Types that have machine code are not looked at again; others must be."""
    x, w, b, y = (np.ones(shape, np.float32) for shape in ((3, 3), (3, 3), 3, (3, 3)))
    for _ in range(2):
        cpu.dense_forward(x, w, b, act.RELU, y)
        with pytest.raises((TypeError, ValueError), match="dense_forward: "):
            cpu.dense_forward(change(x), w, b, act.RELU, y)
        with pytest.raises((TypeError, ValueError), match="dense_forward: "):
            cpu.dense_forward(x, change(w), b, act.RELU)
        with pytest.raises(TypingError, match="dense_forward: activation"):
            cpu.dense_forward(x, w, b, activation=float(act.RELU), y=y)
