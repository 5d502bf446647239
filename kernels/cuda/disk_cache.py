"""Machine code of kernels on disk, so that a process need not compile what another has compiled before.

Numba's own cache (cache=True) is not used. Its key sees a kernel and what it closes over, but no function in another
file: machine code made from an older one would be found and used. And two processes that fill it at once may give one
file name to two kernels (numba#10486). Here every kernel is a file whose name is a hash over all that its code depends
on: all kernel sources, the versions underneath, what the kernel closes over, its options, the types of its arguments,
the GPU's compute capability and the CUDA runtime (`cache`). A file that cannot be read or written costs time, never an
exception.

What is saved: the nine kernels that the first training of a net enters take 4.6 s of a core of an AMD EPYC to
compile for sm_90 (processor time). Not run on a GPU yet; the tests fill and read the files with the linker alone.
"""
import functools
import hashlib
import logging
import pickle
import sys
from pathlib import Path

import numba
import numba_cuda
import numpy
from numba.cuda import utils
from numba.cuda.core.caching import NullCache
from numba.cuda.dispatcher import _Kernel
from numba.cuda.serialize import dumps

from .. import cache

log = logging.getLogger("fastmlp")


@functools.cache
def source_stamp():
    """Hash over every kernel source and the versions that machine code depends on."""
    digest = hashlib.sha256(repr((numba.__version__, numba_cuda.__version__, numpy.__version__)).encode())
    root = Path(__file__).parent.parent
    for path in sorted([*root.glob("*.py"), *root.glob("cuda/*.py")]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


class KernelFile:
    """Stands where Numba's dispatcher has its cache."""

    def __init__(self, kernel):
        self.kernel = kernel

    def key(self, signature):
        function, kernel = self.kernel.py_func, self.kernel
        cells = dumps(tuple(cell.cell_contents for cell in function.__closure__ or ()))
        return repr((source_stamp(), sys.implementation.cache_tag, function.__module__, function.__qualname__, cells,
                     sorted(kernel.targetoptions.items()), str(signature),
                     kernel.targetctx.codegen().magic_tuple())).encode()

    def path(self, signature):
        """The kernel's file, None where there is no folder for it."""
        root = cache.cache_folder()
        return root and cache.file_of(root / "cuda" / source_stamp()[:16], self.kernel.py_func.__name__,
                                      self.key(signature), ".kernel")

    def load_overload(self, signature, target_context):
        with utils.numba_target_override():
            target_context.refresh()
        found = None
        try:
            path = self.path(signature)
            payload = path and cache.load(path, self.key(signature))
            if payload is not None:
                found = _Kernel._rebuild(**pickle.loads(payload))
        except Exception as error:                     # a damaged file: whatever unpickling it may raise
            log.warning("a compiled kernel in %s cannot be read (%s); compiling again", cache.cache_folder(), error)
        if found is None:
            log.info("compiling %s for the GPU (first run)", self.kernel.py_func.__name__)
        return found

    def save_overload(self, signature, compiled):
        try:
            if path := self.path(signature):
                cache.save(path, self.key(signature), dumps(compiled._reduce_states()))
        except Exception as error:
            log.warning("compiled kernels cannot be kept in %s (%s); the next process compiles again",
                        cache.cache_folder(), error)


def keep(kernel):
    """From now on this kernel's machine code is looked for on disk, and left there."""
    if isinstance(kernel._cache, NullCache):
        kernel._cache = KernelFile(kernel)
