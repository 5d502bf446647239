"""Several nets of one kind from different seeds: their averaged prediction, and how far they are apart."""
from dataclasses import replace

import numpy as np

from .. import checks
from .. import device as devices
from ..files import made_by, read_checked, to_bytes, write_atomically
from ..input.arrays import like_input, on_host
from ..input.rows import read_data, read_features, read_rows
from ..kernels.flat import n_parameters
from ..net.loading import model_from
from ..net.saving import contents
from ..training.entry import OPTION_DEFAULTS
from ..training.options import check_options, draw_seed
from ..training.run import fit
from ..training.setup import compile_kernels
from ..training.streams import member_seeds
from .parallel import on_one_thread, run_tasks, worker_count

_KEY = "fastmlp_ensemble"
BYTES_OF_A_NET = 2_600        # what Python keeps of the smallest one, its history and its task; measured


def ensemble(X, y, n=8, *, sample_weight=None, validation_data=None, seed=None, n_threads=None, verbose=0, **options):
    """Train n nets that differ in their seeds, each on one thread, all cores busy.

    Parameters
    ----------
    X, y, sample_weight, validation_data : as in `fastmlp.train`; read once, shared by all nets
    n : how many nets
    seed : whole number that fixes them all; None draws one. Member i is what `train(..., seed=members[i].seed)` gives.
    n_threads : how many nets train at once, and the threads of a prediction; None for all cores. The number does not
        change the results.
    verbose : 0 silent, 1 or 2 a progress bar over the nets
    options : any other option of `train` but checkpoint. With `validation_fraction` each net sets aside its own rows.

    Returns
    -------
    Ensemble. Ctrl-C gives the nets that had finished (`interrupted` is True), when the epochs in hand are over; if
    none had, KeyboardInterrupt is raised.

    Raises
    ------
    TypeError, ValueError before anything trains for arguments that cannot be used; DivergedError if a net diverges.

    Examples
    --------
    >>> nets = fastmlp.ensemble([[0.0], [1.0], [2.0], [3.0]], ["low", "low", "high", "high"], n=3, hidden=4,
    ...                         learning_rate=0.1, epochs=100, seed=1, device="reference")
    >>> nets
    Ensemble(3 × MLP(1-4-1, relu, sigmoid, 13 parameters, float32))
    >>> print(*nets.predict([[-1], [5]]))
    low high
    >>> nets.spread([[-1], [1.5]]).shape
    (2, 2)
    """
    n, seed = checks.integer("n", n), draw_seed() if seed is None else checks.integer("seed", seed, 0)
    allowed = tuple(name for name in OPTION_DEFAULTS if name not in ("checkpoint", "window_rows"))
    for name in options:
        checks.choice("an option of ensemble", name, allowed)
    checked = check_options(**{**OPTION_DEFAULTS, **options, "seed": seed})
    data = read_data(X, y, sample_weight, checked.loss, checked.net.dtype, wide=checked.scaling == "robust")
    everything = np.arange(len(data.rows))
    sizes = (data.rows.x.shape[1], *checked.net.hidden, data.task.outputs)
    checks.affordable(n * (BYTES_OF_A_NET + n_parameters(sizes) * checked.net.dtype.itemsize), f"n: {n:,} nets need",
                      "train fewer")
    tasks = [(data, everything, replace(checked, seed=one), validation_data)
             for one in member_seeds(seed, n)]
    compile_kernels(devices.kernels(checked.device), checked.net.dtype, verbose)
    workers = min(n, worker_count(n_threads, checked.device))
    models, interrupted = run_tasks(fit_member, tasks, workers, verbose, f"Ensemble of {n}")
    models = [model for model in models if model is not None]
    if not models:
        raise KeyboardInterrupt("no net of the ensemble had finished")
    for model in models:
        model.n_threads = devices.threads(n_threads)
    return Ensemble(models, interrupted)


def fit_member(data, train_rows, options, validation_data, stop=None):
    """One net of an ensemble, or None if it was stopped."""
    model = fit(data, train_rows, on_one_thread(options, stop), validation_data)
    history = model.history
    return None if history.interrupted or (stop is not None and stop() and history.stopped == "callback") else model


class Ensemble:
    """Nets with the same inputs and outputs, that predict together. A sequence of its members.

    Attributes
    ----------
    members : tuple of MLP
    classes : (K,) the labels, as of an MLP; None for multilabel and for numbers
    interrupted : whether Ctrl-C ended training before all members had been trained
    """

    def __init__(self, members, interrupted=False):
        self.members, self.interrupted = tuple(members), interrupted
        if not self.members:
            raise ValueError("an ensemble needs at least one member")
        first = self.members[0]
        for other in self.members[1:]:
            if (other.sizes[0], other.sizes[-1], other.output, other.dtype) != (
                    first.sizes[0], first.sizes[-1], first.output, first.dtype) or not np.array_equal(
                    other.classes if other.classes is not None else (), first.classes if first.classes is not None
                    else ()):
                raise ValueError(f"the members of an ensemble must have the same inputs, outputs and labels, got "
                                 f"{first!r} and {other!r}")

    @property
    def classes(self):
        return self.members[0].classes

    def predict(self, X):
        """The label with the highest averaged probability; the averaged prediction for numbers. Shapes: `MLP.predict`.
        """
        return like_input(self._predict(on_host(X)), X)

    def _predict(self, X):
        first = self.members[0]
        if first.task.kind == "numbers":
            return self._mean(X, "predict")
        mean = self._mean(X, "predict_proba")
        return (mean > 0.5).astype(np.int64) if first.classes is None else first.classes[mean.argmax(axis=1)]

    def predict_proba(self, X):
        """The mean over members of `MLP.predict_proba`, (n, K)."""
        return like_input(self._mean(on_host(X), "predict_proba"), X)

    def spread(self, X):
        """The standard deviation over the members (dividing by their number), row by row: of the probabilities (n, K)
        where there are classes or labels, else of the predictions, in their shape."""
        name = "predict" if self.members[0].task.kind == "numbers" else "predict_proba"
        return like_input(self._each(on_host(X), name).std(axis=0, dtype=np.float64), X)

    def evaluate(self, X, y, sample_weight=None):
        """Loss and accuracy, as `MLP.evaluate`, of the averaged prediction."""
        first, X = self.members[0], on_host(X)
        x, _ = read_features(X, "X", first.dtype, net=first)
        rows = read_rows(x, y, sample_weight, first.task, first.dtype, wide=True)
        # Losses with a link of their own read outputs before it: those that give the averaged prediction.
        tiny = np.finfo(first.dtype).tiny
        if first.task.kind == "numbers":
            mean = self._mean(X, "predict").reshape(len(x), -1)
            return first.score_outputs(np.log(np.maximum(mean, tiny)) if first.loss == "poisson" else mean, rows)
        sigmoid = first.output == "sigmoid"
        z = np.log(np.maximum(self._mean(X, "opposite_probabilities" if sigmoid else "predict_proba"), tiny))
        if sigmoid:
            z = z[:, z.shape[1] // 2:] - z[:, :z.shape[1] // 2]
        return first.score_outputs(np.ascontiguousarray(z), rows)

    def save(self, path):
        """Write all members to one safetensors file, atomically. `Ensemble.load` reads it."""
        tensors, headers = {}, []
        for i, member in enumerate(self.members):
            try:
                parts, header = contents(member)
            except ValueError as error:
                raise ValueError(f"members[{i}]: {error}") from error
            tensors |= {f"members.{i}.{name}": part for name, part in parts.items()}
            headers.append(header)
        write_atomically(path, to_bytes(tensors, _KEY, made_by() | {"members": headers}))

    @classmethod
    def load(cls, path):
        """The ensemble that `save` wrote. Raises as `fastmlp.load`.

        Examples
        --------
        >>> nets = fastmlp.Ensemble([fastmlp.MLP.from_parameters([[[w]]], [[0.0]], output="identity") for w in (1, 3)])
        >>> nets.save("nets.safetensors")
        >>> fastmlp.Ensemble.load("nets.safetensors").predict([[1.0]])
        array([2.], dtype=float32)
        """
        return cls(read_checked(path, _KEY, _members_from))

    def _mean(self, X, method):
        with np.errstate(under="ignore"):              # probabilities below the smallest float32 are 0
            each = self._each(X, method)
            return each.mean(axis=0, dtype=np.float64).astype(each.dtype)

    def _each(self, X, method):
        return np.stack([getattr(member, method)(X) for member in self.members])

    def __len__(self):
        return len(self.members)

    def __iter__(self):
        return iter(self.members)

    def __getitem__(self, index):
        return self.members[index]

    def __repr__(self):
        return f"Ensemble({len(self)} × {self.members[0]!r})"


def _members_from(tensors, header):
    own = {str(i): {} for i in range(len(header["members"]))}
    if not own:
        raise ValueError("it holds no members")
    for name, tensor in tensors.items():
        number, _, part = name.removeprefix("members.").partition(".")
        if number not in own:
            raise ValueError(f"its tensor {name} belongs to none of its members")
        own[number][part] = tensor
    return [model_from(parts, one) for parts, one in zip(own.values(), header["members"], strict=True)]
