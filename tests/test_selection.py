"""fastmlp.cross_validate: honest folds, the same bits by any number of workers, one copy of the data, early ends."""
import pickle
import signal
import threading
import time
import tracemalloc

import numpy as np
import pandas
import pytest
from toy import DEVICES, QUICK, blobs, stops_of, waves

import fastmlp
from fastmlp.input.rows import folds, read_data
from fastmlp.many import selection
from fastmlp.many.selection import fit_and_score
from fastmlp.training.entry import OPTION_DEFAULTS
from fastmlp.training.options import check_options
from fastmlp.training.run import fit
from fastmlp.training.streams import member_seeds

GRID = {"hidden": [4, (8, 4)], "learning_rate": [0.003, 0.03]}


def press_ctrl_c():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


# ---------------------------------------------------------------------------------------------- folds
@pytest.mark.parametrize(("n", "k"), [(10, 2), (11, 3), (97, 5), (5, 5)])
def test_folds_are_a_partition_of_equal_parts(n, k):
    fold = folds(n, k, None, np.random.default_rng(0))
    assert fold.shape == (n,)
    sizes = np.bincount(fold, minlength=k)
    assert sizes.sum() == n
    assert sizes.max() - sizes.min() <= 1


def test_folds_have_every_class_in_proportion_and_are_shuffled():
    answers = np.repeat([0, 1, 2], [50, 23, 7])
    fold = folds(80, 5, answers, np.random.default_rng(0))
    for label in range(3):
        counts = np.bincount(fold[answers == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    assert np.ptp(np.bincount(fold)) <= 1
    other = folds(80, 5, answers, np.random.default_rng(1))
    assert (fold != other).any()
    assert len(set(fold[:5].tolist())) < 5 or len(set(fold[5:10].tolist())) < 5, "dealt in the order of the rows"


def test_a_class_with_fewer_rows_than_folds_warns():
    with pytest.warns(UserWarning, match="rarest class of y has 2 rows"):
        folds(12, 3, np.array([0] * 10 + [1] * 2), np.random.default_rng(0))


def test_folds_say_when_there_are_too_many():
    X, y = blobs(n=6, classes=2)
    with pytest.raises(ValueError, match="k=7 folds need at least as many rows, got 6"):
        fastmlp.cross_validate(X, y, 7, **QUICK)


# ---------------------------------------------------------------------------------------------- scores
@DEVICES
def test_number_of_workers_changes_no_bit(device):
    X, y = blobs()
    options = {**QUICK, "device": device, "dropout": 0.2}
    del options["hidden"]
    results = [fastmlp.cross_validate(X, y, 3, GRID, n_threads=n, **options) for n in (1, 2, 5)]
    for other in results[1:]:
        np.testing.assert_array_equal(other.folds, results[0].folds)
        for name, values in results[0].scores.items():
            if name != "seconds":
                np.testing.assert_array_equal(other.scores[name], values)


@DEVICES
@pytest.mark.parametrize("data", [blobs(), waves()], ids=["classes", "numbers"])
def test_scores_are_those_of_training_on_the_other_folds(data, device):
    X, y = data
    options = {**QUICK, "device": device}
    result = fastmlp.cross_validate(X, y, 3, **options)
    seeds = member_seeds(0, 3)
    for fold in range(3):
        outside = np.flatnonzero(result.folds != fold)
        model = fit(read_data(X, y, None, "auto", np.dtype("float32")), outside,
                    check_options(**{**OPTION_DEFAULTS, **options, "seed": seeds[fold], "n_threads": 1}))
        for name, number in model.evaluate(X[result.folds == fold], y[result.folds == fold]).items():
            assert result.scores[name][0, fold] == number
        assert result.scores["train_loss"][0, fold] == model.history["loss"][-1]
    np.testing.assert_allclose(result.mean["loss"], result.scores["loss"].mean(axis=1))
    np.testing.assert_allclose(result.std["loss"], result.scores["loss"].std(axis=1))


def test_training_on_rows_by_index_is_training_on_those_rows():
    X, y = blobs()
    rows = np.arange(0, 240, 2)
    options = check_options(**{**OPTION_DEFAULTS, **QUICK})
    ours = fit(read_data(X, y, None, "auto", np.dtype("float32")), rows, options)
    np.testing.assert_array_equal(ours.parameters, fastmlp.train(X[rows], y[rows], **QUICK).parameters)


def test_the_best_is_first_and_the_refitted_model_is_its_training_on_all_rows():
    X, y = blobs()
    result = fastmlp.cross_validate(X, y, 3, {"learning_rate": [1e-6, 0.03]}, refit=True, **{**QUICK, "epochs": 20})
    assert result.scoring == "accuracy"
    assert result.best == {"learning_rate": 0.03}
    assert result.rank.tolist() == [2, 1]
    assert result.order.tolist() == [1, 0]
    alone = fastmlp.train(X, y, **{**QUICK, "epochs": 20}, **result.best)
    np.testing.assert_array_equal(result.model.parameters, alone.parameters)


def test_equal_accuracies_are_ranked_by_loss_and_numbers_by_loss():
    X, y = blobs()
    result = fastmlp.cross_validate(X, y, 3, {"epochs": [30, 60, 45]}, hidden=8, batch_size=32, learning_rate=0.05,
                                    seed=0, device="reference")
    assert (result.mean["accuracy"] == 1).all()
    assert result.best == {"epochs": 60}
    X, y = waves()
    result = fastmlp.cross_validate(X, y, 3, {"learning_rate": [1e-6, 0.03]}, **QUICK)
    assert (result.scoring, result.best) == ("loss", {"learning_rate": 0.03})
    assert "accuracy" not in result.scores


def test_a_diverged_training_ranks_last():
    X, y = waves()
    options = {**QUICK, "device": "cpu", "optimizer": "sgd"}
    result = fastmlp.cross_validate(X * 1e4, y, 2, {"learning_rate": [1e9, 1e-12]}, **options)
    assert np.isnan(result.scores["loss"][0]).all()
    assert result.best == {"learning_rate": 1e-12}
    result = fastmlp.cross_validate(X * 1e4, y, 2, {"learning_rate": [1e9]}, **options)
    assert result.best is None
    with pytest.raises(fastmlp.DivergedError, match="every configuration diverged"):
        fastmlp.cross_validate(X * 1e4, y, 2, {"learning_rate": [1e9]}, refit=True, **options)


def test_weights_and_early_stopping_reach_the_trainings():
    X, y = blobs()
    weights = np.random.default_rng(0).uniform(0.5, 2, len(X))
    plain = fastmlp.cross_validate(X, y, 2, **QUICK)
    weighted = fastmlp.cross_validate(X, y, 2, sample_weight=weights, **QUICK)
    assert (plain.scores["loss"] != weighted.scores["loss"]).all()
    stopped = fastmlp.cross_validate(X, y, 2, early_stopping=1, validation_fraction=0.3,
                                     **{**QUICK, "epochs": 80, "learning_rate": 0.5})
    assert (stopped.scores["epochs"] < 80).all()


# ---------------------------------------------------------------------------------------------- the result
def test_table_and_columns():
    X, y = blobs()
    result = fastmlp.cross_validate(X, y, 2, {"hidden": [4, (8, 4)]}, epochs=2, seed=0, device="reference")
    lines = result.summary().splitlines()
    assert lines[0] == "2-fold cross-validation, ranked by accuracy"
    assert lines[2].split()[:3] == ["rank", "hidden", "accuracy"]
    assert lines[4].startswith("1 ")
    frame = pandas.DataFrame(result.to_dict())
    assert frame.shape[0] == 2
    assert frame["hidden"].tolist() == [4, (8, 4)]
    np.testing.assert_array_equal(frame[["loss_0", "loss_1"]].to_numpy(), result.scores["loss"])
    assert repr(result).startswith("CrossValidation(2 configurations, 2 folds, best {'hidden': ")


def test_a_progress_bar_counts_the_nets(capsys):
    X, y = blobs()
    fastmlp.cross_validate(X, y, 3, verbose=1, **QUICK)
    assert "3/3" in capsys.readouterr().err
    fastmlp.cross_validate(X, y, 3, **QUICK)
    assert capsys.readouterr() == ("", "")


# ---------------------------------------------------------------------------------------------- Ctrl-C
@DEVICES
def test_ctrl_c_returns_what_has_finished(device, monkeypatch):
    X, y = blobs()
    seen, stops = [], stops_of(monkeypatch, selection, "fit_and_score")

    def callback(model, numbers):
        seen.append(numbers["epoch"])
        if len(seen) == 50:  # in the fifth of eight trainings of 11 epochs
            press_ctrl_c()
            while not stops[-1]():
                time.sleep(0.001)

    result = fastmlp.cross_validate(X, y, 2, {"learning_rate": [0.1, 0.01, 0.001, 1e-4]}, n_threads=1, refit=True,
                                    callbacks=callback, **{**QUICK, "epochs": 11, "device": device})
    assert result.interrupted
    assert np.isfinite(result.scores["loss"][:2]).all()
    assert np.isnan(result.scores["loss"][3]).all()
    assert result.best in result.configurations[:2]
    assert result.model is None
    assert "(interrupted)" in result.summary()
    assert len(seen) == 50


# ---------------------------------------------------------------------------------------------- one copy of the data
def test_a_task_trains_on_the_callers_array_itself():
    X, y = blobs()
    data = read_data(X, y, None, "auto", np.dtype("float32"))
    assert np.shares_memory(data.rows.x, X)


def test_memory_does_not_grow_with_the_tasks():
    """The rows once more for the folds; a copy per task would be another 12 times 4 MB."""
    X = np.random.default_rng(0).normal(size=(20000, 50)).astype(np.float32)
    y = X[:, 0] > 0
    options = {"hidden": (), "epochs": 1, "seed": 0, "device": "cpu", "n_threads": 4}
    fastmlp.cross_validate(X, y, 3, {"l2": [0.0]}, **options)  # imports and compiles
    tracemalloc.start()
    fastmlp.cross_validate(X, y, 3, {"l2": [0.0, 0.1, 0.2, 0.3]}, **options)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"peak {peak:,} bytes")
    assert peak < 2 * X.nbytes


def test_a_task_is_a_plain_function_that_can_be_sent_elsewhere():
    X, y = blobs()
    data = read_data(X, y, None, "auto", np.dtype("float32"))
    options = check_options(**{**OPTION_DEFAULTS, **QUICK})
    task = fit_and_score, (data, np.arange(200), data.rows.take(slice(200, 240)), options)
    function, arguments = pickle.loads(pickle.dumps(task))
    here, there = fit_and_score(*task[1]), function(*arguments)
    assert here["loss"] == there["loss"]


# ---------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"grid": {"hiden": [4]}}, ValueError, "an option in grid must be one of .*'hidden'.*got 'hiden'; did you mean"),
    ({"grid": {"seed": [1]}}, ValueError, "an option in grid must be one of"),
    ({"grid": {"hidden": 4}}, TypeError, r"grid\['hidden'\] must be a list of values"),
    ({"grid": {"activation": "relu"}}, TypeError, r"grid\['activation'\] must be a list of values"),
    ({"grid": {"hidden": []}}, TypeError, r"grid\['hidden'\] must be a list of values"),
    ({"grid": [4]}, TypeError, "grid must be a dict"),
    ({"grid": {"epochs": [1, 0]}}, ValueError, "epochs must be at least 1, got 0"),
    ({"grid": {"l2": [0.1]}, "l2": 0.2}, ValueError, "l2 is given both in grid and as l2=0.2"),
    ({"lerning_rate": 0.1}, ValueError, "an option of cross_validate must be one of .*did you mean 'learning_rate'"),
    ({"checkpoint": "run"}, ValueError, "an option of cross_validate must be one of"),
    ({"k": 1}, ValueError, "k must be at least 2, got 1"),
    ({"scoring": "f1"}, ValueError, "scoring must be one of 'auto', 'accuracy', 'loss'"),
    ({"grid": {"loss": ["auto", "squared_error"]}}, ValueError, "the losses in grid make classes and numbers of y"),
    ({"early_stopping": 3}, ValueError, "validation_fraction"),
    ({"class_weight": {7: 1}}, ValueError, "labels the net was not trained on: 7"),
    ({"verbose": 3}, ValueError, "verbose must be 0"),
    ({"n_threads": 0}, ValueError, "n_threads must be at least 1"),
])
def test_errors_come_before_anything_trains(arguments, error, message):
    X, y = blobs()
    with pytest.raises(error, match=message):
        fastmlp.cross_validate(X, y, **{"k": 2, **arguments}, device="reference",
                               callbacks=lambda *_: pytest.fail("something was trained"))


def test_errors_of_y():
    X, y = waves()
    with pytest.raises(ValueError, match="scoring='accuracy' needs classes"):
        fastmlp.cross_validate(X, y, 2, scoring="accuracy", **QUICK)
    with pytest.raises(ValueError, match="the losses absolute_error, squared_error in grid cannot be compared"):
        fastmlp.cross_validate(X, y, 2, {"loss": ["absolute_error", "auto"]}, **QUICK)
    with pytest.raises(ValueError, match="X must be finite"):
        fastmlp.cross_validate(np.full_like(X, np.nan), y, 2, **QUICK)
    with pytest.raises(ValueError, match="a fold in which every row has weight 0"):
        fastmlp.cross_validate(X, y, 100, sample_weight=np.arange(200) < 10, **QUICK)
