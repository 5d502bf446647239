"""How every CPU function is compiled, and where its machine code is kept.

`inlined` and `outlined` are for functions called from compiled code only; `entry` is for the few that
Python calls: they release the GIL and are cached on disk.

The cache is Numba's own, with two rules of ours. Numba's key sees one function's bytecode and not its
callees', so machine code made from an older callee would be found and used; here the stamp of every
entry is a hash over all kernel sources, and any edit, or another version, makes it compile anew.
And a cache that cannot be read or written costs time, never an exception.
"""
import functools
import hashlib
import inspect
import logging
from pathlib import Path
from types import SimpleNamespace

import llvmlite
import numba
import numpy
from numba import njit, types
from numba.core import caching
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.dispatcher import OmittedArg

from .. import catalogue
from ..cache import cache_folder

log = logging.getLogger("fastmlp")


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
    digest.update(catalogue.stamp().encode())
    return digest.hexdigest()


class _Locator(caching._CacheLocator):
    """Puts the machine code of one entry into `cache_folder`, stamped with all kernel sources."""

    def __init__(self, function, path):
        self._function = function

    def get_cache_path(self):
        # A folder for each set of sources: two versions that run side by side keep their code apart.
        return str(cache_folder() / source_stamp()[:16])

    def get_source_stamp(self):
        return source_stamp()

    def get_disambiguator(self):
        return str(self._function.__code__.co_firstlineno)

    @classmethod
    def from_function(cls, function, path):
        return cls(function, path)


class _CacheImpl(caching.CompileResultCacheImpl):
    _locator_classes = (_Locator,)


class _Cache(caching.FunctionCache):
    _impl_class = _CacheImpl

    def load_overload(self, sig, target_context):
        try:
            found = super().load_overload(sig, target_context)
        except Exception as error:                     # a damaged file: whatever unpickling it may raise
            log.warning("compiled kernels in %s cannot be read (%s); compiling again", self.cache_path, error)
            found = None
        if found is None:
            log.info("compiling %s (first run)", self._py_func.__name__)
        return found

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except Exception as error:
            log.warning("compiled kernels cannot be kept in %s (%s); the next process compiles again",
                        self.cache_path, error)


def entry(function, **options):
    """Compile on first call, without the GIL, through the cache."""
    dispatcher = njit(**_OPTIONS, **options, nogil=True)(function)
    dispatcher._cache = _Cache(function)
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
    try:
        magic = dispatcher.targetctx.codegen().magic_tuple()
        return any(name in str(key[0]) and key[1] == magic for key in dispatcher._cache._cache_file._load_index())
    except Exception:                                  # a damaged cache: `_Cache` says so when it is used
        return False
