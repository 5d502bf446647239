"""Where compiled kernels are kept."""
import os
import sys
from pathlib import Path


def cache_folder():
    """Folder of the compiled kernels: FASTMLP_CACHE_DIR, or `fastmlp` in the user's cache folder."""
    if folder := os.environ.get("FASTMLP_CACHE_DIR"):
        return Path(folder)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fastmlp"
