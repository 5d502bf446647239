"""Machine code of kernels on disk, so that a process need not compile what another has compiled before.

Numba's own cache (cache=True) is not used. Its key sees a kernel and what it closes over, but no function in another
file: machine code made from an older one would be found and used. And two processes that fill it at once may give one
file name to two kernels (numba#10486). Here every kernel is a file whose name is a hash over all that its code depends
on: all kernel sources, the versions underneath, what the kernel closes over, its options, the types of its arguments,
the GPU's compute capability and the CUDA runtime (`cache`). What a kernel closes over is told by names, code and
constants (`description`), not by pickling it: Numba gives every intrinsic a number of its own in every process. A file
that cannot be read or written costs time, never an exception.

The files of one state of the sources share a folder. A folder that no process has used for UNUSED_DAYS is removed.

What is saved: the nine kernels that the first training of a net enters take 4.6 s of a core of an AMD EPYC to
compile for sm_90 (processor time). Not run on a GPU yet; the tests fill and read the files with the linker alone.
"""
import functools
import hashlib
import logging
import os
import pickle
import shutil
import sys
import time
import types
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

UNUSED_DAYS = 30


@functools.cache
def source_stamp():
    """Hash over every kernel source and the versions that machine code depends on."""
    digest = hashlib.sha256(repr((numba.__version__, numba_cuda.__version__, numpy.__version__)).encode())
    root = Path(__file__).parent.parent
    for path in sorted([*root.glob("*.py"), *root.glob("cuda/**/*.py")]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def description(value, known=()):
    """What machine code sees of a value that a kernel closes over, as text that is the same in every process.

    A function, a device function or an intrinsic is its names, code and constants, with the same of what it closes over
    and of the functions and numbers that it reads from its module; other objects are what they print.

    Raises
    ------
    TypeError for an object that prints its address: its name would never be found again.
    """
    if isinstance(value, tuple):
        return f"({', '.join(description(item, known) for item in value)})"
    if isinstance(value, frozenset):
        return f"{{{', '.join(sorted(description(item, known) for item in value))}}}"
    if isinstance(value, types.ModuleType | type):
        return f"{type(value).__name__} {value.__name__}"
    if isinstance(value, types.CodeType):
        return f"code {value.co_code.hex()} {value.co_names} {description(value.co_consts, known)}"
    function = getattr(value, "py_func", None) or getattr(value, "_defn", None) or value
    if isinstance(function, types.FunctionType):
        name = f"{function.__module__}.{function.__qualname__}"
        if function in known:                              # it calls itself, or one that calls it
            return name
        known = (*known, function)
        cells = tuple(cell.cell_contents for cell in function.__closure__ or ())
        globals_ = tuple(function.__globals__.get(name) for name in function.__code__.co_names)
        options = sorted(getattr(value, "targetoptions", {}).items())
        return f"{name} {options} {description((function.__code__, cells, globals_), known)}"
    if isinstance(value, types.BuiltinFunctionType):
        return f"{value.__module__}.{value.__name__}"
    text = repr(value)
    if " at 0x" in text:
        raise TypeError(f"a kernel closes over {text}, which cannot be described")
    return f"{type(value).__name__} {text}"


class KernelFile:
    """Stands where Numba's dispatcher has its cache."""

    def __init__(self, kernel):
        self.kernel = kernel

    def key(self, signature):
        kernel = self.kernel
        key = (source_stamp(), sys.implementation.cache_tag, description(kernel), str(signature),
               kernel.targetctx.codegen().magic_tuple())
        return repr(key).encode()

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
                mark_used(path.parent)
        except Exception as error:                     # a damaged file: whatever unpickling it may raise
            log.warning("a compiled kernel in %s cannot be read (%s); compiling again", cache.cache_folder(), error)
        if found is None:
            log.info("compiling %s for the GPU (first run)", self.kernel.py_func.__name__)
        return found

    def save_overload(self, signature, compiled):
        try:
            if path := self.path(signature):
                cache.save(path, self.key(signature), dumps(compiled._reduce_states()))
                mark_used(path.parent)
        except Exception as error:
            log.warning("compiled kernels cannot be kept in %s (%s); the next process compiles again",
                        cache.cache_folder(), error)


@functools.cache
def mark_used(folder):
    """Once in a process: the folder is in use; its neighbours that have not been for UNUSED_DAYS go."""
    try:
        os.utime(folder)
        for other in folder.parent.iterdir():
            if other != folder and time.time() - other.stat().st_mtime > UNUSED_DAYS * 24 * 3600:
                shutil.rmtree(other, ignore_errors=True)
    except OSError as error:                               # only readable, or another process was faster
        log.debug("old compiled kernels were not removed: %s", error)


def keep(kernel):
    """From now on this kernel's machine code is looked for on disk, and left there."""
    if isinstance(kernel._cache, NullCache):
        kernel._cache = KernelFile(kernel)
