"""k-fold cross-validation over a grid of options: which ones to train by."""
import itertools
import math
from dataclasses import replace
from time import perf_counter

import numpy as np

from .. import checks
from .. import device as devices
from ..input.rows import folds, read_data, weights_by_class
from ..training.early_stopping import watch_of
from ..training.entry import OPTION_DEFAULTS
from ..training.options import check_options, draw_seed
from ..training.run import DivergedError, fit
from ..training.setup import compile_kernels
from ..training.streams import Streams, member_seeds
from .backends import check_backend, run_on
from .parallel import on_one_thread, run_tasks, worker_count

MOST_CONFIGURATIONS = 100_000    # checking one takes 40 µs, and all are checked before any trains
# What a grid cannot vary: cross_validate has its own.
_OWN = ("seed", "n_threads", "verbose", "callbacks", "checkpoint", "window_rows")
SCORES = ("accuracy", "loss", "train_accuracy", "train_loss", "epochs", "seconds")


def cross_validate(X, y, k=5, grid=None, *, scoring="auto", refit=False, sample_weight=None, seed=None, n_threads=None,
                   backend=None, verbose=0, **options):
    """Train every configuration of a grid on k - 1 of k folds, evaluate it on the fold left out, k times over.

    Every fold of every configuration is a training of its own, on one thread; all cores are busy. X and y are read
    once and shared; the rows left out are kept a second time, and a net that scales its input (`scaling`, `preset`)
    has a scaled copy while it trains.

    Parameters
    ----------
    X, y, sample_weight : as in `fastmlp.train`
    k : folds, at least 2. The rows are shuffled and dealt so that every class is in every fold in proportion.
    grid : {option of `train`: list of values}; every combination is a configuration. None for a single one.
    scoring : "accuracy", "loss", or "auto": the accuracy where there are classes or labels, else the loss. What
        configurations are ranked by, as the mean over folds; equal accuracies by their loss.
    refit : whether to train the best configuration on all rows as well, by all threads, as
        `fastmlp.train(X, y, seed=seed, **options, **result.best)` would: `result.model`
    seed : whole number that fixes the folds and every training; the trainings of one fold start from the same seed in
        all configurations. None draws one, kept as `result.seed`.
    n_threads : how many nets train at once; None for all cores. The number does not change the results. On a GPU it is
        one net at a time: device="cpu" may well be faster for many small nets.
    backend : None for threads of this process; the name of a joblib backend ("loky": processes), or a
        `distributed.Client` for the workers of a Dask cluster, which decides how many nets train at once and trains
        anew what a lost worker had in hand. The data go to each worker once; callbacks must be picklable. The results
        are the same bits, on machines of one instruction set.
    verbose : 0 silent, 1 or 2 a progress bar over the nets
    options : other options of `train`, the same for all configurations; callbacks are called by several threads.
        `validation_fraction`, for early stopping, sets aside rows of the k - 1 folds trained on: the fold left out
        takes no part in that.

    Returns
    -------
    CrossValidation. Ctrl-C gives what has finished when the epochs in hand are over (`interrupted` is True); what has
    not is NaN, and nothing is fitted anew. A training that diverges scores NaN; NaN ranks last.

    Raises
    ------
    TypeError, ValueError before anything trains for arguments that cannot be used and for unknown options in grid,
    naming what is allowed.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2)); y = np.where((X ** 2).sum(axis=1) < 1, "inside", "outside")
    >>> result = fastmlp.cross_validate(X, y, k=4, grid={"hidden": [(), 16]}, epochs=60, batch_size=20,
    ...                                 learning_rate=0.02, seed=0, device="reference")
    >>> result.best
    {'hidden': 16}
    >>> result.mean["accuracy"].round(1)
    array([0.6, 0.9])
    """
    k, seed = checks.integer("k", k, 2), draw_seed() if seed is None else checks.integer("seed", seed, 0)
    scoring, backend = checks.choice("scoring", scoring, ("auto", "accuracy", "loss")), check_backend(backend)
    configurations = _configurations(grid, options)
    checked = [check_options(**{**OPTION_DEFAULTS, **options, **each, "seed": seed}) for each in configurations]
    sets = {}
    for each in checked:
        read = _how_read(each)
        if read not in sets:
            sets[read] = read_data(X, y, sample_weight, each.loss, each.net.dtype, wide=each.scaling == "robust")
    data = [sets[_how_read(each)] for each in checked]
    scoring = _scoring(scoring, data)
    for each, those in zip(checked, data, strict=True):
        _check_with_data(each, those)

    # Every row is held out once: each fold's hold-out rows are gathered once, for all configurations.
    first = data[0]
    fold_of_row = folds(len(first.rows), k, first.rows.class_indices() if first.task.kind == "classes" else None,
                        Streams(seed).split)
    inside = [np.flatnonzero(fold_of_row == fold) for fold in range(k)]
    outside = [np.flatnonzero(fold_of_row != fold) for fold in range(k)]
    hold_outs = {id(those): [those.rows.take(rows) for rows in inside] for those in sets.values()}
    if any(rows.weights.size and not rows.weights.any() for rows in hold_outs[id(first)]):
        raise ValueError("sample_weight leaves a fold in which every row has weight 0; pass a smaller k")
    seeds = member_seeds(seed, k)
    tasks = [(those, outside[fold], hold_outs[id(those)][fold], replace(each, seed=seeds[fold]))
             for each, those in zip(checked, data, strict=True) for fold in range(k)]
    workers = min(len(tasks), *(worker_count(n_threads, each.device) for each in checked))
    for each in checked:  # before any worker starts: two that compile the same function would wait in turn
        compile_kernels(devices.kernels(each.device), each.net.dtype, verbose)

    started = perf_counter()
    description = f"{k}-fold cross-validation"
    scores, interrupted = (run_tasks(fit_and_score, tasks, workers, verbose, description) if backend is None else
                           run_on(backend, fit_and_score, tasks, workers, verbose, description))
    columns = {name: np.array([math.nan if score is None else score[name] for score in scores]).reshape(-1, k)
               for name in SCORES if scoring == "accuracy" or not name.endswith("accuracy")}
    result = CrossValidation(configurations, columns, scoring, fold_of_row, seed, interrupted)
    if refit and not interrupted:
        if result.best is None:
            raise DivergedError("every configuration diverged in some fold, so there is none to refit; lower the "
                                "learning rates")
        best = int(result.order[0])
        result.model = fit(data[best], np.arange(len(fold_of_row)), replace(checked[best], n_threads=n_threads))
    result.duration = perf_counter() - started
    return result


def _how_read(options):
    """What the rows in memory depend on: whoever scales them reads them in their own precision."""
    return options.loss, options.net.dtype, options.scaling == "robust"


def fit_and_score(data, train_rows, hold_out, options, stop=None):
    """One training on the rows `train_rows` of `data`, evaluated on the rows `hold_out`: a number for each of
    `SCORES`; None if it was stopped. A task depends on these arguments alone and can run anywhere."""
    started = perf_counter()
    try:
        model = fit(data, train_rows, on_one_thread(options, stop))
    except DivergedError:
        return dict.fromkeys(SCORES, math.nan)
    history = model.history
    if history.interrupted or (stop is not None and stop() and history.stopped == "callback"):
        return None
    last = (history.best_epoch or len(history)) - 1
    numbers = {"accuracy": math.nan, "train_accuracy": math.nan, **model.evaluate_rows(hold_out)}
    numbers |= {f"train_{name}": history[name][last] for name in ("loss", "accuracy") if name in history}
    return numbers | {"epochs": len(history), "seconds": perf_counter() - started}


class CrossValidation:
    """The scores of every configuration in every fold.

    Attributes
    ----------
    configurations : list of dict, in the order of the grid, its last option varying fastest
    scores : dict of (configurations, k) float64 arrays: "loss" and, where there are classes or labels, "accuracy" of
        the fold left out; "train_loss", "train_accuracy" of the last epoch (of the best, where early stopping restored
        it); "epochs" trained; "seconds". NaN where training diverged or was not finished.
    mean, std : dict of (configurations,) arrays, over the folds; std divides by k
    scoring : "accuracy" or "loss", what is ranked by
    order : (configurations,) int, the best first
    rank : (configurations,) int, 1 for the best
    best : dict, the best configuration; None if none has all its folds
    folds : (n,) int, the fold in which each row of X was left out, from 0
    model : MLP trained on all rows by the best configuration; None without refit
    seed, interrupted : the seed used, and whether Ctrl-C ended it; duration : seconds in all
    """

    def __init__(self, configurations, scores, scoring, folds, seed, interrupted):
        self.configurations, self.scores, self.scoring = configurations, scores, scoring
        self.folds, self.seed, self.interrupted = folds, seed, interrupted
        self.model, self.duration = None, math.nan
        self.mean = {name: values.mean(axis=1) for name, values in scores.items()}
        self.std = {name: values.std(axis=1) for name, values in scores.items()}
        keys = (self.mean["loss"],) if scoring == "loss" else (self.mean["loss"], -self.mean["accuracy"])
        self.order = np.lexsort(keys)  # by the last key first; NaN last; stable
        self.rank = np.argsort(self.order) + 1
        best = self.order[0]
        self.best = None if math.isnan(self.mean[scoring][best]) else configurations[best]

    def to_dict(self):
        """{column: list, one value a configuration}, as `pandas.DataFrame` takes it: rank, the grid's options, then
        mean_, std_ and every fold's value of each score."""
        columns = {"rank": self.rank.tolist()}
        columns |= {name: [each[name] for each in self.configurations] for name in self.configurations[0]}
        for name, values in self.scores.items():
            columns |= {f"mean_{name}": self.mean[name].tolist(), f"std_{name}": self.std[name].tolist()}
            columns |= {f"{name}_{fold}": column.tolist() for fold, column in enumerate(values.T)}
        return columns

    def summary(self):
        """The configurations as a table, the best first, with mean ± standard deviation over the folds."""
        shown = [name for name in (self.scoring, "accuracy", "loss", "train_loss") if name in self.scores]
        shown = list(dict.fromkeys(shown))
        lines = [["rank", *self.configurations[0], *shown, "epochs", "seconds"]]
        for c in self.order:
            scores = [f"{self.mean[name][c]:.4f} ± {self.std[name][c]:.4f}" for name in shown]
            lines.append([str(self.rank[c]), *map(_text, self.configurations[c].values()), *scores,
                          f"{self.mean['epochs'][c]:.0f}", f"{self.mean['seconds'][c]:.2f}"])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        rows = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
                for line in lines]
        bar = "_" * max(map(len, rows))
        k = next(iter(self.scores.values())).shape[1]
        title = f"{k}-fold cross-validation, ranked by {self.scoring}{' (interrupted)' if self.interrupted else ''}"
        return "\n".join([title, bar, rows[0], "=" * len(bar), *rows[1:], bar])

    def __len__(self):
        return len(self.configurations)

    def __repr__(self):
        k = next(iter(self.scores.values())).shape[1]
        return (f"CrossValidation({len(self)} configurations, {k} folds, best {self.best!r}"
                f"{', interrupted' if self.interrupted else ''})")


def _configurations(grid, options):
    """The combinations of the grid, as dicts; every name checked."""
    allowed = tuple(name for name in OPTION_DEFAULTS if name not in _OWN)
    for name in options:
        checks.choice("an option of cross_validate", name, (*allowed, "callbacks"))
    if grid is None:
        grid = {}
    if not isinstance(grid, dict):
        raise TypeError(f"grid must be a dict of option: list of values, got {grid!r}")
    lists = {}
    for name, values in grid.items():
        checks.choice("an option in grid", name, allowed)
        if name in options:
            raise ValueError(f"{name} is given both in grid and as {name}={options[name]!r}; leave one out")
        if not isinstance(values, str | dict) and hasattr(values, "__iter__"):
            lists[name] = list(itertools.islice(values, MOST_CONFIGURATIONS + 1))
        if not lists.get(name):
            raise TypeError(f"grid[{name!r}] must be a list of values to try, such as [{values!r}], got {values!r}")
        if math.prod(map(len, lists.values())) > MOST_CONFIGURATIONS:
            raise ValueError(f"grid must have at most {MOST_CONFIGURATIONS:,} combinations, got more by "
                             f"{' × '.join(lists)}; pass fewer values")
    return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]


def _scoring(scoring, data):
    kinds = {those.task.kind for those in data}
    if len(kinds) > 1:
        raise ValueError(f"the losses in grid make {' and '.join(sorted(kinds))} of y, which have no score in common; "
                         "search them one by one")
    has_accuracy = kinds != {"numbers"}
    if scoring == "accuracy" and not has_accuracy:
        raise ValueError("scoring='accuracy' needs classes or labels, and y holds numbers; use scoring='loss'")
    if scoring == "auto":
        scoring = "accuracy" if has_accuracy else "loss"
    losses = {those.task.loss for those in data}
    if scoring == "loss" and len(losses) > 1:
        raise ValueError(f"the losses {', '.join(sorted(losses))} in grid cannot be compared with each other; "
                         "use scoring='accuracy' or one loss")
    return scoring


def _check_with_data(options, data):
    """Errors of options that depend on the data, before anything trains."""
    everything = np.arange(len(data.rows))
    weights_by_class(data.rows, options.class_weight, data.task, everything)
    watch_of(options.early_stopping, options.validation_fraction > 0, has_accuracy=data.task.kind != "numbers")


def _text(value):
    return f"{value:g}" if isinstance(value, float) else str(value)
