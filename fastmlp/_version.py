"""The version of this installation, from its metadata: pyproject.toml is where it is written down."""
from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("fastmlp")
except PackageNotFoundError:
    __version__ = "0+not.installed"
