"""Fresh processes: import, first train with a cold and a warm cache, first predict; and the peak memory of each lab."""
import json
import os
import subprocess
import sys

import pytest

from .conftest import name_of, refuse, skip_if_missing
from .machine import ROOT, cores
from .nets import LAB_2, LABS
from .startup import MODULES
from .timing import advance, worker_clock
from .training import PEERS

pytestmark = pytest.mark.benchmark(timer=worker_clock)
CACHES = {"fastmlp.train": "FASTMLP_CACHE_DIR", "torch.compile": "TORCHINDUCTOR_CACHE_DIR"}
PATIENCE = 300


def start(name, net, variables):
    command = [sys.executable, "-m", "bench.startup", name, net.name]
    result = subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True,
                            timeout=PATIENCE)
    if result.returncode:
        refuse(name, result.stderr)
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize(("net", "name"), [(net, name) for net in LABS for name in MODULES
                                           if net == LAB_2 or name != "torch.compile"], ids=name_of)
def bench_startup(benchmark, tmp_path, net, name):
    """Seconds from nothing to the end of a first short training, caches warm; cold ones beside it for lab 2."""
    benchmark.group = f"start and memory, {net.name} | {net}"
    skip_if_missing(name)
    cold, variables = None, {}
    if name in CACHES:
        # In a folder of its own the cache is cold; another start fills the user's where sources have changed.
        variables = {CACHES[name]: str(tmp_path)} if net == LAB_2 else {}
        first = start(name, net, variables)
        cold = first if net == LAB_2 else None
    starts = []

    def once():
        starts.append(start(name, net, variables))
        advance(starts[-1]["import"] + starts[-1]["first train"])

    benchmark.pedantic(once, rounds=2 if net == LAB_2 else 1)
    best = {moment: min(found[moment] for found in starts) for moment in starts[0]}
    benchmark.extra_info.update(bench="startup", case=net.name, net=str(net), name=name, threads=cores(), warm=best,
                                cold=cold, note=PEERS[name].note)
