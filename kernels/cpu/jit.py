"""How every CPU function is compiled, and where its machine code is kept.

`inlined` and `outlined` are for functions called from compiled code only; `entry` is for the few that
Python calls: they release the GIL and are cached on disk.

Numba's own cache is not used. Its key sees one function's bytecode and not its callees', so machine code made from
an older callee would be found and used; and two processes that fill it at once may leave the code of one function
under the name of another (numba#10486). Here each function and signature has a file of its own (`cache`), and its key
has a hash over all kernel sources: any edit, or another version, makes it compile anew. A cache that cannot be read or
written costs time, never an exception.
"""
import functools
import hashlib
import importlib
import inspect
import logging
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import llvmlite
import numba
import numpy
from llvmlite.binding import ffi
from numba import config, njit, types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, CompileResult
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import OmittedArg
from numba.core.registry import cpu_target
from numba.core.serialize import dumps

from .. import activations, cache, catalogue, losses, update_rules
from ..interrupts import delayed, hold_over_forks

# Numba loads these when first needed: then Ctrl-C or a fork might meet them half loaded.
importlib.import_module("numba.core.boxing")
importlib.import_module("numba.core.runtime.context")

if config.DISABLE_JIT:
    raise ImportError("NUMBA_DISABLE_JIT turns off Numba's compiler, which the CPU kernels need: unset it, or pass "
                      "device='reference'")

log = logging.getLogger("fastmlp")


# Compiling takes the first and then the second: LLVM is in the middle of something as long as they are taken.
hold_over_forks(global_compiler_lock._lock, ffi.lib._lock._lock)


class _LinkedLibrary(JITCodeLibrary):
    """Code that is only ever linked into an entry. Numba would optimise it and make machine code of it here, and
    again in its caller, and in its caller's caller: without this, 15 s of compiling become 20."""

    def _optimize_final_module(self):
        pass

    def _finalize_final_module(self):
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name):
        self._ensure_finalized()
        return 0

    @property
    def codegen(self):
        return _NO_ENVIRONMENT


_NO_ENVIRONMENT = SimpleNamespace(set_env=lambda name, environment: None)


class _LinkedOnly(Compiler):
    """The compiler of functions that Python never calls."""

    def __init__(self, typingctx, targetctx, library, *arguments):
        library = library or _LinkedLibrary(targetctx.codegen(), "linked")
        super().__init__(typingctx, targetctx, library, *arguments)


_OPTIONS = {"error_model": "numpy", "boundscheck": False}
# Without Numba's reference counts, atomic additions for every array of every call, which took a third of a step of a
# small net. Python holds the arrays while compiled code runs; what allocates is an `entry`, or `allocating`.
_UNCOUNTED = {"_nrt": False}
_LINKED = {**_OPTIONS, **_UNCOUNTED, "no_cpython_wrapper": True, "no_cfunc_wrapper": True,
           "pipeline_class": _LinkedOnly}
inlined = functools.partial(njit, **_LINKED, forceinline=True)
outlined = functools.partial(njit, **_LINKED)
allocating = functools.partial(njit, **(_LINKED | {"_nrt": True}), forceinline=True)


@functools.cache
def source_stamp():
    """Hash over every kernel source and the versions that machine code depends on."""
    digest = hashlib.sha256(repr((numba.__version__, llvmlite.__version__, numpy.__version__)).encode())
    root = Path(__file__).parent.parent
    for path in sorted([*root.glob("*.py"), *root.glob("cpu/**/*.py")]):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    digest.update(catalogue.stamp(activations.TABLE, losses.TABLE, update_rules.TABLE).encode())
    return digest.hexdigest()


# What Numba is told by NUMBA_* variables, its configuration file or `numba.config`, and compiles differently by. The
# CPU's name and features stand in the codegen's own magic_tuple.
_SETTINGS = ("OPT", "SLP_VECTORIZE", "LOOP_VECTORIZE", "ENABLE_AVX", "DISABLE_INTEL_SVML", "USING_SVML", "BOUNDSCHECK",
             "DEBUG_JIT", "DEBUG_NRT", "DEBUGINFO_DEFAULT", "EXTEND_VARIABLE_LIFETIMES", "ENABLE_PROFILING",
             "JIT_COVERAGE", "LLVM_REFPRUNE_PASS", "LLVM_REFPRUNE_FLAGS", "PARFOR_MAX_TUPLE_SIZE")


def _settings():
    return [sys.implementation.cache_tag, *(f"{name}={getattr(config, name, None)}" for name in _SETTINGS)]


class _CodeFile:
    """Stands where Numba's dispatcher has its cache: a file for each function, signature and way to compile it."""

    def __init__(self, function):
        self._function, self._name = function, f"{function.__module__.rpartition('.')[2]}.{function.__name__}"

    @staticmethod
    def folder():
        """A folder for each set of sources: two versions that run side by side keep their code apart. Or None."""
        root = cache.cache_folder()
        return root and root / source_stamp()[:16]

    @property
    def cache_path(self):
        return str(self.folder())

    def enable(self):
        pass

    disable = flush = enable

    def _file(self, key):
        return cache.file_of(self.folder(), self._name, key, ".nbc")

    def _key(self, signature, codegen):
        function, code = self._function, self._function.__code__
        cells = dumps(tuple(cell.cell_contents for cell in function.__closure__ or ()))
        numbers = repr((code.co_names, [each for each in code.co_consts if not inspect.iscode(each)])).encode()
        hashes = [hashlib.sha256(part).hexdigest() for part in (code.co_code, numbers, cells)]
        return repr((source_stamp(), _settings(), codegen.magic_tuple(), function.__module__, function.__qualname__,
                     code.co_firstlineno, hashes, signature)).encode()

    def load_overload(self, signature, target_context):
        found = None
        with delayed():                                # half a library loaded is of no use to the next call
            target_context.refresh()
            try:
                found = self._load(signature, target_context)
            except Exception as error:                 # a damaged file: whatever unpickling it may raise
                log.warning("compiled kernels in %s cannot be read (%s); compiling again", self.cache_path, error)
        if found is None:
            log.info("compiling %s (first run)", self._function.__name__)
        return found

    def _load(self, signature, target_context):
        if self.folder() is None:
            return None
        key = self._key(signature, target_context.codegen())
        payload = cache.load(self._file(key), key)
        if payload is None:
            return None
        found = CompileResult._rebuild(target_context, *pickle.loads(payload))
        if tuple(found.signature.args) != tuple(signature):
            raise ValueError(f"code for {found.signature.args} instead of {signature}")
        return found

    def save_overload(self, signature, compiled):
        if self.folder() is None or compiled.library.has_dynamic_globals:
            return                                     # an address in the code means nothing to the next process
        try:
            key = self._key(signature, compiled.codegen)
            cache.save(self._file(key), key, dumps(compiled._reduce()))
        except Exception as error:
            log.warning("compiled kernels cannot be kept in %s (%s); the next process compiles again",
                        self.cache_path, error)

    def has(self, dtype):
        """Whether code for arrays of this dtype is kept, made as we would make it."""
        made = repr((source_stamp(), _settings(), cpu_target.target_context.codegen().magic_tuple()))[:-1].encode()
        return self.folder() is not None and any(key.startswith(made) and f"Array({dtype}".encode() in key
                                                 for key in cache.keys(self.folder(), self._name, ".nbc"))


def entry(function, **options):
    """Compile on first call, without the GIL, through the cache."""
    dispatcher = njit(**_OPTIONS, **options, nogil=True)(function)
    dispatcher._cache = _CodeFile(function)
    dispatcher.is_ready = functools.partial(_is_ready, dispatcher)
    return dispatcher


loop_entry = functools.partial(entry, **_UNCOUNTED)          # of functions that allocate nothing


def operation(function=None, *, doubles=()):
    """An operation for everybody: a Python function that checks its arrays, and in compiled code the kernel itself.

    doubles : names of the arrays that are float64 whatever the others are
    """
    if function is None:
        return functools.partial(operation, doubles=doubles)
    compiled, signature = entry(function), inspect.signature(function)
    compile_for = compiled._compile_for_args

    def check_and_compile(*arguments):
        """What Numba calls for types that it has no machine code for. Dtype and layout are of the type: what has been
        compiled for need not be checked again, which took a microsecond a call."""
        given = [each.value if isinstance(each, OmittedArg) else each for each in arguments]
        _check_arrays(function.__name__, signature.parameters, given, doubles)
        return compile_for(*arguments)

    compiled._compile_for_args = check_and_compile

    @functools.wraps(function)
    def checked(*arguments, **named):
        arguments = signature.bind(*arguments, **named).args if named else arguments
        try:
            return compiled(*arguments)
        except ValueError:                             # the operation's own; or Numba's, of what has no type
            _check_arrays(function.__name__, signature.parameters, arguments, doubles)
            raise

    # At once, not by `infer_global`: this module may be imported by the very compilation that asks for the name.
    compiled.typingctx.insert_global(checked, types.Dispatcher(compiled))
    return checked


_NUMBERS = (int, float, numpy.number)
_SCALARS = {"activation", "rule", "learning_rate", "step", "scale", "rate", "seed", "layer", "loss", "parameter", "l2",
            "l1", "intercept", "steps", "c0", "c1", "c2", "c3", "k0", "k1"}
_NOT_FLOATS = {"labels": "int64", "rows": "int64", "active": "bool"}


def _check_arrays(operation, names, arguments, doubles):
    """Kernels work on raw memory: C-contiguous arrays, one float dtype. The shapes are checked in compiled code."""
    common = None                                      # (name, dtype character) of the first float array
    for name, value in zip(names, arguments, strict=False):
        if isinstance(value, numpy.ndarray):
            flags, kind = value.flags, value.dtype.char
            if not (flags.c_contiguous and flags.aligned):
                raise ValueError(f"{operation}: {name} must be C-contiguous and aligned, got strides {value.strides} "
                                 f"for shape {value.shape}: pass np.ascontiguousarray({name})")
            if not value.dtype.isnative:
                raise TypeError(f"{operation}: {name} must be in this machine's byte order, got {value.dtype.str}: "
                                f"pass {name}.astype('{kind}')")
            if name in doubles:
                if kind != "d":
                    raise TypeError(f"{operation}: {name} must be float64, got {value.dtype}")
            elif kind in "fd" and name not in _NOT_FLOATS:
                common = common or (name, kind)
                if kind != common[1]:
                    raise TypeError(f"{operation}: all float arrays must have one dtype, got "
                                    f"{common[0]} {numpy.dtype(common[1])}, {name} {value.dtype}")
            elif value.dtype != _NOT_FLOATS.get(name) and (operation, name, kind) != ("gather", "x", "B"):
                raise TypeError(f"{operation}: {name} must be {_NOT_FLOATS.get(name, 'float32 or float64')}, "
                                f"got {value.dtype}: pass {name}.astype(...)")
        elif value is not None and not (name in _SCALARS and isinstance(value, _NUMBERS)):
            raise TypeError(f"{operation}: {name} must be a NumPy array, got {type(value).__name__}")


def _is_ready(dispatcher, dtype):
    """Whether machine code for arrays of this dtype is loaded or in the cache."""
    name = f"Array({dtype}"
    if any(name in str(signature) for signature in dispatcher.signatures):
        return True
    return dispatcher._cache.has(dtype)
