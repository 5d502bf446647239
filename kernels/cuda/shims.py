"""Every workaround for the versions underneath, each with its reason; and the one import of Numba's CUDA target.

- NumPy 2.5 dropped `numpy.row_stack`; numba-cuda 0.30 asks for it on import.
- Kernels are linked by nvJitLink from what NVVM compiled, which it refuses if NVVM is the newer of the two
  (ERROR_OUTDATED_LIBRARY; 13.5 with 13.0, for instance, where another package pins nvJitLink): checked here. The
  driver is given machine code, no PTX, and may be older than either within its CUDA version.
- Numba's own CUDA target is deprecated; numba-cuda takes its place under the same name once it is installed.
  Its successor, numba-cuda-mlir, has no simulator yet: the change will be in this file.
- Numba warns of every launch of few blocks. Ours are few where the work is little; the warning is switched off.
"""
from importlib.metadata import PackageNotFoundError, version

import numpy as np

if not hasattr(np, "row_stack"):
    np.row_stack = np.vstack  # noqa: NPY201

try:
    import numba_cuda  # noqa: F401  (its presence is what counts)
except ImportError as error:
    raise ImportError("the CUDA kernels need numba-cuda: pip install 'fastmlp[cuda13]', or 'fastmlp[cuda12]' for a "
                      "driver of CUDA 12") from error

from numba import cuda
from numba.cuda.core import config

# (what compiles, what links), as packages of CUDA 13 and of CUDA 12
_PAIRS = (("nvidia-nvvm", "nvidia-nvjitlink"), ("nvidia-cuda-nvcc-cu12", "nvidia-nvjitlink-cu12"))


def check_linker(version=version):
    """ImportError if NVVM is newer than nvJitLink. Those of a CUDA toolkit, which are no packages, are of one version.

    version : (a package's name) -> its version
    """
    for compiler, linker in _PAIRS:
        try:
            theirs = version(compiler), version(linker)
        except PackageNotFoundError:
            continue
        newer, older = (tuple(map(int, text.split(".")[:2])) for text in theirs)
        if newer > older:
            raise ImportError(f"{compiler} {theirs[0]} is newer than {linker} {theirs[1]}, which cannot link what it "
                              f"compiles: pip install '{compiler}=={older[0]}.{older[1]}.*', or a later {linker}")


check_linker()
config.CUDA_LOW_OCCUPANCY_WARNINGS = 0


def device(function):
    """A function for kernels to call, inlined into them: a call that is not makes Numba ask for a GPU to compile."""
    return cuda.jit(device=True, forceinline=True)(function)


def intrinsic(function):
    """Numba's decorator for instructions of one's own; here so that the simulator need not import it."""
    from numba.cuda.extending import intrinsic

    return intrinsic(function)
