"""From a device's name to its kernel package: the only place that asks what hardware is there.

Imports nothing of ours but kernels, and each kernel package only when it is chosen.
"""
import difflib
import importlib
import os
import sys

NAMES = ("auto", "cpu", "cuda", "reference")


def choose(device="auto"):
    """The device a name means, and why: ("cpu", "...").

    Parameters
    ----------
    device : "cpu" (compiled kernels), "reference" (plain NumPy) or "auto": what the environment variable
        FASTMLP_DEVICE names, else the fastest there is.

    Raises
    ------
    ValueError for an unknown name, RuntimeError for a device asked for by name that is absent.

    Examples
    --------
    >>> from fastmlp.device import choose
    >>> choose("reference")
    ('reference', 'asked for by name')
    """
    source, wanted = "asked for by name", device
    if device == "auto":
        wanted = os.environ.get("FASTMLP_DEVICE") or "auto"
        source = "named by FASTMLP_DEVICE"
    if not isinstance(wanted, str):
        raise TypeError(f"device must be a name such as 'auto' or 'cpu', got {wanted!r}")
    if wanted == "auto":
        return "cpu", "the compiled kernels are the fastest in this version, which has none for GPUs"
    if wanted == "cuda" or (wanted.startswith("cuda:") and wanted[5:].isdigit()):
        raise RuntimeError(f"device={wanted!r}: this version of fastmlp has no CUDA kernels; use 'cpu' or 'auto'")
    if wanted not in NAMES:
        near = difflib.get_close_matches(wanted.lower(), NAMES, 1, 0.5)
        raise ValueError(f"device must be 'auto', 'cpu', 'cuda', 'cuda:N' or 'reference', got {wanted!r} ({source})"
                         + (f"; did you mean {near[0]!r}?" if near else ""))
    return wanted, source


def kernels(device="auto"):
    """The kernel package of a device."""
    name, _ = choose(device)
    try:
        return importlib.import_module(f"fastmlp.kernels.{name}")
    except ImportError as error:
        raise RuntimeError(f"device={name!r} cannot be used here: {error}; "
                           "device='reference' needs NumPy only") from error


def threads(n_threads=None):
    """The number of threads asked for by argument or by FASTMLP_NUM_THREADS; 1 where we are one of several workers;
    None leaves it to the kernels: all cores of this process, or as many as OMP_NUM_THREADS allows."""
    name = "n_threads"
    if n_threads is None:
        name, n_threads = "FASTMLP_NUM_THREADS", os.environ.get("FASTMLP_NUM_THREADS") or None
        if n_threads is None:
            return 1 if among_workers() else None
        n_threads = int(n_threads) if n_threads.isdecimal() else n_threads
    if isinstance(n_threads, bool) or not hasattr(n_threads, "__index__"):
        raise TypeError(f"{name} must be a whole number of at least 1, got {n_threads!r}")
    if n_threads < 1:
        raise ValueError(f"{name} must be at least 1, got {n_threads}")
    return int(n_threads)


def among_workers():
    """Whether joblib or dask runs us as one of several workers that share the cores, as scikit-learn's n_jobs does.

    joblib's own processes (loky) are told by OMP_NUM_THREADS how many cores each has, which the kernels heed.
    """
    if os.environ.get("OMP_NUM_THREADS"):
        return False
    joblib, distributed = sys.modules.get("joblib.parallel"), sys.modules.get("distributed")
    if joblib is not None and (joblib.get_active_backend()[0].nesting_level or 0) > 0:
        return True
    if distributed is None:
        return False
    try:
        distributed.get_worker()
    except ValueError:  # we are no task of a dask worker
        return False
    return True
