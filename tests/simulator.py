"""The CUDA kernels without a GPU: `simulated` is `fastmlp.kernels.cuda` over a stand-in for Numba's CUDA target.

A kernel's Python source runs once for every CUDA thread, as greenlets of one thread of the operating system, which
change over only at barriers. That is some hundred times quicker than the threads of Numba's own simulator, has the
shuffles and warp barriers that one lacks, and finds what a GPU would not tell: barriers that not all threads reach,
indices below zero. What it cannot find: races between barriers (compute-sanitizer does), types (the compile test does).
"""
import contextlib
import contextvars
import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
from greenlet import getcurrent, greenlet

FOLDER = Path(__file__).parent.parent / "kernels" / "cuda"
NAME = "fastmlp.kernels.simulated_cuda"


class Memory:
    """An array as kernels see it: no index below zero, no slices."""

    def __init__(self, array):
        self.array = array
        self.size, self.shape = array.size, array.shape

    def __getitem__(self, index):
        assert index >= 0 if not isinstance(index, tuple) else min(index) >= 0, f"index {index} is below zero"
        return self.array[index]

    def __setitem__(self, index, value):
        assert index >= 0 if not isinstance(index, tuple) else min(index) >= 0, f"index {index} is below zero"
        self.array[index] = value


class DeviceArray(np.ndarray):
    """What stands for memory of the GPU: NumPy with the few methods of Numba's device arrays."""

    def copy_to_host(self):
        return np.array(self)


class Thread(greenlet):
    """One CUDA thread."""

    def __init__(self, body, block, number, place):
        super().__init__(body)
        self.gr_context = contextvars.copy_context()         # NumPy keeps there whether overflow warns
        self.block, self.number, self.waits, self.value = block, number, None, None
        self.threadIdx = SimpleNamespace(x=number, y=0, z=0)
        self.blockIdx = place

    def wait(self, barrier, value=None):
        self.waits, self.value = barrier, value
        self.parent.switch()


class Block:
    """Runs the threads of a block from barrier to barrier."""

    def __init__(self, kernel, arguments, threads, place):
        self.shared = {}
        self.threads = [Thread(lambda: kernel(*arguments), self, number, place) for number in range(threads)]
        self.warps = [self.threads[i:i + 32] for i in range(0, threads, 32)]

    def run(self):
        for thread in self.threads:
            thread.switch()
        while not all(thread.dead for thread in self.threads):
            released = [warp for warp in self.warps if all(t.waits == "warp" and not t.dead for t in warp)]
            if released:
                for warp in released:
                    values = [thread.value for thread in warp]
                    for thread in warp:
                        thread.value, thread.waits = values, None
                    for thread in warp:
                        thread.switch()
                continue
            found = {"done" if thread.dead else thread.waits for thread in self.threads}
            assert found == {"block"}, f"threads of one block stand at different barriers: {found}"
            for thread in self.threads:
                thread.waits = None
            for thread in self.threads:
                thread.switch()


def exchange(value):
    """Every lane deposits a value; every lane receives those of all lanes, and its own number."""
    thread = getcurrent()
    thread.wait("warp", value)
    return thread.value, thread.number & 31


class Kernel:
    def __init__(self, function, launch_bounds=None):
        self.function, self.launch_bounds = function, launch_bounds

    def __getitem__(self, configuration):
        grid, threads = configuration[:2]
        assert self.launch_bounds in (None, threads), f"compiled for {self.launch_bounds} threads, not {threads}"
        across, down = grid if isinstance(grid, tuple) else (grid, 1)

        def launch(*arguments):
            arguments = [Memory(a) if isinstance(a, np.ndarray) else a for a in arguments]
            for a in arguments:
                assert not isinstance(a, Memory) or a.size > 0, "the driver cannot allocate an empty array"
            with np.errstate(all="ignore"):
                for y in range(down):
                    for x in range(across):
                        Block(self.function, arguments, threads, SimpleNamespace(x=x, y=y, z=0)).run()

        return launch


class Cuda:
    """The part of `numba.cuda` that the kernels use."""

    @staticmethod
    def jit(function=None, *, launch_bounds=None):
        return Kernel(function) if function else lambda function: Kernel(function, launch_bounds)

    threadIdx = property(lambda self: getcurrent().threadIdx)
    blockIdx = property(lambda self: getcurrent().blockIdx)

    def syncthreads(self):
        getcurrent().wait("block")

    def syncwarp(self):
        exchange(None)

    def shfl_xor_sync(self, mask, value, distance):
        values, lane = exchange(value)
        return values[lane ^ distance]

    def to_device(self, array):
        return np.array(array).view(DeviceArray)

    def device_array(self, shape, dtype):
        array = np.empty(shape, dtype)
        array.fill(np.nan if array.dtype.kind == "f" else -1)
        return array.view(DeviceArray)

    @property
    def shared(self):
        def array(shape, dtype, alignment=None):
            block, line = getcurrent().block, sys._getframe(1).f_lineno
            if line not in block.shared:
                block.shared[line] = Memory(np.full(shape, np.nan if np.dtype(dtype).kind == "f" else 0, dtype))
            return block.shared[line]
        return SimpleNamespace(array=array)

    @property
    def local(self):
        return SimpleNamespace(array=lambda shape, dtype: np.full(shape, np.nan, dtype))


# As on the GPU: infinity or NaN where Python's own would raise.
MATH = SimpleNamespace(exp=np.exp, tanh=np.tanh, log=np.log, log1p=np.log1p, sqrt=np.sqrt, inf=math.inf,
                       erf=lambda x: type(x)(math.erf(x)))


def load():
    shims = ModuleType(f"{NAME}.shims")
    shims.cuda, shims.device = Cuda(), lambda function: function
    sys.modules[shims.__name__] = shims
    spec = importlib.util.spec_from_file_location(NAME, FOLDER / "__init__.py",
                                                  submodule_search_locations=[str(FOLDER)])
    package = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = package
    spec.loader.exec_module(package)
    for name in ("scalars", "losses"):
        sys.modules[f"{NAME}.{name}"].math = MATH
    return package


simulated = load()


class Machine:
    """`machine.Gpu` with NumPy arrays and simulated kernels. A graph is the list of launches it would hold."""

    def __init__(self):
        self.launched = 0

    current = staticmethod(contextlib.nullcontext)

    def upload(self, array):
        return np.array(array)

    def write(self, array, values):
        assert array.dtype == values.dtype
        array[:values.size] = values.reshape(-1)

    def download(self, array):
        return array.copy()

    def empty(self, shape, dtype):
        return np.full(shape, np.nan, dtype)

    def zeros(self, shape, dtype):
        return np.zeros(shape, dtype)

    def prepared(self, launches):
        return list(launches)

    def run(self, launches):
        for kernel, grid, threads, arguments in launches:
            kernel[grid, threads](*arguments)
            self.launched += 1

    def capture(self, launches, repeats):
        return [*launches] * repeats

    def replay(self, graph):
        self.run(graph)


def part(name):
    """One module of the simulated package."""
    return importlib.import_module(f"{NAME}.{name}")
