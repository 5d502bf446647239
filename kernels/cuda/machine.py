"""One GPU as training sees it: memory, a stream, graphs. All of CuPy that the kernels' host side uses is here.

`training` takes a machine as an argument, and so the tests can put NumPy arrays and simulated kernels in its place.
"""
import contextlib
import threading
from collections import deque
from typing import NamedTuple

import numpy as np

from . import cublas
from .large import Product
from .shims import cuda

# Replays on their way at most: enough that the GPU never waits, few enough that Ctrl-C takes effect soon.
IN_FLIGHT = 4


class Launch(NamedTuple):
    """One kernel call, to be run now or captured in a graph."""

    kernel: object
    blocks: int
    threads: int
    arguments: tuple


class Gpu:
    """The GPU of that number."""

    def __init__(self, index):
        import cupy

        from .disk_cache import keep

        self.cupy, self.keep, self.index = cupy, keep, index
        with cupy.cuda.Device(self.index):
            self.stream = cupy.cuda.Stream(non_blocking=True)
        self.numba_stream = cuda.external_stream(self.stream.ptr)
        self.waiting = deque()
        self.lock = threading.RLock()                      # one stream: threads of Python take turns

    @contextlib.contextmanager
    def chosen(self):
        """Everything inside happens on this GPU."""
        with self.cupy.cuda.Device(self.index), cuda.gpus[self.index]:
            yield

    @contextlib.contextmanager
    def current(self):
        """Everything inside happens on this GPU and its stream, after all that was begun before on any stream."""
        with self.lock, self.chosen(), self.stream:
            self.cupy.cuda.runtime.deviceSynchronize()
            yield
            self.stream.synchronize()

    def capability(self):
        """The compute capability: (9, 0)."""
        digits = self.cupy.cuda.Device(self.index).compute_capability
        return int(digits[:-1]), int(digits[-1])

    # Memory: CuPy's arrays, from its pool.

    def upload(self, array):
        """The array in this GPU's memory and in C order; not copied if it is there already."""
        if hasattr(array, "__cuda_array_interface__"):
            return self.cupy.ascontiguousarray(self.cupy.asarray(array))
        return self.cupy.asarray(np.ascontiguousarray(array), blocking=True)

    def write(self, array, values):
        """Copy NumPy values into the first elements of a flat array."""
        values = np.ascontiguousarray(values)
        if values.size:
            array[:values.size].set(values.reshape(-1), stream=self.stream)
            self.stream.synchronize()                      # the source may be changed at once

    def download(self, array):
        return array.get(stream=self.stream)

    def empty(self, shape, dtype):
        return self.cupy.empty(shape, dtype)

    def zeros(self, shape, dtype):
        return self.cupy.zeros(shape, dtype)

    # Kernels.

    @staticmethod
    def argument(value):
        """An array wrapped once for Numba, which would take 30 µs to look at it in every launch. It need not wait for
        the array's own stream: `current` has waited for all."""
        return cuda.as_cuda_array(value, sync=False) if hasattr(value, "__cuda_array_interface__") else value

    def prepared(self, launches):
        """The launches as they are run, again and again."""
        for launch in launches:
            if isinstance(launch, Launch):
                self.keep(launch.kernel)
        return [launch if isinstance(launch, Product) else
                launch._replace(arguments=tuple(map(self.argument, launch.arguments))) for launch in launches]

    def run(self, launches):
        for launch in launches:
            if isinstance(launch, Product):
                cublas.multiply(launch, self.stream.ptr)
            else:
                kernel, blocks, threads, arguments = launch
                kernel[blocks, threads, self.numba_stream](*arguments)

    def capture(self, launches, repeats):
        """A graph of `repeats` times these launches, all of them run before: compiling cannot be captured, nor what
        cuBLAS allocates at first."""
        self.stream.begin_capture()
        try:
            for _ in range(repeats):
                self.run(launches)
        finally:
            graph = self.stream.end_capture()
        return graph

    def replay(self, graph):
        graph.launch(self.stream)
        event = self.cupy.cuda.Event(disable_timing=True)
        event.record(self.stream)
        self.waiting.append(event)
        if len(self.waiting) > IN_FLIGHT:
            self.waiting.popleft().synchronize()


_GPUS, _ONE_AT_A_TIME = {}, threading.Lock()


def gpu(index=None):
    """The one `Gpu` of that number; None: of the one that is current in CuPy."""
    if index is None:
        import cupy

        index = cupy.cuda.Device().id
    with _ONE_AT_A_TIME:
        if index not in _GPUS:
            _GPUS[index] = Gpu(index)
        return _GPUS[index]
