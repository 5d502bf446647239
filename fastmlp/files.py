"""Files as the library writes and reads them: safetensors with a JSON header and a checksum, replaced atomically.

`write_atomically` is how every file is written. Reading one never runs code, and believes nothing it has not checked.
"""
import contextlib
import errno
import hashlib
import json
import os
import stat
import zlib
from pathlib import Path

import numpy as np

from ._version import __version__

try:
    import fcntl
except ImportError:          # Windows
    fcntl = None

FORMAT = 3
# What reading a file that is not what it should be may raise.
UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
LONGEST_HEADER = 100_000_000                    # bytes; safetensors refuses longer ones itself
LONGEST_MESSAGE = 400                           # characters of an error: a damaged file may hold names of megabytes
_KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"),
          (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))


# ---------------------------------------------------------------------------------------------- writing
def write_atomically(path, content):
    """Put `content` (bytes) at `path`, whole or not at all: written next to it, then renamed. No reader ever meets half
    a file, and killed at whatever moment, the old file or the new one is there.

    A symbolic link stays, and the file it leads to is replaced. The new file has the mode of the old one and, as far as
    this is allowed, its owner and group. Raises OSError that names `path`: for what is not a regular file, for a file
    that is read-only, for a folder that is absent or that nothing may be written to.
    """
    target, status = checked_target(path)
    remove_leftovers(target)
    with _naming(path, f": the folder {target.parent} must be writable, as the new file is made there"):
        part, file = _new_part(target, 0o666 if status is None else 0o600)
        try:
            with file:
                file.write(content)
                file.flush()
                if status is not None:
                    _copy_mode(file.fileno(), status)
                os.fsync(file.fileno())
                if fcntl is not None:
                    os.replace(part, target)    # its lock still held: nobody takes it for what a killed process left
            if fcntl is None:                   # Windows renames no open file
                os.replace(part, target)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink()
            raise


def path_of(path, name="path"):
    """`path` as text; TypeError that calls it `name`."""
    try:
        text = os.fsdecode(path)
    except TypeError:
        raise TypeError(f"{name} must be a path such as 'model.safetensors', got {path!r}") from None
    if not text:
        raise ValueError(f"{name} must be a path such as 'model.safetensors', got an empty one")
    return text


def checked_target(path):
    """(target, status): the file that writing to `path` makes or replaces, symbolic links followed, and its
    `os.stat_result`, None if there is none yet. Raises as `write_atomically`, before anything is written."""
    given = path_of(path)
    try:
        status = os.stat(given)
    except FileNotFoundError:
        status = None
    target = Path(os.path.realpath(given))
    if status is None:
        if given.endswith(("/", os.sep)):
            raise IsADirectoryError(errno.EISDIR, "it ends as the name of a folder, where a file's is needed", given)
        if not target.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, f"there is no folder {target.parent} to write {target.name} to",
                                    given)
        return target, None
    if not stat.S_ISREG(status.st_mode):
        kind = next((kind for is_kind, kind in _KINDS if is_kind(status.st_mode)), "no regular file")
        raise OSError(errno.EISDIR if kind == "a folder" else errno.EINVAL,
                      f"it is {kind}, and only a regular file can be replaced", given)
    effective = os.access in os.supports_effective_ids
    if not status.st_mode & 0o222 or not os.access(given, os.W_OK, effective_ids=effective):   # root may write to 0444
        raise PermissionError(errno.EACCES, f"it is read-only (mode {stat.S_IMODE(status.st_mode):04o}): make it "
                              "writable, or pass another path", given)
    return target, status


def remove_leftovers(target):
    """Remove the part files that killed writers of `target` left. One that is being written is locked by its writer,
    whichever process or machine that is on; where there are no locks, nothing is removed."""
    if fcntl is None:
        return
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:
        parts = [entry.path for entry in entries if entry.name.startswith(_part_prefix(target.name))]
        for part in parts:
            with contextlib.suppress(OSError):
                # NONBLOCK: a FIFO of that name would wait for its reader.
                descriptor = os.open(part, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(part)
                finally:
                    os.close(descriptor)


def _part_prefix(name):
    """What the part files of a target begin with, and those of no other one; short, however long the name is."""
    return f".{name[:24]}.{hashlib.blake2b(os.fsencode(name), digest_size=16).hexdigest()}."


def _new_part(target, mode):
    """(path, binary file) of a part file that no other writer has, locked as long as it is open."""
    while True:
        part = target.with_name(f"{_part_prefix(target.name)}{os.urandom(8).hex()}.part")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        file = open(os.open(part, flags, mode), "wb")  # noqa: SIM115 (the caller closes it)
        try:
            if fcntl is not None:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:                 # `remove_leftovers` found it before it was locked, and removes it
            file.close()
            continue
        except OSError:                         # no locks on this file system
            pass
        if part.exists():
            return part, file
        file.close()


def _copy_mode(descriptor, status):
    """Give a new file the owner, group and mode of the one it replaces, as far as the system has and allows that."""
    if not hasattr(os, "fchmod"):
        return
    mode = stat.S_IMODE(status.st_mode) & 0o777
    for owner in (status.st_uid, -1):
        with contextlib.suppress(OSError):
            os.fchown(descriptor, owner, status.st_gid)
            break
    else:
        mode &= ~0o070                          # what the old group might do, another one might not
    os.fchmod(descriptor, mode)


@contextlib.contextmanager
def _naming(path, permission=""):
    """Errors of the file system name `path`, not the part file, which nobody knows; `permission` is said where one is
    missing."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        hint = permission if isinstance(error, PermissionError) else ""
        raise OSError(error.errno, f"{error.strerror}{hint}", path_of(path)) from None


# ---------------------------------------------------------------------------------------------- content
def made_by():
    """What every header starts with: the format, and who wrote it."""
    return {"format": FORMAT, "library": f"fastmlp {__version__}"}


def to_bytes(tensors, key, header):
    """A safetensors file of `tensors`, with `header` as JSON under `key` and the checksum of both. The tensors are
    copied first: another thread may write to them, and the checksum is that of what is in the file."""
    from safetensors.numpy import save as safetensors_bytes
    text, tensors = json.dumps(header), {name: np.array(tensor, order="C") for name, tensor in tensors.items()}
    return safetensors_bytes(tensors, metadata={key: text, "crc32": checksum(text, tensors)})


def checksum(text, tensors):
    """CRC-32 of the header's text and of the tensors in the order of their names: text of 8 hexadecimal digits."""
    crc = zlib.crc32(text.encode())
    for name in sorted(tensors):
        crc = zlib.crc32(np.ascontiguousarray(tensors[name]).reshape(-1).view(np.uint8), crc)
    return f"{crc:08x}"


# ---------------------------------------------------------------------------------------------- reading
def read_tensors(path, key, newest, unchecked=0):
    """(header, tensors) of a safetensors file that has its header, JSON of a format up to `newest`, under `key`.
    Formats up to `unchecked` may lack a checksum.

    The file is read, not mapped: whoever cuts it short meanwhile causes an error and no crash. Raises OSError, and
    SafetensorError or one of UNREADABLE for what is not such a file.
    """
    from safetensors.numpy import load
    with open(path, "rb") as file, _naming(path):
        size, length = os.fstat(file.fileno()).st_size, int.from_bytes(file.read(8), "little")
        if length > min(size - 8, LONGEST_HEADER):
            raise ValueError("it is cut short, or not a safetensors file")
        metadata = json.loads(file.read(length)).get("__metadata__", {})
        if key not in metadata:
            hint = "; fastmlp.Ensemble.load reads it" if "fastmlp_ensemble" in metadata else ""
            raise ValueError(f"its header has no {key!r} entry{hint}")
        header = json.loads(metadata[key])
        _check_format(header, newest)
        file.seek(0)
        content = file.read()
    tensors = load(content)
    if (header["format"] > unchecked or "crc32" in metadata) and metadata["crc32"] != checksum(metadata[key], tensors):
        raise ValueError("it is damaged: its checksum is not that of its content")
    return header, tensors


def read_checked(path, key, build):
    """build(tensors, header) of the model file at `path` that has its header under `key`; every error names the file.
    """
    from safetensors import SafetensorError
    path = Path(path_of(path))
    if not path.is_file():
        raise FileNotFoundError(f"no model file at {path}" + (": it is a folder" if path.is_dir() else
                                                             ": it is not a regular file" if path.exists() else ""))
    try:
        header, tensors = read_tensors(path, key, FORMAT, unchecked=1)
        return build(tensors, header)
    except (SafetensorError, *UNREADABLE) as error:
        raise refusal(f"{path} is not a model file that this version of fastmlp can read: {error}") from brief(error)


def refusal(text):
    """ValueError of `text`, cut where a damaged file made it long."""
    return ValueError(text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]} ...")


def brief(error):
    """`error`, or None where its text is too long to be shown as the cause of another one."""
    return error if len(str(error)) <= LONGEST_MESSAGE else None


def _check_format(header, newest):
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    if type(header.get("format")) is not int or not 1 <= header["format"] <= newest:
        raise ValueError(f"it has format {header.get('format')!r} (written by {header.get('library', 'unknown')}), "
                         f"this version reads formats 1 to {newest}; upgrade fastmlp")
