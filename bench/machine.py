"""What a result file says about the machine and the software: never a host name, user or path."""
import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("fastmlp", "numpy", "numba", "llvmlite", "scikit-learn", "torch", "jax", "jaxlib", "keras", "onnxruntime")


def cores():
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe():
    """Processor, cores, instruction set, operating system."""
    from fastmlp.kernels.cpu.vector.simd import LEVEL

    return {"processor": processor(), "cores": cores(), "instruction set": LEVEL, "architecture": platform.machine(),
            "system": platform.system(), "python": platform.python_version()}


def processor():
    try:
        names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def file_name(machine):
    """intel-xeon-...-2-cores-avx512"""
    words = re.sub(r"\(R\)|\(TM\)|CPU|Processor", " ", machine["processor"])
    text = f"{words} {machine['cores']} cores {machine['instruction set']}".lower()
    return "-".join(re.findall(r"[a-z0-9.]+", text))


def versions():
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def commit():
    """The commit measured; a + says that the tree had changes."""
    def git(*arguments):
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "kernels", "fastmlp", "bench/*.py")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
