"""The estimators beside scikit-learn's own: the same constructor arguments, data and number of iterations."""
from dataclasses import dataclass, field
from functools import lru_cache
from time import perf_counter

import numpy as np

from .nets import SEED, mnist, scaled

PACKAGES = {"fastmlp": "fastmlp", "scikit-learn": "sklearn.neural_network sklearn.linear_model"}
ONE_ROW_CALLS = 500


@dataclass(frozen=True)
class Case:
    """What is fitted (or, with `predicts`, fitted before and asked), and how many times ours is to be as fast."""

    name: str
    kind: str
    data: str
    bar: float
    settings: dict = field(default_factory=dict, hash=False)
    predicts: bool = False

    def __str__(self):
        return self.name


# No early end: both take the same number of iterations.
THROUGH = {"tol": 0.0, "n_iter_no_change": 10_000, "random_state": SEED}
CASES = (
    Case("digits, 64-32-10, batch 32", "MLPClassifier", "digits", 8,
         {"hidden_layer_sizes": (32,), "batch_size": 32, "max_iter": 20, **THROUGH}),
    Case("digits, the defaults (64-100-10)", "MLPClassifier", "digits", 8, {"max_iter": 20, **THROUGH}),
    Case("20,000 images of MNIST, 784-100-10, batch 200", "MLPClassifier", "mnist", 5,
         {"batch_size": 200, "max_iter": 1, **THROUGH}),
    Case("20,000 × 20 numbers, the defaults (20-100-1)", "MLPRegressor", "numbers", 5, {"max_iter": 8, **THROUGH}),
    Case("predict, one row of digits", "MLPClassifier", "digits", 5, {"max_iter": 2, **THROUGH}, predicts=True),
    Case("Perceptron, 60,000 images of MNIST", "Perceptron", "all mnist", 3,
         {"max_iter": 2, "tol": None, "random_state": SEED}),
)


@lru_cache(maxsize=1)
def load(data):
    """X and y: digits and numbers float64, as scikit-learn gives them; MNIST float32, divided by 255."""
    if data.endswith("mnist"):
        x, y = mnist()[:2]
        rows = slice(None if data.startswith("all") else 20_000)
        return scaled(x[rows]), y[rows]
    if data == "digits":
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        return x / 16, y
    from sklearn.datasets import make_regression

    x, y = make_regression(20_000, 20, noise=10.0, random_state=SEED)
    return x, y / y.std()


class Estimator:
    """Opened in a worker."""

    def __init__(self, name, case):
        import warnings
        from importlib import import_module

        warnings.simplefilter("ignore")                  # "the optimization hasn't converged yet": as wanted
        modules = [import_module(module) for module in PACKAGES[name].split()]
        kind = next(getattr(module, case.kind) for module in modules if hasattr(module, case.kind))
        self.case, (self.x, self.y) = case, load(case.data)
        self.model = kind(**case.settings)

    def check(self):
        """What came of a first fit, and its seconds."""
        start = perf_counter()
        self.model.fit(self.x, self.y)
        seconds = perf_counter() - start
        return {"seconds": seconds, "loss": float(getattr(self.model, "loss_", 0.0)),
                "score": float(self.model.score(self.x, self.y)), "n_iter": int(self.model.n_iter_)}

    def round(self):
        """Seconds of a fit, or of predicting one row."""
        if self.case.predicts:
            row = self.x[:1]
            start = perf_counter()
            for _ in range(ONE_ROW_CALLS):
                self.model.predict(row)
            return (perf_counter() - start) / ONE_ROW_CALLS
        start = perf_counter()
        self.model.fit(self.x, self.y)
        return perf_counter() - start


def verify(ours, theirs):
    """The loss's relative difference; AssertionError unless the work was the same and the loss is within 1 %."""
    assert ours["n_iter"] == theirs["n_iter"], f"{ours['n_iter']} iterations, scikit-learn took {theirs['n_iter']}"
    assert abs(ours["score"] - theirs["score"]) <= 0.03, f"score {ours['score']}, scikit-learn has {theirs['score']}"
    difference = abs(ours["loss"] - theirs["loss"]) / max(theirs["loss"], np.finfo(float).tiny)
    assert difference <= 0.01, f"loss {ours['loss']}, scikit-learn has {theirs['loss']}"
    return difference
