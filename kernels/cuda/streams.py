"""Where an operation's kernels run: the caller's stream, and its arrays as the kernels take them.

A stream is CuPy's, PyTorch's, Numba's, anything with the CUDA stream protocol, or its address as an int. With one given
nothing waits: the operands must be ready by the time that stream comes to them. Only numbers that are returned and
NumPy arrays make the call wait, for that stream alone. None is Numba's default stream, which waits for the stream that
an array says it belongs to.
"""
import functools
import threading

import numpy as np

from . import cublas
from .shims import cuda


def address_of(stream):
    """The address of a CUDA stream, however it is wrapped.

    Raises TypeError for anything else, ValueError for an address below 0.
    """
    if hasattr(stream, "__cuda_stream__"):                     # (version of the protocol, address)
        address = stream.__cuda_stream__()[1]
    elif hasattr(stream, "synchronize") and hasattr(stream, "ptr"):            # CuPy
        address = stream.ptr
    elif hasattr(stream, "cuda_stream"):                       # PyTorch
        address = stream.cuda_stream
    else:
        address = stream
    if isinstance(address, bool) or not hasattr(address, "__index__"):
        raise TypeError("stream must be None, a stream of CuPy's, PyTorch's or Numba's, or the address of one as an "
                        f"int, got {stream!r}")
    if address < 0:
        raise ValueError(f"stream must be an address of at least 0, got {stream!r}")
    return int(address)


class Queue:
    """The stream that one call of an operation runs on."""

    def __init__(self, stream=None):
        self.address = None if stream is None else address_of(stream)
        self.stream = 0 if stream is None else cuda.external_stream(self.address)

    def run(self, kernel, blocks, threads, *arguments):
        """Launch a kernel. Numba copies NumPy arrays among the arguments there and back."""
        kernel[blocks, threads, self.stream](*arguments)
        if any(isinstance(argument, np.ndarray) and not is_on_gpu(argument) for argument in arguments):
            self.wait()                                        # page-locked arrays are copied behind Python's back

    def multiply(self, product):
        """Enqueue a `large.Product`; its arrays lie on the GPU."""
        cublas.multiply(product, self.address or 0)

    def wait(self):
        (self.stream or cuda.default_stream()).synchronize()

    # Operands, flat.

    def read(self, array):
        """An input. Numba would copy a NumPy array back after the kernel, which must not happen to one that is
        read-only, nor to one that an output shares its memory with."""
        array = self.written(array)
        return array if is_on_gpu(array) else self.upload(array)

    def written(self, array):
        """An output; one element in place of none, which the driver cannot allocate."""
        if 0 in tuple(array.shape):
            return self.empty(1, type_of(array))
        if is_on_gpu(array):
            array = cuda.as_cuda_array(array, sync=self.address is None)
        return array.reshape(-1)

    # New memory.

    def upload(self, array):
        there = cuda.to_device(array, stream=self.stream)
        self.wait()                                            # the source may be changed at once
        return there

    def empty(self, shape, dtype):
        return cuda.device_array(shape, dtype, stream=self.stream)

    def download(self, array):
        """A NumPy copy, when all work before it is done."""
        there = array.copy_to_host(stream=self.stream)
        self.wait()
        return there

    def new(self, shape, like):
        """An array for an output that was left out, of the kind and dtype of `like`.

        The pools of CuPy and PyTorch belong to streams: an array from another's might still be in use there.
        """
        if not is_on_gpu(like):
            return np.empty(shape, like.dtype)
        if hasattr(like, "copy_to_host"):                      # Numba
            return self.empty(shape, like.dtype)
        if hasattr(like, "new_empty"):                         # PyTorch
            if self.address is None:
                return like.new_empty(shape)
            import torch

            with torch.cuda.stream(torch.cuda.ExternalStream(self.address, device=like.device)):
                return like.new_empty(shape)
        import cupy

        if self.address is None:
            return cupy.empty(shape, type_of(like))
        with cupy_stream(cuda.get_current_device().id, self.address):
            return cupy.empty(shape, type_of(like))


def is_on_gpu(array):
    return hasattr(array, "__cuda_array_interface__")


def type_of(array):
    """The NumPy type of an array's elements."""
    return np.dtype(str(array.dtype).removeprefix("torch.")).type


class _Address:
    """A stream's address under the CUDA stream protocol."""

    def __init__(self, address):
        self.address = address

    def __cuda_stream__(self):
        return 0, self.address


@functools.cache
def cupy_stream(gpu, address):
    """The stream at that address, of the current GPU, as CuPy's. Kept for good: what `Stream.from_external` of CuPy 14
    makes destroys the stream with itself, although that is the caller's."""
    from cupy import cuda as cupy_cuda

    if hasattr(cupy_cuda.Stream, "from_external"):
        return cupy_cuda.Stream.from_external(_Address(address))
    return cupy_cuda.ExternalStream(address)                   # CuPy 13


_CONSTANTS, _ONE_AT_A_TIME = {}, threading.Lock()


def constant(*values, dtype=np.int64):
    """These numbers in the current GPU's memory, for good: kernels read them and nobody writes. A graph that somebody
    captured may read them as long as the process lives. That is half a kilobyte for every number of rows ever met."""
    key = cuda.get_current_device().id, dtype, values
    with _ONE_AT_A_TIME:
        if key not in _CONSTANTS:
            _CONSTANTS[key] = Queue().upload(np.array(values, dtype))
        return _CONSTANTS[key]
