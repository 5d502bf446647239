"""Beside other workers of joblib or dask a training takes one thread, or what its process was allowed."""
import time

import numpy as np
import pytest
from toy import QUICK, blobs

import fastmlp
from fastmlp import device
from fastmlp.many.parallel import run_tasks, worker_count

joblib = pytest.importorskip("joblib")


def threads_and_parameters(X, y):
    """What a worker sees: the threads it would train by, and what training gives."""
    from fastmlp.kernels.cpu.threads import available_cores
    found = device.threads(None)
    return found or available_cores(), fastmlp.train(X, y, **{**QUICK, "device": "cpu"}).parameters


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_a_worker_of_joblib_takes_its_share_of_the_cores(backend, monkeypatch):
    for name in ("FASTMLP_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    X, y = blobs()
    options = {"inner_max_num_threads": 1} if backend == "loky" else {}
    with joblib.parallel_config(backend, n_jobs=2, **options):
        results = joblib.Parallel()(joblib.delayed(threads_and_parameters)(X, y) for _ in range(2))
    assert [threads for threads, _ in results] == [1, 1]
    alone = fastmlp.train(X, y, **{**QUICK, "device": "cpu"})
    for _, parameters in results:
        np.testing.assert_array_equal(parameters, alone.parameters)


def test_what_is_asked_for_wins(monkeypatch):
    monkeypatch.setenv("FASTMLP_NUM_THREADS", "3")

    def ask():
        return device.threads(None), device.threads(2)

    assert joblib.Parallel(n_jobs=2, backend="threading")(joblib.delayed(ask)() for _ in range(2)) == [(3, 2)] * 2


def test_a_single_job_is_not_one_of_several(monkeypatch):
    monkeypatch.delenv("FASTMLP_NUM_THREADS", raising=False)
    assert device.threads(None) is None
    assert joblib.Parallel(n_jobs=1)(joblib.delayed(device.threads)() for _ in range(2)) == [None, None]


@pytest.mark.parametrize("processes", [False, True])
def test_a_task_of_dask_takes_one_thread(processes, monkeypatch):
    distributed = pytest.importorskip("distributed")
    for name in ("FASTMLP_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    X, y = blobs()
    with distributed.Client(processes=processes, n_workers=1, threads_per_worker=2, dashboard_address=None) as client:
        results = client.gather([client.submit(threads_and_parameters, X, y, pure=False) for _ in range(2)])
    assert [threads for threads, _ in results] == [1, 1]
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_workers_of_cross_validate_are_counted_the_same_way(monkeypatch):
    monkeypatch.delenv("FASTMLP_NUM_THREADS", raising=False)
    assert worker_count(3, "cpu") == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert worker_count(None, "cpu") == 1
    monkeypatch.setenv("FASTMLP_NUM_THREADS", "5")
    assert worker_count(None, "reference") == 5


def test_an_error_in_a_task_ends_the_others():
    started = []

    def task(number, stop):
        started.append(number)
        time.sleep(0.005)
        if number == 1:
            raise ValueError("of task 1")
        return number

    with pytest.raises(ValueError, match="of task 1"):
        run_tasks(task, [(number,) for number in range(1000)], 1, 0, "")
    assert len(started) < 1000


def fitted_by(backend, n_jobs):
    """Scores of scikit-learn's own grid search over our estimator."""
    from sklearn.model_selection import GridSearchCV
    X, y = blobs()
    search = GridSearchCV(fastmlp.MLPClassifier((8,), max_iter=5, n_iter_no_change=9, random_state=0),
                          {"alpha": [1e-4, 1.0], "learning_rate_init": [1e-3, 1e-2]}, cv=2, error_score="raise")
    with joblib.parallel_config(backend, n_jobs=n_jobs):
        search.fit(X, y)
    return search.cv_results_["mean_test_score"]


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing", "dask"])
def test_scikit_learns_grid_search_takes_our_estimators_to_every_backend(backend):
    expected = fitted_by("sequential", 1)
    assert len(set(expected)) > 1
    if backend != "dask":
        found = fitted_by(backend, 2)
    else:
        distributed = pytest.importorskip("distributed")
        with distributed.Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None):
            found = fitted_by(backend, 2)
    np.testing.assert_array_equal(found, expected)
