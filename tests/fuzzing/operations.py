"""Attacks on the operations of a kernel package, each with operands that are odd or wrong."""
import numpy as np
from hypothesis import strategies as st
from numba.core.errors import NumbaError

from fastmlp.kernels import cpu, reference

from .arrays import memory_mapped, read_only, unaligned, with_value
from .outcomes import ERRORS, Wrong, refused, snapshot


def op_arguments(op, m, k, n, dtype, rng):
    def normal(*shape):
        return rng.standard_normal(shape).astype(dtype)

    def blank(*shape):
        return np.full(shape, 7, dtype)

    none, targets = np.empty(0, dtype), np.empty((0, 0), dtype)
    return {
        "dense_forward": lambda: {"x": normal(m, k), "w": normal(k, n), "b": normal(n), "activation": 1,
                                  "y": blank(m, n)},
        "dense_backward": lambda: {"x": normal(m, k), "w": normal(k, n), "y": normal(m, n), "dy": normal(m, n),
                                   "activation": 3, "dz": blank(m, n), "dx": blank(m, k), "dw": blank(k, n),
                                   "db": blank(n)},
        "softmax_cross_entropy": lambda: {"z": normal(m, n), "labels": rng.integers(0, max(n, 1), m),
                                          "targets": targets,
                                 "weights": none, "dz": blank(m, n)},
        "sigmoid_cross_entropy": lambda: {"z": normal(m, n), "targets": rng.random((m, n)).astype(dtype),
                                 "weights": rng.random(m).astype(dtype), "dz": blank(m, n)},
        "squared_error": lambda: {"z": normal(m, n), "targets": normal(m, n), "weights": none, "dz": blank(m, n)},
        "gather": lambda: {"x": normal(m + 1, k), "rows": rng.integers(0, m + 1, m), "scale": 0.5, "out": blank(m, k)},
        "dropout": lambda: {"x": normal(m, k), "rate": 0.4, "seed": 5, "step": 1, "layer": 0, "y": blank(m, k)},
        "update": lambda: {"rule": 4, "hyper": np.array([0.9, 0.99, 1e-7, 0.0]), "learning_rate": 0.1, "step": 2,
                           "w": normal(n), "g": normal(n), "s1": normal(n), "s2": rng.random(n).astype(dtype)},
        "perceptron_batch": lambda: {"x": np.round(normal(m, k)), "y": rng.choice([-1, 1], m).astype(dtype),
                                     "theta": np.round(normal(k)), "bias": np.ones(1, dtype), "delta": blank(k + 1)},
        "forward": lambda: {"parameters": normal((k + 1) * n), "sizes": (k, n), "activations": (2,), "x": normal(m, k),
                            "scale": 1.0, "n_threads": 1, "out": blank(m, n)},
    }[op]()


WRITTEN = {"y", "dz", "dx", "dw", "db", "out", "w", "s1", "s2", "theta", "bias", "delta"}
OPS = ("dense_forward", "dense_backward", "softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error", "gather",
       "dropout",
       "update", "perceptron_batch", "forward")
ODD_NUMBERS = [-1, 0, 1, 99, 0.5, 2 ** 40, float("nan"), float("inf"), None, "1", 1e308]


@st.composite
def op_calls(draw):
    op = draw(st.sampled_from(OPS))
    m, n, k = (draw(st.sampled_from([0, 1, 2, 7, 8, 9, 16, 17, 33])) for _ in range(3))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    k, n = (max(k, 1), max(n, 1)) if op == "forward" else (k, n)
    arguments = op_arguments(op, m, k, n, dtype, np.random.default_rng(draw(st.integers(0, 2 ** 32))))
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from(sorted(arguments)))
        value = arguments[name]
        if not isinstance(value, np.ndarray):
            arguments[name] = draw(st.sampled_from(ODD_NUMBERS)) if name != "sizes" else draw(
                st.sampled_from([(k, n + 1), (k,), (), (0, n), (-k, -n), (k, 2, n)]))
            continue
        twist = draw(st.sampled_from(["shape", "other", "view", "dtype", "layout", "value"]))
        if twist == "shape":
            shape = list(value.shape)
            axis = draw(st.integers(0, value.ndim - 1))
            shape[axis] = max(0, shape[axis] + draw(st.sampled_from([-1, 1, 16])))
            value = np.ones(shape, value.dtype)
        elif twist == "other":  # the very memory of another argument
            value = arguments[draw(st.sampled_from(sorted(a for a in arguments
                                                          if isinstance(arguments[a], np.ndarray))))]
        elif twist == "view" and value.size > 1:  # shifted by one element over itself
            raw = np.concatenate([value.reshape(-1), value.reshape(-1)[:1]])
            value = raw[1:].reshape(value.shape)
        elif twist == "dtype":
            value = value.astype(draw(st.sampled_from([np.float32, np.float64, np.int64, np.int32, np.uint8, bool,
                                                       np.float16, ">f4", complex, object])))
        elif twist == "layout":
            value = draw(st.sampled_from([read_only, np.asfortranarray, unaligned, memory_mapped, np.ravel, list,
                                          lambda a: a[..., None], lambda a: np.repeat(a, 2, axis=0)[::2]]))(value)
        elif value.dtype.kind == "i" and value.size:
            value = value.copy()
            value[-1] = draw(st.sampled_from([-1, value.max() + 100, 2 ** 62, -2 ** 62]))
        elif value.dtype.kind == "f" and value.size:
            value = with_value(draw(st.sampled_from([np.nan, np.inf, 1e30, 1e-42])))(value)
        arguments[name] = value
    return op, arguments


def run_op(package):
    def judge(call):
        op, arguments = call
        inputs = [name for name in arguments if name not in WRITTEN or (name, op) in (
            ("y", "dense_backward"), ("w", "dense_forward"), ("w", "dense_backward"), ("y", "perceptron_batch"))]
        before = {name: snapshot(arguments[name]) for name in inputs}
        plain = {name: np.array(value, copy=True) if isinstance(value, np.ndarray) else value
                 for name, value in arguments.items()}

        def untouched():
            """No input is changed, unless it is the memory of an output as well."""
            for name in inputs:
                shared = any(np.may_share_memory(arguments[name], arguments[other]) for other in arguments
                             if other not in inputs and isinstance(arguments[name], np.ndarray)
                             and isinstance(arguments[other], np.ndarray))
                if snapshot(arguments[name]) != before[name] and not shared:
                    raise Wrong(f"{op}: {name} was changed")

        try:
            with np.errstate(all="ignore"):
                result = getattr(package, op)(*arguments.values())
        except (*ERRORS, NumbaError, AttributeError, IndexError) as error:
            untouched()
            return refused(error, [*arguments, op, "argument"]) if package is cpu else "refused"
        untouched()
        if package is not cpu:
            return "right"
        doubles = {name: value.astype(np.float64) if getattr(value, "dtype", np.dtype(int)).kind == "f" else value
                   for name, value in plain.items()}
        with np.errstate(all="ignore"):
            expected = getattr(reference, op)(*doubles.values())
        eps = 1e-4 if any(isinstance(a, np.ndarray) and a.dtype == np.float32 for a in arguments.values()) else 1e-10
        pairs = [(name, arguments[name], doubles[name]) for name in arguments if name not in inputs]
        if op.endswith(("entropy", "error")):
            pairs.append(("loss", np.array(result), np.array(expected)))
        for name, got, wanted in pairs:
            got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
            fits = np.isfinite(wanted) & (np.abs(wanted) < 1e30)
            if name == "delta" or not fits.any():
                continue
            size = np.abs(wanted[fits]).max()
            if not np.abs(got[fits] - wanted[fits]).max() <= eps * max(size, 1e-3):
                raise Wrong(f"{op}: {name} is {got.ravel()[:4]}, in float64 {wanted.ravel()[:4]}")
        return "right"
    return judge
