"""How many cores this process may use: its affinity, the quota of its control group, and the environment."""
import functools
import logging
import os
import re
from pathlib import Path, PurePosixPath

log = logging.getLogger("fastmlp")

VARIABLES = ("FASTMLP_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS")


def available_cores():
    """Cores that threads of ours may take, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = (quota(), *map(number_in_environment, VARIABLES))
    return min([cores, *(limit for limit in limits if limit is not None)])


def number_in_environment(name):
    """The number of threads that a variable sets, read as OpenMP does: of a list ("4,2"), one for each level of
    nesting, the first. None where it is not set, or what it says is no number of at least 1; that is logged, once."""
    text = os.environ.get(name, "")
    found = re.fullmatch(r"\s*\+?([0-9]{1,18})\s*(,.*)?", text, re.ASCII | re.DOTALL)
    if found and int(found[1]) > 0:
        return int(found[1])
    if text.strip():
        _warn(name, text)
    return None


@functools.cache
def _warn(name, text):
    log.warning("%s is %.40r, which is no number of threads: ignored", name, text)


@functools.cache
def quota(membership="/proc/self/cgroup", mount="/sys/fs/cgroup"):
    """Cores that the control groups of this process (containers, systemd, batch systems) may keep busy, rounded up;
    None without a quota.

    membership, mount : where Linux says which groups these are, and where their files are.
    """
    try:
        lines = Path(membership).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    found = []
    for line in lines:
        _, controllers, group = (*line.split(":", 2), "", "")[:3]
        names = controllers.split(",")
        if controllers and "cpu" not in names:
            continue
        # A group of version 2 has one name for all; those of version 1 lie in a folder for each set of controllers.
        roots = [controllers, "cpu", "cpu,cpuacct"] if controllers else ["", "unified"]
        # In a container the path may be that of the host, whose end or nothing of it is mounted here.
        parts = [part for part in PurePosixPath(group).parts if part not in ("/", "..")]
        found += [_quota_of(Path(mount, root, *parts[:depth])) for root in roots for depth in range(len(parts) + 1)]
    limits = [max(1, -(-used // period)) for used, period in filter(None, found) if used > 0 and period > 0]
    return min(limits, default=None)


def _quota_of(folder):
    """(microseconds of processor time, in a period of so many) that a control group allows; None if any."""
    try:
        if (file := folder / "cpu.max").exists():
            used, period = file.read_text(encoding="utf-8").split()
        else:
            used, period = ((folder / name).read_text(encoding="utf-8")
                            for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
        return int(used), int(period)
    except (OSError, ValueError):            # absent, or "max"
        return None
