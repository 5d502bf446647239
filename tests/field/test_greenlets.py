"""gunicorn -k gevent, Flask-SocketIO: threads are greenlets there, which never run while one of them spins."""
import subprocess
import sys

import pytest
from toy import PATIENCE

PROGRAM = """
{patch}
import numpy as np, fastmlp
rng = np.random.default_rng(0)
X, y = rng.normal(size=(1500, 100)).astype("f4"), rng.integers(0, 5, 1500)
models = [fastmlp.train(X, y, hidden=200, epochs=1, seed=0, n_threads=n, device="cpu") for n in (1, 2, None)]
models[0].n_threads = None
print(*[(model.parameters == models[0].parameters).all() for model in models], len(models[0].predict(X)))
from fastmlp.kernels.cpu.threads import Team
with Team(3) as team:
    counts = []
    team.run(lambda thread, count, control: counts.append(count))
    print(counts, end="")
"""
GEVENT = "from gevent import monkey; monkey.patch_all()"
EVENTLET = "import eventlet; eventlet.monkey_patch()"
LATER = "import fastmlp.kernels.cpu.threads\n"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("module", "patch"), [
    ("gevent", GEVENT), ("gevent", LATER + GEVENT), ("eventlet", EVENTLET), ("eventlet", LATER + EVENTLET)],
    ids=["gevent", "gevent, patched later", "eventlet", "eventlet, patched later"])
def test_train_and_predict(module, patch):
    """Before and after the kernels were imported."""
    pytest.importorskip(module, reason=f"{module} is not installed: pip install {module}")
    child = subprocess.run([sys.executable, "-W", "ignore", "-c", PROGRAM.format(patch=patch)], capture_output=True,
                           text=True, timeout=PATIENCE)
    assert child.stdout == "True True True 1500\n[3, 3, 3]", child.stderr
