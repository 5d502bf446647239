"""info(): what this installation uses, and why."""
import os
import platform
from importlib.metadata import PackageNotFoundError, version

from . import device
from .kernels.cache import cache_folder
from .kernels.cores import available_cores
from .kernels.interrupts import import_module

__all__ = ["info"]

VARIABLES = ("FASTMLP_DEVICE", "FASTMLP_NUM_THREADS", "FASTMLP_CACHE_DIR", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS",
             "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_OPT", "NUMBA_DISABLE_JIT", device.VISIBLE)
PACKAGES = ("fastmlp", "numpy", "numba", "llvmlite", "safetensors", "threadpoolctl")
GPU_PACKAGES = ("numba-cuda", "cupy-cuda13x", "cupy-cuda12x")       # named where they are installed


def info():
    """What this installation uses, and why: read it first when training is slow, and put it into bug reports.

    Never raises: what cannot be found out says so.

    Returns
    -------
    dict of str to str
        device and the reason for it, instruction set and most threads of the compiled kernels, folder of
        the machine code, NumPy's own linear algebra (what device="reference" runs on), processor, versions,
        and the environment variables that are set and change any of this.

    Examples
    --------
    >>> facts = fastmlp.info()
    >>> facts["device"] in ("cpu", "cuda")
    True
    """
    facts = {}
    try:
        facts["device"], facts["reason"] = device.choose()
    except Exception as error:
        facts["device"], facts["reason"] = "none", str(error)
    facts |= _compiled_kernels()
    facts["NumPy's BLAS"] = _found(_blas)
    facts["processor"] = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}"
    facts["Python"] = platform.python_version()
    for package in (*PACKAGES, *GPU_PACKAGES):
        facts[package] = _found(version, package)
        if package in GPU_PACKAGES and facts[package] == "not installed":
            del facts[package]
    return facts | {name: os.environ[name] for name in VARIABLES if name in os.environ}


def _found(find, *arguments):
    """find(*arguments), or why there is no answer."""
    try:
        return find(*arguments)
    except PackageNotFoundError:
        return "not installed"
    except Exception as error:
        return f"cannot be found out ({type(error).__name__}: {error})"


def _compiled_kernels():
    facts = {"threads": f"up to {_found(available_cores)}; small nets run on 1",
             "machine code in": str(_found(cache_folder) or "no folder: none can be made")}
    try:
        _, simd = (import_module(f"fastmlp.kernels.cpu.{name}") for name in ("jit", "vector.simd"))
    except Exception as error:
        return {"instruction set": f"none: the compiled kernels cannot be imported ({error})"} | facts
    return {"instruction set": f"{simd.LEVEL} ({8 * simd.VECTOR_BYTES}-bit vectors)"} | facts


def _blas():
    import numpy  # noqa: F401  (threadpoolctl reports what is loaded)
    from threadpoolctl import threadpool_info

    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return "; ".join(f"{p['internal_api']} {p['version']}, {p['num_threads']} threads" for p in pools) or "not reported"
