"""The instruction levels that a machine can run: its own, and by NUMBA_CPU_NAME those below it."""
import os
import subprocess
import sys

from toy import PATIENCE

from fastmlp.kernels.cpu.vector import simd

# What a machine of each level offers; the levels above the machine's own cannot run here.
AVX2 = "+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+bmi,+bmi2,+f16c,+lzcnt,+movbe"
LOWER_LEVELS = {"avx2": ("haswell", AVX2), "portable": ("x86-64", "+sse,+sse2")}
ORDER = ("avx512", "avx2", "portable")


def levels_here():
    """This machine's own level and those below it."""
    return ORDER[ORDER.index(simd.LEVEL):] if simd.LEVEL in ORDER else (simd.LEVEL,)


def environment_of(level):
    """The environment of a process that compiles for this level."""
    if level == simd.LEVEL:
        return dict(os.environ)
    name, features = LOWER_LEVELS[level]
    return {**os.environ, "NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}


def run_on(level, code):
    """What a Python process of its own prints that runs `code` compiled for this level."""
    check = f"from fastmlp.kernels.cpu.vector import simd\nassert simd.LEVEL == {level!r}, simd.LEVEL\n"
    child = subprocess.run([sys.executable, "-c", check + code], env=environment_of(level), capture_output=True,
                           text=True, timeout=PATIENCE)
    assert child.returncode == 0, child.stderr[-3000:]
    return child.stdout
