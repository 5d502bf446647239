"""info(): what this installation uses, and why."""
import os
import platform
from importlib.metadata import PackageNotFoundError, version

from . import device

__all__ = ["info"]

VARIABLES = ("FASTMLP_DEVICE", "FASTMLP_NUM_THREADS", "FASTMLP_CACHE_DIR", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS",
             "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", device.VISIBLE)
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
    except (ValueError, RuntimeError) as error:
        facts["device"], facts["reason"] = "none", str(error)
    facts |= _compiled_kernels()
    facts["NumPy's BLAS"] = _blas()
    facts["processor"] = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}"
    facts["Python"] = platform.python_version()
    for package in (*PACKAGES, *GPU_PACKAGES):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            if package in PACKAGES:
                facts[package] = "not installed"
    return facts | {name: os.environ[name] for name in VARIABLES if name in os.environ}


def _compiled_kernels():
    try:
        from .kernels.cpu import jit, threads
        from .kernels.cpu.vector import simd
    except ImportError as error:
        return {"instruction set": f"none: the compiled kernels cannot be imported ({error})"}
    return {
        "instruction set": f"{simd.LEVEL} ({8 * simd.VECTOR_BYTES}-bit vectors)",
        "threads": f"up to {threads.available_cores()}; small nets run on 1",
        "machine code in": str(jit.cache_folder()),
    }


def _blas():
    import numpy  # noqa: F401  (threadpoolctl reports what is loaded)
    from threadpoolctl import threadpool_info

    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return "; ".join(f"{p['internal_api']} {p['version']}, {p['num_threads']} threads" for p in pools) or "not reported"
