"""Independent trainings in other processes or on other machines, by engines that exist: joblib and Dask."""
import logging

from ..training.progress import count_bar

log = logging.getLogger("fastmlp")


def check_backend(backend):
    """`backend` as None, the name of a joblib backend, or a `distributed.Client`."""
    if backend is None or isinstance(backend, str) or all(hasattr(backend, name) for name in ("scatter", "submit")):
        return backend
    raise TypeError("backend must be None for threads of this process, the name of a joblib backend such as 'loky', or "
                    f"a distributed.Client, got {backend!r}")


def run_on(backend, function, tasks, workers, verbose, description):
    """function(*task) for every task, by a checked `backend` that is not None; see `parallel.run_tasks`.

    Returns
    -------
    (results, interrupted) : a result per task, in order, None for those that Ctrl-C left unfinished
    """
    results, interrupted = [None] * len(tasks), False
    run = _by_joblib if isinstance(backend, str) else _by_dask
    with count_bar(verbose, len(tasks), description) as bar:
        try:
            for number, result in run(backend, function, tasks, workers):
                results[number] = result
                if bar is not None:
                    bar.update()
        except KeyboardInterrupt:
            interrupted = True
            log.warning("interrupted after %d of %d trainings", sum(each is not None for each in results), len(results))
    return results, interrupted


def _by_joblib(backend, function, tasks, workers):
    """Arrays of more than a megabyte go to a file once, which all worker processes map into memory."""
    try:
        import joblib
    except ImportError as error:
        raise ImportError(f"backend={backend!r} needs joblib: pip install 'fastmlp[sklearn]'") from error
    if backend not in joblib.parallel.BACKENDS:
        raise ValueError(f"backend={backend!r} is not a joblib backend: it has "
                         f"{', '.join(sorted(joblib.parallel.BACKENDS))}")
    parallel = joblib.Parallel(workers, backend=backend, return_as="generator")
    yield from enumerate(parallel(joblib.delayed(function)(*task) for task in tasks))


def _by_dask(client, function, tasks, workers):
    """What several tasks share goes to every worker once. A worker that is lost costs its tasks a new start on
    another one (Dask's `allowed-failures` times); what has been sent lives on the workers that are left."""
    from distributed import as_completed
    copies = {}
    for argument in (argument for task in tasks for argument in task[:-1]):
        if id(argument) not in copies:
            copies[id(argument)] = client.scatter(argument, broadcast=True, hash=False)
    futures = {client.submit(function, *(copies[id(argument)] for argument in task[:-1]), task[-1], pure=False): number
               for number, task in enumerate(tasks)}
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        client.cancel(list(futures))
