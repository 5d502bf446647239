"""The CUDA kernels without a GPU: `simulated` is `fastmlp.kernels.cuda` over a stand-in for Numba's CUDA target.

A kernel's Python source runs once for every CUDA thread, as greenlets of one thread of the operating system, which
change over only at barriers. That is some hundred times quicker than the threads of Numba's own simulator, has the
shuffles and warp barriers that one lacks, and finds what a GPU would not tell: barriers that not all threads reach,
indices below zero, asynchronous copies that are read before they were waited for, or never waited for. Threads that run
in another order (`in_turn`) show where a barrier is missing. What it cannot find: races that no order of whole
stretches between barriers shows (compute-sanitizer does), types (the compile test does).
"""
import collections
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

    @property
    def __cuda_array_interface__(self):
        return self.__array_interface__

    def copy_to_host(self, stream=0):
        CALLS.append(("copy_to_host", stream))
        return np.array(self)


def on_gpu(value):
    return hasattr(value, "__cuda_array_interface__")


class Stream:
    """A stream by its address; what is done on it is noted in `CALLS`."""

    def __init__(self, address):
        self.address = address

    def __eq__(self, other):
        return isinstance(other, Stream) and self.address == other.address

    def __hash__(self):
        return self.address

    def __repr__(self):
        return f"Stream({self.address})"

    def synchronize(self):
        CALLS.append(("synchronize", self))


MOST_BLOCKS = 2 ** 31 - 1             # of a grid; all of ours have one dimension
CALLS = collections.deque(maxlen=64)  # the latest launches, copies and waits with their streams


class Thread(greenlet):
    """One CUDA thread."""

    def __init__(self, body, block, number, place, threads):
        super().__init__(body)
        self.gr_context = contextvars.copy_context()         # NumPy keeps there whether overflow warns
        self.block, self.number, self.waits, self.value = block, number, None, None
        self.copies = [[]]                                   # groups on their way, the last of them still open
        self.threadIdx = SimpleNamespace(x=number, y=0, z=0)
        self.blockIdx, self.blockDim = place, SimpleNamespace(x=threads, y=1, z=1)

    def wait(self, barrier, value=None):
        self.waits, self.value = barrier, value
        self.parent.switch()


def in_turn(threads):
    """The order in which threads, or warps, run from one barrier to the next; on a GPU it may be any."""
    return threads


class Block:
    """Runs the threads of a block from barrier to barrier."""

    def __init__(self, kernel, arguments, threads, place):
        self.shared = {}
        self.threads = [Thread(lambda: kernel(*arguments), self, number, place, threads)
                        for number in range(threads)]
        self.warps = [self.threads[i:i + 32] for i in range(0, threads, 32)]

    def run(self):
        for thread in in_turn(self.threads):
            thread.switch()
        while not all(thread.dead for thread in self.threads):
            released = [warp for warp in self.warps if all(t.waits == "warp" and not t.dead for t in warp)]
            if released:
                for warp in in_turn(released):
                    values = [thread.value for thread in warp]
                    for thread in warp:
                        thread.value, thread.waits = values, None
                    for thread in in_turn(warp):
                        thread.switch()
                continue
            found = {"done" if thread.dead else thread.waits for thread in self.threads}
            assert found == {"block"}, f"threads of one block stand at different barriers: {found}"
            for thread in self.threads:
                thread.waits = None
            for thread in in_turn(self.threads):
                thread.switch()
        assert all(thread.copies == [[]] for thread in self.threads), "asynchronous copies that nobody waits for"


def exchange(value):
    """Every lane deposits a value; every lane receives those of all lanes, and its own number."""
    thread = getcurrent()
    thread.wait("warp", value)
    return thread.value, thread.number & 31


def run_blocks(function, arguments, blocks, threads):
    with np.errstate(all="ignore"):
        for x in range(blocks):
            Block(function, arguments, threads, SimpleNamespace(x=x, y=0, z=0)).run()


class Kernel:
    def __init__(self, function, launch_bounds=None):
        self.function, self.launch_bounds = function, launch_bounds

    def __getitem__(self, configuration):
        blocks, threads, *stream = configuration
        stream = stream[0] if stream else 0
        assert self.launch_bounds in (None, threads), f"compiled for {self.launch_bounds} threads, not {threads}"
        assert 0 < blocks <= MOST_BLOCKS, f"a grid of {blocks} blocks"
        assert threads <= 1024, f"a block of {threads} threads"

        def launch(*arguments):
            CALLS.append(("launch", stream))
            arguments = [Cuda.as_cuda_array(a) if on_gpu(a) and not isinstance(a, DeviceArray) else a
                         for a in arguments]
            # Numba copies NumPy arrays there and back, in some order: of two that share memory one would be lost.
            host = [a for a in arguments if isinstance(a, np.ndarray) and not on_gpu(a)]
            assert not any(np.shares_memory(a, b) for i, a in enumerate(host) for b in host[:i])
            arguments = [Memory(a) if isinstance(a, np.ndarray) else a for a in arguments]
            for a in arguments:
                assert not isinstance(a, Memory) or a.size > 0, "the driver cannot allocate an empty array"
            run_blocks(self.function, arguments, blocks, threads)

        return launch


class Cuda:
    """The part of `numba.cuda` that the kernels use."""

    @staticmethod
    def jit(function=None, *, launch_bounds=None):
        return Kernel(function) if function else lambda function: Kernel(function, launch_bounds)

    threadIdx = property(lambda self: getcurrent().threadIdx)
    blockIdx = property(lambda self: getcurrent().blockIdx)

    blockDim = property(lambda self: getcurrent().blockDim)

    def grid(self, dimensions):
        assert dimensions == 1
        return self.blockIdx.x * self.blockDim.x + self.threadIdx.x

    def syncthreads(self):
        getcurrent().wait("block")

    def syncwarp(self):
        exchange(None)

    def shfl_xor_sync(self, mask, value, distance):
        values, lane = exchange(value)
        return values[lane ^ distance]

    external_stream = staticmethod(Stream)

    def default_stream(self):
        return Stream(0)

    def get_current_device(self):
        return SimpleNamespace(id=0)

    @staticmethod
    def as_cuda_array(array, sync=True):
        if sync and "stream" in array.__cuda_array_interface__:
            CALLS.append(("synchronize", Stream(array.__cuda_array_interface__["stream"])))
        return np.asarray(SimpleNamespace(__array_interface__=array.__cuda_array_interface__)).view(DeviceArray)

    def to_device(self, array, stream=0):
        CALLS.append(("to_device", stream))
        return np.array(array).view(DeviceArray)

    def device_array(self, shape, dtype, stream=0):
        array = np.empty(shape, dtype)
        array.fill(np.nan if array.dtype.kind == "f" else ~array.dtype.type(0))
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


# ------------------------------------------------------------------------------- what is inline PTX on the GPU

def to_tf32(x):
    """The bits of a float32 rounded to 10 bits of mantissa, to nearest, ties away from zero."""
    return np.uint32((int(np.float32(x).view(np.uint32)) + 0x1000) & 0xFFFFE000)


def pack_bf16(low, high):
    """Two float32 rounded to bfloat16, to nearest, ties to even, in one word."""
    words = [int(np.float32(x).view(np.uint32)) for x in (low, high)]
    low, high = ((word + 0x7FFF + (word >> 16 & 1)) >> 16 for word in words)
    return np.uint32(low | high << 16)


def number(bits):
    return np.uint32(bits).view(np.float32)


def halves(word):
    """The two bfloat16 of a word as float32."""
    return number((int(word) & 0xFFFF) << 16), number(int(word) & 0xFFFF0000)


def mma(a0, a1, a2, a3, b0, b1, c0, c1, c2, c3, part):
    """D = A B + C of one warp, gathered from the lanes as the fragments of mma.m16n8 lie in them.

    part(word) gives the numbers in one register: one of TF32, two neighbouring in k of bfloat16.
    """
    words, lane = exchange((a0, a1, a2, a3, b0, b1))
    width = len(part(a0))
    group, quad = lane >> 2, lane & 3
    out = []
    for row, column, total in ((group, 2 * quad, c0), (group, 2 * quad + 1, c1),
                               (group + 8, 2 * quad, c2), (group + 8, 2 * quad + 1, c3)):
        for half in range(2):                                # the registers of the lower and the upper k
            for q in range(4):
                a = part(words[(row & 7) * 4 + q][(row >= 8) + 2 * half])
                b = part(words[column * 4 + q][4 + half])
                for k in range(width):
                    total = np.float32(total + a[k] * b[k])
        out.append(total)
    return tuple(out)


def cp_async(shared, i, source, j, count):
    """Nothing is there before it was waited for; on a GPU it may arrive at any time until then."""
    assert count in (0, 4)
    value = source[j]                                        # the address must be one that may be read
    getcurrent().copies[-1].append((shared, i, value if count else 0))


def cp_async_commit():
    getcurrent().copies.append([])


def cp_async_wait(on_their_way):
    """Until at most so many groups that were closed are on their way."""
    *closed, open_group = getcurrent().copies
    done = closed[:len(closed) - on_their_way]
    for group in done:
        for shared, i, value in group:
            shared[i] = value
    getcurrent().copies = [*closed[len(done):], open_group]


def instructions():
    module = ModuleType(f"{NAME}.ptx")
    module.to_tf32, module.pack_bf16, module.cp_async = to_tf32, pack_bf16, cp_async
    module.mma_tf32 = lambda *registers: mma(*registers, lambda word: (number(word),))
    module.mma_bf16 = lambda *registers: mma(*registers, halves)
    module.cp_async_commit = cp_async_commit
    module.cp_async_wait_all, module.cp_async_wait_older = lambda: cp_async_wait(0), lambda: cp_async_wait(1)
    return module


# ------------------------------------------------------------------------------- what is cuBLAS on the GPU

ROUNDED = {"float32": lambda x: x, "tf32": np.vectorize(lambda x: number(to_tf32(x)), otypes=[np.float32]),
           "bf16": np.vectorize(lambda x: number(int(pack_bf16(x, 0)) << 16), otypes=[np.float32])}


def multiply(product, stream=None):
    """A `large.Product` by NumPy."""
    def operand(array, at, rows, columns, transposed):
        values = ROUNDED[product.precision](np.asarray(array).reshape(-1)[at:at + rows * columns])
        return values.reshape(columns, rows).T if transposed else values.reshape(rows, columns)

    p = product
    with np.errstate(all="ignore"):                          # rows that do not count may hold anything
        c = (operand(p.a, p.a_at, p.rows, p.depth, p.a_transposed)
             @ operand(p.b, p.b_at, p.depth, p.columns, p.b_transposed))
    p.c.reshape(-1)[p.c_at:p.c_at + p.rows * p.columns] = c.reshape(-1)


def load():
    shims, ptx, cublas = ModuleType(f"{NAME}.shims"), instructions(), ModuleType(f"{NAME}.cublas")
    shims.cuda, shims.device, cublas.multiply = Cuda(), lambda function: function, multiply
    sys.modules.update({module.__name__: module for module in (shims, ptx, cublas)})
    spec = importlib.util.spec_from_file_location(NAME, FOLDER / "__init__.py",
                                                  submodule_search_locations=[str(FOLDER)])
    package = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = package
    spec.loader.exec_module(package)
    for name in ("scalars", "losses", "functions"):
        importlib.import_module(f"{NAME}.{name}")
        sys.modules[f"{NAME}.{name}"].math = MATH
    return package


simulated = load()


class Machine:
    """`machine.Gpu` with NumPy arrays and simulated kernels. A graph is the list of launches it would hold."""

    def __init__(self):
        self.launched = 0

    chosen = current = staticmethod(contextlib.nullcontext)

    def capability(self):
        return 8, 0

    def upload(self, array):
        return Cuda.as_cuda_array(array, sync=False) if on_gpu(array) else np.array(array).view(DeviceArray)

    def write(self, array, values):
        assert array.dtype == values.dtype
        array[:values.size] = values.reshape(-1)

    def download(self, array):
        return np.array(array)

    def empty(self, shape, dtype):
        return np.full(shape, np.nan, dtype).view(DeviceArray)

    def zeros(self, shape, dtype):
        return np.zeros(shape, dtype).view(DeviceArray)

    def prepared(self, launches):
        return list(launches)

    def run(self, launches):
        for launch in launches:
            if isinstance(launch, part("large").Product):
                multiply(launch)
            else:
                kernel, blocks, threads, arguments = launch
                kernel[blocks, threads](*arguments)
            self.launched += 1

    def capture(self, launches, repeats):
        return [*launches] * repeats

    def replay(self, graph):
        self.run(graph)


def part(name):
    """One module of the simulated package."""
    return importlib.import_module(f"{NAME}.{name}")
