"""Machine code on disk: where it is kept, one file for each key, and what makes a file fit to be loaded.

A file's name is a hash of its whole key, and it appears whole or not at all: processes that fill the cache at once
never meet in one file. It begins with MAGIC, a SHA-256 of all that follows, and the key; on load all three must fit.
What is in it is unpickled, which runs code. So nothing is read from a folder that is another user's, or that everybody
can write to.
"""
import functools
import hashlib
import logging
import os
import stat
import sys
import tempfile
import uuid
from pathlib import Path

log = logging.getLogger("fastmlp")

MAGIC = b"fastmlp machine code 1\n"
_DIGEST, _LENGTH = 32, 8                 # bytes of the SHA-256 and of the key's length, which follow MAGIC


def cache_folder():
    """Folder of the compiled kernels: FASTMLP_CACHE_DIR, or `fastmlp` in the user's cache folder; where there is no
    such folder and none can be made, one of the user's own among the temporary files. None if that fails as well."""
    if folder := os.environ.get("FASTMLP_CACHE_DIR"):
        return Path(folder)
    try:
        folder = _user_cache() / "fastmlp"
        if _can_be_made(folder):
            return folder
    except RuntimeError:                 # the user has no home directory
        pass
    user = os.geteuid() if hasattr(os, "geteuid") else os.environ.get("USERNAME", "")
    try:
        return Path(tempfile.gettempdir()) / f"fastmlp-{user}"
    except OSError:
        return None


def _user_cache():
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _can_be_made(folder):
    """Whether the folder is there, or the nearest one above it that is there may be written to."""
    if os.path.isdir(folder):
        return True
    above = next((parent for parent in folder.parents if os.path.lexists(parent)), None)
    return above is not None and os.path.isdir(above) and os.access(above, os.W_OK | os.X_OK)


def file_of(folder, name, key, suffix):
    """Where the code of function `name` with this key (bytes) is kept."""
    return folder / f"{name}-{hashlib.sha256(key).hexdigest()[:32]}{suffix}"


def load(path, key):
    """What was saved under `key`, None where there is nothing; ValueError or OSError if the file is damaged."""
    if not _trusted(path.parent):
        return None
    try:
        found, payload = _read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if found != key:
        raise ValueError(f"{path.name} holds the code of another function")
    return payload


def save(path, key, payload):
    """Keeps bytes under `key`, at once: nobody reads half a file. OSError if that is impossible."""
    _make(path.parent)
    if not _trusted(path.parent):
        return
    body = len(key).to_bytes(_LENGTH, "little") + key + payload
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex[:16]}")
    try:
        with open(part, "xb", opener=functools.partial(os.open, mode=0o600)) as file:
            file.write(MAGIC + hashlib.sha256(body).digest() + body)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def keys(folder, name, suffix):
    """The keys of all undamaged files of function `name` in the folder."""
    if not _trusted(folder):
        return
    for path in folder.glob(f"{name}-*{suffix}"):
        try:
            yield _read(path)[0]
        except (OSError, ValueError):    # `load` says so when the file is used
            continue


def _read(path):
    """(key, payload) of a file."""
    # A named pipe in the file's place must not be waited for.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    with open(path, "rb", opener=lambda name, _: os.open(name, flags)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path.name} is no regular file")
        if refusal := _refusal(status):
            raise ValueError(f"{path.name}: {refusal}")
        content = memoryview(file.read())
    if content[:len(MAGIC)] != MAGIC:
        raise ValueError(f"{path.name} is no file of compiled kernels")
    digest, body = content[len(MAGIC):len(MAGIC) + _DIGEST], content[len(MAGIC) + _DIGEST:]
    if hashlib.sha256(body).digest() != digest:
        raise ValueError(f"{path.name} is damaged: its checksum is wrong")
    end = _LENGTH + int.from_bytes(body[:_LENGTH], "little")
    return bytes(body[_LENGTH:end]), body[end:]


def _make(folder):
    """Makes a folder, and those above it that are missing, for this user alone."""
    if not folder.is_dir():
        if not folder.parent.is_dir():
            _make(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _trusted(folder):
    """Whether code may be loaded from there. The reason against it is logged, once."""
    for each in {folder, cache_folder() or folder}:
        try:
            refusal = _refusal(os.stat(each))
        except OSError:
            continue                     # not there: nothing is loaded from it either
        if refusal:
            _warn(str(each), refusal)
            return False
    return True


def _refusal(status):
    if not hasattr(os, "geteuid"):
        return ""
    if status.st_uid != os.geteuid():
        return f"it belongs to user {status.st_uid}, not to user {os.geteuid()}"
    return "everybody may write to it" if status.st_mode & stat.S_IWOTH else ""


@functools.cache
def _warn(folder, refusal):
    log.warning("the folder of compiled kernels, %s, is not used, as %s: every process compiles again. Make it yours "
                "alone, or have FASTMLP_CACHE_DIR name another", folder, refusal)
