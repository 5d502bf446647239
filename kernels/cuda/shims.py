"""Every workaround for the versions underneath, each with its reason; and the one import of Numba's CUDA target.

- NumPy 2.5 dropped `numpy.row_stack`; numba-cuda 0.30 asks for it on import.
- A driver of CUDA 13.0 refuses the PTX of a newer toolkit: whoever has that driver pins the toolkit,
  pip install "cuda-toolkit==13.0.*".
- Numba's own CUDA target is deprecated; numba-cuda takes its place under the same name once it is installed.
  Its successor, numba-cuda-mlir, has no simulator yet: the change will be in this file.
- Numba warns of every launch of few blocks. Ours are few where the work is little; the warning is switched off.
"""
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

config.CUDA_LOW_OCCUPANCY_WARNINGS = 0


def device(function):
    """A function for kernels to call, inlined into them: a call that is not makes Numba ask for a GPU to compile."""
    return cuda.jit(device=True, forceinline=True)(function)


def intrinsic(function):
    """Numba's decorator for instructions of one's own; here so that the simulator need not import it."""
    from numba.cuda.extending import intrinsic

    return intrinsic(function)
