"""Attacks on what trains: `train`, `train_perceptron`, `cross_validate` and the estimators."""
import numpy as np
from hypothesis import strategies as st

import fastmlp

from .arrays import disguised, problems
from .options import TRAIN_NAMES, options
from .outcomes import ERRORS, Wrong, refused, snapshot, unchanged


@st.composite
def train_calls(draw):
    X, y = draw(problems())
    weights = draw(st.sampled_from([None, None, np.ones(len(X)), np.arange(len(X)) * 0.5, np.zeros(len(X))]))
    chosen = draw(options(names=[name for name in TRAIN_NAMES if name not in ("X", "y", "checkpoint", "verbose")]))
    if "epochs" in chosen and isinstance(chosen["epochs"], int) and chosen["epochs"] > 5:
        chosen["epochs"] = 2
    return (draw(disguised(X)), draw(disguised(y)),
            {"hidden": 5, "epochs": 2, "batch_size": 16, "seed": 3, "device": "cpu",
             "dtype": draw(st.sampled_from(["float32", "float64"])), "sample_weight": weights, **chosen})


def train(call):
    X, y, chosen = call
    before = [snapshot(value) for value in call[:2]]
    try:
        model = fastmlp.train(X, y, **chosen)
    except ERRORS as error:
        return refused(error, TRAIN_NAMES)
    finally:
        unchanged(before, call[:2], "train")
    losses = model.history["loss"]
    if not (np.isfinite(model.parameters).all() and np.isfinite(losses).all()):
        raise Wrong(f"not finite: {losses}")
    fine = chosen["dtype"] == "float64"
    try:
        oracle = fastmlp.train(X, y, **chosen | {"device": "reference", "dtype": "float64"})
    except ERRORS as error:
        if fine:
            raise Wrong(f"the reference refuses: {error}") from error
        return "right (float64 refuses)"
    first, expected = losses[0], oracle.history["loss"][0]
    # Steps of learning rates of 0.1 and more amplify rounding; float64 has some to spare.
    wild = (chosen.get("learning_rate") or 0) >= 0.1 or np.abs(oracle.parameters).max() > 50
    tolerance = (1e-3 if wild else 1e-7) if fine else (np.inf if wild else 2e-2)
    if not abs(first - expected) <= tolerance * max(abs(expected), 1e-2 if not fine else 1e-6):
        raise Wrong(f"loss {first} where float64 on the reference gives {expected}")
    return "right"


@st.composite
def perceptron_calls(draw):
    X, y = draw(problems())
    if draw(st.booleans()):
        X, y = np.round(X), np.arange(len(X)) % 2
    good = {"mode": ["online", "batch"], "shuffle": [True, False], "seed": [None, 1], "max_epochs": [1, 20],
            "dtype": ["float32", "float64"], "device": ["cpu", "reference"]}
    return draw(disguised(X)), draw(disguised(y)), {"max_epochs": 20, **draw(options(good))}


def perceptron(call):
    X, y, chosen = call
    if isinstance(chosen["max_epochs"], int) and chosen["max_epochs"] > 100:
        chosen["max_epochs"] = 100
    before = [snapshot(value) for value in call[:2]]
    try:
        unit = fastmlp.train_perceptron(X, y, **chosen)
        predicted = unit.predict(X)
    except ERRORS as error:
        return refused(error, ["X", "y", "mode", "shuffle", "seed", "max_epochs", "dtype", "device"])
    finally:
        unchanged(before, call[:2], "train_perceptron")
    score = np.asarray(X, np.float64) @ unit.theta.astype(np.float64) + unit.bias
    clear = np.abs(score) > 1e-4 * (np.abs(np.asarray(X, np.float64)) @ np.abs(unit.theta) + abs(unit.bias))
    if not np.isfinite(score).all():
        raise Wrong("scores are not finite")
    if (predicted != unit.classes[(score >= 0).astype(int)])[clear].any():
        raise Wrong("predictions are not those of float64")
    if unit.converged and (predicted != np.asarray(y).reshape(-1))[clear].any():
        raise Wrong("converged with mistakes")
    return "right"


@st.composite
def selection_calls(draw):
    X, y = draw(problems())
    good = {"k": [2, 3], "stratified": [True, False], "seed": [1], "epochs": [1], "hidden": [3]}
    return draw(disguised(X)), draw(disguised(y)), {"k": 2, "seed": 0, "epochs": 1, "hidden": 3, "device": "cpu",
                                                   **draw(options(good, [*good, "grid", "batch_size"]))}


def selection(call):
    X, y, chosen = call
    before = [snapshot(value) for value in call[:2]]
    if isinstance(chosen["epochs"], int) and chosen["epochs"] > 9:
        chosen["epochs"] = 1
    try:
        result = fastmlp.cross_validate(X, y, **chosen)
    except ERRORS as error:
        return refused(error, [*TRAIN_NAMES, "k", "grid", "stratified", "classes"])
    finally:
        unchanged(before, call[:2], "cross_validate")
    if "nan" in repr(result).lower().replace("nanmean", ""):
        raise Wrong(f"NaN: {result!r}")
    return "right"


@st.composite
def estimator_calls(draw):
    X, y = draw(problems())
    good = {"hidden_layer_sizes": [(3,), (4, 2)], "solver": ["adam", "sgd", "lbfgs"], "alpha": [0.0, 1e-2],
            "batch_size": ["auto", 7], "early_stopping": [True, False], "activation": ["relu", "tanh", "logistic"]}
    return (draw(st.sampled_from(["MLPClassifier", "MLPRegressor", "Perceptron"])), draw(disguised(X)),
            draw(disguised(y)), draw(options(good)))


def estimators(call):
    name, X, y, chosen = call
    if name == "Perceptron":
        chosen = {key: chosen[key] for key in chosen if key in ("alpha", "early_stopping")}
    else:
        chosen = {"hidden_layer_sizes": (3,), "max_iter": 3, **chosen}
    before = [snapshot(X), snapshot(y)]
    try:
        estimator = getattr(fastmlp, name)(random_state=0, **chosen).fit(X, y)
        got = np.asarray(estimator.predict(X))
    except ERRORS as error:
        if isinstance(error, ValueError | TypeError) and len(str(error)) > 10:
            return "refused"  # scikit-learn's own wording, which does not always name the argument
        raise Wrong(f"{type(error).__name__}: {error}") from error
    finally:
        unchanged(before, (X, y), name)
    if got.dtype.kind == "f" and not np.isfinite(got).all():
        raise Wrong(f"{name} predicts {got.ravel()[:5]}")
    return "right"
