"""cuBLAS's matrix product, called so that a CUDA graph can hold it. Which products it gets: `large`.

CuPy finds and loads the same library, but its own calls set the stream anew each time, which takes a workspace that
was given to cuBLAS away again, and it has no call to give one. So this is cublasGemmEx through ctypes, on a handle
and a workspace for each stream, both made before anything is captured: cuBLAS then allocates nothing, and its product
is one node, or a few, of the graph, with the addresses and factors that it was captured with.

The same bits in every run: cuBLAS promises them for one version of it, one architecture and one number of
multiprocessors, as long as a stream has its own handle or workspace (both, here) and atomics are not allowed (its
default). Another version of cuBLAS may round otherwise.

float32 is CUBLAS_COMPUTE_32F on a handle in its default mode: no TF32, no bfloat16. "tf32" and "bf16" are the
CUBLAS_COMPUTE_32F_FAST_... of that name: operands stay float32 in memory, sums are in float32, and cuBLAS may take the
more precise TF32 where it has nothing for bfloat16. Environment variables that change what cuBLAS does by default
(NVIDIA_TF32_OVERRIDE, CUBLAS_EMULATE_SINGLE_PRECISION) are left to whoever sets them.

Source: cuBLAS manual, "cublasGemmEx", "Results reproducibility", "CUDA Graphs"; values of the enumerations: its
cublas_api.h and library_types.h. Not run yet: no GPU was at hand.
"""
import ctypes
import functools

import numpy as np

from .shims import cuda

WORKSPACE = 32 << 20             # bytes: what the manual advises for compute capability 9.0, the most of any
TRANSPOSED = {False: 0, True: 1}                             # cublasOperation_t
ELEMENT = {np.float32: 0, np.float64: 1}                     # cudaDataType: CUDA_R_32F, CUDA_R_64F
# cublasComputeType_t: 32F, 32F_FAST_TF32, 32F_FAST_16BF; double has 64F alone.
COMPUTE, COMPUTE_DOUBLE = {"float32": 68, "tf32": 77, "bf16": 75}, 70
DEFAULT_ALGORITHM = -1                                       # cublasGemmAlgo_t
NUMBER = {np.float32: ctypes.c_float, np.float64: ctypes.c_double}


@functools.cache
def library():
    """The library that CuPy would load."""
    from cuda import pathfinder

    try:
        return ctypes.CDLL(pathfinder.load_nvidia_dynamic_lib("cublas").abs_path)
    except pathfinder.DynamicLibNotFoundError as error:
        raise ImportError("products of this size are cuBLAS's, which was not found: install the extra of fastmlp for "
                          "this machine's driver anew, pip install 'fastmlp[cuda13]' or 'fastmlp[cuda12]'") from error


def checked(status, what):
    if status != 0:
        raise RuntimeError(f"{what} of cuBLAS failed with status {status}")


def address(array, at=0):
    """Where element `at` of a flat array lies on the GPU."""
    return ctypes.c_void_p(array.__cuda_array_interface__["data"][0] + at * array.dtype.itemsize)


class Blas:
    """cuBLAS on one stream of the current GPU."""

    def __init__(self, stream):
        self.library, self.handle = library(), ctypes.c_void_p()
        self.workspace = cuda.device_array(WORKSPACE, np.uint8)
        checked(self.library.cublasCreate_v2(ctypes.byref(self.handle)), "cublasCreate")
        checked(self.library.cublasSetStream_v2(self.handle, ctypes.c_void_p(stream)), "cublasSetStream")
        # After the stream, with which comes a workspace of cuBLAS's own.
        checked(self.library.cublasSetWorkspace_v2(self.handle, address(self.workspace), ctypes.c_size_t(WORKSPACE)),
                "cublasSetWorkspace")

    def multiply(self, product):
        """Enqueues a `large.Product`."""
        a, a_at, a_transposed, b, b_at, b_transposed, c, c_at, rows, depth, columns, precision = product
        dtype = np.dtype(str(c.dtype)).type
        element, one, zero = ELEMENT[dtype], NUMBER[dtype](1), NUMBER[dtype](0)
        compute = COMPUTE_DOUBLE if dtype is np.float64 else COMPUTE[precision]
        # cuBLAS takes columns for rows: it is told Cᵀ = Bᵀ Aᵀ.
        checked(self.library.cublasGemmEx(
            self.handle, TRANSPOSED[b_transposed], TRANSPOSED[a_transposed], columns, rows, depth, ctypes.byref(one),
            address(b, b_at), element, depth if b_transposed else columns,
            address(a, a_at), element, rows if a_transposed else depth, ctypes.byref(zero),
            address(c, c_at), element, columns, compute, DEFAULT_ALGORITHM), "cublasGemmEx")


@functools.cache
def on_stream(gpu, stream):
    """For the GPU of that number, which is current, and the stream at that address; kept, as a graph may use it."""
    return Blas(stream)


def multiply(product, stream):
    """Enqueues a `large.Product` on the stream at that address, of the current GPU."""
    on_stream(cuda.get_current_device().id, stream).multiply(product)
