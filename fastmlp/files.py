"""Files as the library writes and reads them: safetensors with a JSON header and a checksum, replaced atomically.

Reading one never runs code, and believes nothing it has not checked.
"""
import contextlib
import json
import os
import threading
import zlib
from pathlib import Path

import numpy as np

from ._version import __version__

FORMAT = 3
# What reading a file that is not what it should be may raise.
UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)


def made_by():
    """What every header starts with: the format, and who wrote it."""
    return {"format": FORMAT, "library": f"fastmlp {__version__}"}


def to_bytes(tensors, key, header):
    """A safetensors file of `tensors`, with `header` as JSON under `key` and the checksum of both."""
    from safetensors.numpy import save as safetensors_bytes
    text = json.dumps(header)
    return safetensors_bytes(tensors, metadata={key: text, "crc32": checksum(text, tensors)})


def checksum(text, tensors):
    """CRC-32 of the header's text and of the tensors in the order of their names: text of 8 hexadecimal digits."""
    crc = zlib.crc32(text.encode())
    for name in sorted(tensors):
        crc = zlib.crc32(np.ascontiguousarray(tensors[name]).reshape(-1).view(np.uint8), crc)
    return f"{crc:08x}"


def write_atomically(path, content):
    """Put `content` (bytes) at `path`, first into a file beside it, then renamed: no reader ever meets half a file,
    and killed at whatever moment, the old file or the new one is there."""
    beside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def read_checked(path, key, build):
    """build(tensors, header) of the file at `path` that has its header under `key`; every error names the file."""
    from safetensors import SafetensorError, safe_open
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no model file at {path}" + (": it is a folder" if path.is_dir() else ""))
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if key not in metadata:
                hint = "; fastmlp.Ensemble.load reads it" if "fastmlp_ensemble" in metadata else ""
                raise ValueError(f"its header has no {key!r} entry{hint}")
            header = json.loads(metadata[key])
            _check_format(header)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        built = build(tensors, header)
        if (header["format"] > 1 or "crc32" in metadata) and metadata["crc32"] != checksum(metadata[key], tensors):
            raise ValueError("it is damaged: its checksum is not that of its content")
    except (SafetensorError, *UNREADABLE) as error:
        raise ValueError(f"{path} is not a model file that this version of fastmlp can read: {error}") from error
    if not all(np.isfinite(tensor).all() for tensor in tensors.values()):
        raise ValueError(f"{path} is damaged: it holds numbers that are not finite")
    return built


def _check_format(header):
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    if type(header.get("format")) is not int or not 1 <= header["format"] <= FORMAT:
        raise ValueError(f"it has format {header.get('format')!r} (written by {header.get('library', 'unknown')}), "
                         f"this version reads formats 1 to {FORMAT}; upgrade fastmlp")
