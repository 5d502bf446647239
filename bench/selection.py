"""Choosing options: a grid search by us and by scikit-learn, equal work; the tabular preset against plain defaults."""
import os
import warnings
from time import perf_counter

import numpy as np

K = 5
GRID = {"hidden": [(32,), (64,), (64, 32)], "learning_rate": [1e-3, 3e-3], "l2": [1e-4, 1e-3]}
EPOCHS, BATCH_SIZE = 20, 32
CONFIGURATIONS = int(np.prod([len(values) for values in GRID.values()]))
NOTE = "l2 divided by the batch's rows, weights drawn otherwise"


def digits():
    """scikit-learn's: 1,797 images of 8 × 8 pixels, scaled to 0 .. 1."""
    from sklearn.datasets import load_digits
    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(np.float32), y


class Ours:
    """`fastmlp.cross_validate`, on `threads` threads."""

    def __init__(self, threads):
        self.threads, (self.X, self.y) = threads, digits()
        self.search({name: values[:1] for name, values in GRID.items()})

    def search(self, grid):
        import fastmlp
        return fastmlp.cross_validate(self.X, self.y, K, grid, epochs=EPOCHS, batch_size=BATCH_SIZE, seed=0,
                                      n_threads=self.threads, device="cpu")

    def round(self):
        start = perf_counter()
        self.result = self.search(GRID)
        return perf_counter() - start

    def accuracies(self):
        """The mean accuracy of every configuration."""
        return self.result.mean["accuracy"].tolist()


class ScikitLearn:
    """GridSearchCV over MLPClassifier, n_jobs processes, as many epochs and no early stop; its processes are started
    before it is timed."""

    def __init__(self, threads):
        os.environ["PYTHONWARNINGS"] = "ignore"      # that training stops at its last epoch
        warnings.simplefilter("ignore")
        self.threads, (self.X, self.y) = threads, digits()
        self.search({name: values[:1] for name, values in GRID.items()})

    def search(self, grid):
        from sklearn.model_selection import GridSearchCV, StratifiedKFold
        from sklearn.neural_network import MLPClassifier
        names = {"hidden": "hidden_layer_sizes", "learning_rate": "learning_rate_init", "l2": "alpha"}
        net = MLPClassifier(batch_size=BATCH_SIZE, max_iter=EPOCHS, n_iter_no_change=EPOCHS + 1, random_state=0)
        search = GridSearchCV(net, {names[name]: values for name, values in grid.items()}, n_jobs=self.threads,
                              cv=StratifiedKFold(K, shuffle=True, random_state=0), refit=False)
        return search.fit(self.X, self.y)

    def round(self):
        start = perf_counter()
        self.result = self.search(GRID)
        return perf_counter() - start

    def accuracies(self):
        return self.result.cv_results_["mean_test_score"].tolist()


# ------------------------------------------------------------------------------- the preset

SETS = ("iris", "wine", "breast_cancer", "digits", "diabetes")
SEEDS = 4
# How long and in what batches both are trained: the defaults of `train`, and a usual choice for small data.
TRAININGS = {"20 epochs of batches of 256": {}, "100 epochs of batches of 32": {"epochs": 100, "batch_size": 32}}


def compare_preset(name, training):
    """5-fold cross-validation of plain defaults, of plain defaults on columns standardised beforehand (by all rows, the
    judged ones included; numbers to predict as well), and of preset="tabular"; the same folds and seeds.

    Returns
    -------
    dict of metric; plain, standardised, preset and the preset's gain over each: [mean, standard error over SEEDS], of
    accuracies or, for numbers, of R²
    """
    import sklearn.datasets

    import fastmlp
    X, y = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
    numbers = y.dtype.kind == "f"
    deviation = X.std(axis=0)
    standard = (X - X.mean(axis=0)) / np.where(deviation > 0, deviation, 1), (y - y.mean()) / y.std() if numbers else y

    def score(X, y, seed, preset):
        result = fastmlp.cross_validate(X, y, K, seed=seed, preset=preset, device="cpu", **TRAININGS[training])
        return 1 - result.mean["loss"][0] / y.var() if numbers else result.mean["accuracy"][0]

    plain, standardised, preset = np.array([[score(X, y, seed, None), score(*standard, seed, None),
                                             score(X, y, seed, "tabular")] for seed in range(SEEDS)]).T
    columns = {"plain": plain, "standardised": standardised, "preset": preset, "gain on plain": preset - plain,
               "gain on standardised": preset - standardised}
    return {"metric": "R²" if numbers else "accuracy", **{
        name: [float(values.mean()), float(values.std(ddof=1) / SEEDS ** 0.5)] for name, values in columns.items()}}
