"""From a device's name to its kernel package: the only place that asks what hardware is there.

Imports nothing of ours but kernels, and each kernel package only when it is chosen.
"""
import difflib
import functools
import importlib
import logging
import os
import sys
from importlib.util import find_spec

from .kernels.cores import number_in_environment
from .kernels.interrupts import importing

log = logging.getLogger("fastmlp")

VISIBLE = "CUDA_VISIBLE_DEVICES"     # the environment variable by which launchers give processes their GPUs
PRECISIONS = ("float32", "tf32", "bf16")
NAMES = ("auto", "cpu", "cuda", "reference")
MOST_THREADS = 1024          # more than one machine's cores: whoever asks for them mistook the argument
INSTALL = ("It needs an NVIDIA GPU with its driver and pip install 'fastmlp[cuda13]' ('fastmlp[cuda12]' for a driver "
           "of CUDA 12); device='auto' takes the GPU where there is one, else the CPU")


def choose(device="auto", gpu=0):
    """The device a name means, and why: ("cpu", "...").

    Parameters
    ----------
    device : "cpu" (compiled kernels), "cuda" (the first NVIDIA GPU), "cuda:1" (the second, and so on), "reference"
        (plain NumPy) or "auto": what the environment variable FASTMLP_DEVICE names, else a GPU if CuPy sees one and a
        kernel compiles and runs on it, else "cpu".

    gpu : the number of the GPU on which "auto" tries a kernel

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
        found, reason = gpus()
        if found and (reason := broken(gpu)) is None:
            return "cuda", f"CuPy sees {found[0]}"
        return "cpu", f"no GPU: {reason}"
    if wanted == "cuda" or (wanted.startswith("cuda:") and wanted[5:].isdigit()):
        found, reason = gpus()
        if _index(wanted) >= len(found):
            count = f"{len(found)} GPU{'s' * (len(found) > 1)}, numbered from 0" if found else reason
            raise RuntimeError(f"device={wanted!r} ({source}): {count}. {INSTALL}")
        return wanted, source
    if wanted not in NAMES:
        near = difflib.get_close_matches(wanted.lower(), NAMES, 1, 0.5)
        raise ValueError(f"device must be 'auto', 'cpu', 'cuda', 'cuda:N' or 'reference', got {wanted!r} ({source})"
                         + (f"; did you mean {near[0]!r}?" if near else ""))
    return wanted, source


@functools.cache
def gpus():
    """The names of the NVIDIA GPUs that can be used, and why there are none: ((), "CuPy is not installed")."""
    for module, package in (("cupy", "CuPy"), ("numba_cuda", "numba-cuda")):
        if find_spec(module) is None:
            return (), f"{package} is not installed"
    import cupy

    runtime = cupy.cuda.runtime
    try:
        count = runtime.getDeviceCount()
        names = tuple(runtime.getDeviceProperties(i)["name"].decode() for i in range(count))
    except (runtime.CUDARuntimeError, ImportError, OSError) as error:
        return (), f"CuPy sees none ({error})"
    return names, "" if names else "CuPy sees none"


@functools.cache
def broken(gpu):
    """Why no kernel runs on the GPU of that number, or None. The smallest is compiled there, once in a process: 0.1 s
    and what the driver takes to set itself up."""
    try:
        importlib.import_module("fastmlp.kernels.cuda").on(gpu).philox(0, 0, 0, 0, 0, 0)
    except Exception as error:           # NVVM, the linker, the driver: whatever may be missing or of the wrong version
        log.warning("device='auto' takes the CPU, as kernels cannot be compiled for the GPU that CuPy sees; "
                    "device='cuda' shows where it fails: %s: %s", type(error).__name__, error)
        return f"kernels cannot be compiled for the one that CuPy sees ({type(error).__name__}: {error})"
    return None


def of_rank(device, rank, visible):
    """The device of a rank when several processes of this machine train one net: for GPUs, one each.

    rank : its number on this machine; visible : what each of them has as CUDA_VISIBLE_DEVICES, None where not set

    Raises
    ------
    ValueError for a GPU asked for by number, or fewer GPUs than ranks.
    """
    found, _ = gpus()
    apart = None not in visible and len(set(visible)) == len(visible)  # the launcher shows each rank GPUs of its own
    name, _ = choose(device, gpu=0 if apart else min(rank, len(found) - 1))        # no rank touches another's GPU
    if not name.startswith("cuda"):
        return name
    if name != "cuda":
        raise ValueError(f"device={name!r} cannot be combined with comm, as no two ranks can share a GPU: each takes "
                         "the one of its own number on its machine; pass device='cuda'")
    if apart:
        return "cuda:0"
    if len(found) < len(visible):
        raise ValueError(f"device='cuda' with comm needs a GPU for each rank, but this machine has {len(found)} for "
                         f"{len(visible)} ranks; start fewer ranks on it, or pass device='cpu'")
    return f"cuda:{rank}"


def _index(name):
    """The number of a GPU in its device's name."""
    return int(name[5:] or 0)


def gpu_of(device):
    """The number of the GPU that a device's name means, None for a device in main memory."""
    name, _ = choose(device)
    return _index(name) if name.startswith("cuda") else None


def kernels(device="auto"):
    """The kernel package of a device; for one of several GPUs, the package bound to it."""
    name, _ = choose(device)
    return _package(name) if name.startswith("cuda") else _host_package(name)


def _package(name):
    try:
        with importing():
            package = importlib.import_module(f"fastmlp.kernels.{name.partition(':')[0]}")
            if name == "cpu":
                importlib.import_module("fastmlp.kernels.cpu.jit")     # Numba, now: what is wrong with it shows here
        return package.on(_index(name)) if name.startswith("cuda") else package
    except ImportError as error:
        raise RuntimeError(f"device={name!r} cannot be used here: {error}; "
                           "device='reference' needs NumPy only") from error


_host_package = functools.cache(_package)    # also for what predicts when the interpreter imports nothing any more


def check_precision(precision, device, dtype):
    """ValueError unless this device can compute float32 nets at that precision."""
    if precision == "float32":
        return
    name, reason = choose(device)
    if not name.startswith("cuda"):
        raise ValueError(f"precision={precision!r} needs the tensor cores of a GPU, and the device is {name!r} "
                         f"({reason}); pass precision='float32', which is exact to rounding")
    if str(dtype) != "float32":
        raise ValueError(f"precision={precision!r} is of float32 nets; dtype={dtype!r} has precision='float32' only")


def precision_options(precision):
    """What `prepare` of the kernels is told of it: nothing where it is the precision that all kernels have."""
    return {} if precision == "float32" else {"precision": precision}


def threads(n_threads=None):
    """The number of threads asked for by argument or by FASTMLP_NUM_THREADS; 1 where we are one of several workers;
    None leaves it to the kernels: all cores of this process, or as many as OMP_NUM_THREADS allows."""
    name = "n_threads"
    if n_threads is None:
        name, n_threads = "FASTMLP_NUM_THREADS", os.environ.get("FASTMLP_NUM_THREADS", "").strip()
        if not n_threads:
            return 1 if among_workers() else None
        n_threads = int(n_threads) if n_threads.isdecimal() and len(n_threads) < 4000 else n_threads
    if isinstance(n_threads, bool) or not hasattr(n_threads, "__index__"):
        raise TypeError(f"{name} must be a whole number of at least 1, got {n_threads!r}")
    if n_threads < 1:
        raise ValueError(f"{name} must be at least 1, got {n_threads}")
    if n_threads > MOST_THREADS:
        raise ValueError(f"{name} must be at most {MOST_THREADS:,}, got {n_threads}; leave it out for as many as there "
                         "are cores")
    return int(n_threads)


def among_workers():
    """Whether joblib or dask runs us as one of several workers that share the cores, as scikit-learn's n_jobs does.

    joblib's own processes (loky) are told by OMP_NUM_THREADS how many cores each has, which the kernels heed.
    """
    if number_in_environment("OMP_NUM_THREADS") is not None:
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
