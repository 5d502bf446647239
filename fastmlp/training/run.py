"""train(): the page to read first.

A batch's way: what people pass is checked once (`options`, `data`, `labels`, `checks`); then `fit`: the device's kernel
package allocates every buffer (`prepare`) and runs whole epochs (`train_epoch`); this page shuffles, validates, records
and decides when to stop. The mathematics of an epoch stands in `kernels.reference.training`.
"""
import inspect
import logging
import math
from time import perf_counter

import numpy as np

from .. import checks
from .. import device as devices
from ..distributed.ranks import Alone, ranks_of
from ..input import scaling
from ..input import stored as streaming
from ..input.arrays import first_non_finite, on_host, stay
from ..input.rows import read_features, read_rows, split, validation_pair, with_class_weight, with_label_smoothing
from ..kernels import losses, update_rules
from ..net import initializers
from ..net.model import MLP, OUTPUT_OF_LOSS
from ..optimizers import OptimizerState
from ..schedules import rates_of
from .checkpoints import DATA as DATA_RECORDED
from .checkpoints import run_record
from .early_stopping import EarlyStopping, watch_of
from .options import check_options
from .progress import reporter

log = logging.getLogger("fastmlp")
ALONE = Alone()
DATA = ("X", "y", "sample_weight", "validation_data", "model", "comm")  # what `train` takes beside its options


class DivergedError(FloatingPointError):
    """Training met NaN or infinity. `model` has the weights of the last epoch that ended finite."""

    def __init__(self, message, model=None):
        super().__init__(message)
        self.model = model


def train(X, y, *, hidden=(100,), activation="relu", dropout=0.0, loss="auto", initializer="glorot_uniform",
          optimizer="adam", learning_rate=None, schedule=None, l2=0.0, epochs=20, batch_size=256, window_rows=None,
          validation_data=None, validation_fraction=0.0, early_stopping=None, class_weight=None, sample_weight=None,
          comm=None, device="auto", dtype="float32", precision="float32", n_threads=None, seed=None, verbose=0,
          callbacks=(), model=None, checkpoint=None, scaling=None, label_smoothing=None, preset=None):
    """Train a multi-layer perceptron by stochastic gradient descent.

    Parameters
    ----------
    X : (n, features) array, frame or nested list of numbers. 8-bit images (uint8) train as they are: the first layer
        multiplies them by 1/255, and so does the model when it predicts. All else is converted to `dtype`. Or rows
        in a file, which may be larger than memory: see window_rows. An array of CuPy's or PyTorch's on the GPU that
        trains, if that is CuPy's current one, is checked and read there, and so is a y of integers or floats beside
        it; for another device they are copied to main memory.
    y : (n,) labels (text, integers, booleans) or numbers; or (n, columns) one-hot rows, 0/1 columns or numbers
    hidden : the widths of the hidden layers; () for none, which is logistic, softmax or linear regression
    activation : "relu", "leaky_relu", "tanh", "sigmoid", "gelu", "silu" or "identity"; one for all
        hidden layers or one each
    dropout : share of a hidden layer's outputs dropped in training, below 1; one for all or one each
    loss : "softmax_cross_entropy" (labels, one-hot rows or probabilities), "sigmoid_cross_entropy" (two labels, or
        0/1 columns); for numbers "squared_error", "huber", "absolute_error", "quantile" or "poisson" (counts, whose
        mean is predicted); `fastmlp.Huber(delta)` and `fastmlp.Quantile(q)` where 1 and 0.5 do not suit; or "auto":
        labels are classes, told apart by one sigmoid if two and by softmax if more; several columns of 0 and 1 are
        one-hot rows if each has exactly one 1, else, as integers or booleans, multilabel; all other numbers are
        values to predict by squared error
    initializer : "glorot_uniform", "glorot_normal", "he_uniform" or "he_normal"
    optimizer : "sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw", or an instance such as
        `fastmlp.Adam(beta2=0.95)`
    learning_rate : replaces the optimizer's own
    schedule : "constant", "step", "exponential", "cosine", "one_cycle", or an instance from `fastmlp.schedules`, or
        any callable of that kind: what the learning rate is multiplied by at each step
    l2 : adds ½ l2 Σ w² over the weights, not the biases, to what is minimised (not to the loss shown)
    epochs : passes over the training rows; batch_size : rows a step, at most all
    window_rows : X stays where it is, and is read in windows of so many rows (rounded up to whole batches), the next
        one while training on this one. For memory maps, datasets of h5py and zarr, dask arrays and the like, of any
        numeric dtype; y is read whole. Rows are shuffled by blocks, then within a window, so the result depends on
        window_rows: `fastmlp.input.stored` states the order. None: X is read into memory, unless it is such rows and
        larger than half the memory; then its windows are of 128 MiB, as the log says.
    validation_data : (X, y) or (X, y, sample_weight), evaluated after every epoch
    validation_fraction : instead of that, the share of rows set aside, shuffled and with every class in proportion.
        The same seed sets the same rows aside, in continued training as well.
    early_stopping : epochs without a better validation loss before training stops, or `fastmlp.EarlyStopping(...)`
    class_weight : {label: weight}, or "balanced": n / (classes · rows of the class). Multiplies sample_weight.
    sample_weight : (n,) weights of the rows in the loss, not negative
    comm : an MPI communicator such as ``mpi4py.MPI.COMM_WORLD`` (extra: mpi). Its ranks train one net together: each
        passes its own rows as X, y, sample_weight and validation_data, more or fewer than the others, and the same
        options. batch_size is of all ranks together; order, split, class weights and scores are those of all rows;
        every rank returns the same weights. A rank that fails ends all. window_rows is of each rank, and rank 0 writes
        the checkpoint. On GPUs each rank takes one of its machine's: leave device "auto" or "cuda".
    device : "auto" (a GPU if CuPy sees one, else the CPU), "cpu", "cuda", "cuda:1" (the second GPU) or "reference"
        (plain NumPy)
    dtype : "float32" or "float64", of weights and arithmetic
    precision : "float32", strictly; "tf32" or "bf16": products on the tensor cores of a GPU, whose operands are rounded
        to 10 or 7 bits of mantissa on their way in. Weights, sums and everything else stay float32.
    n_threads : threads on the CPU; None takes FASTMLP_NUM_THREADS, else what the kernels find best. The number
        does not change the result.
    seed : whole number that fixes start, split, order and dropout; None draws one, kept as `model.seed`
    verbose : 0 silent, 1 a progress bar, 2 a line per epoch
    callbacks : called after every epoch as callback(model, numbers) with the model's weights up to date and a dict of
        epoch, loss, accuracy, val_loss, val_accuracy (as far as there are any), learning_rate, seconds. Returning
        True stops training; weights changed by a callback are not taken up.
    model : an MLP to train further, in place: its sizes, activations, dropout, loss, labels and dtype stay, its
        history is continued, and so are the optimizer's running means if the optimizer is of the same kind
    checkpoint : path of a file that is replaced after every epoch by the state of the run. If the process dies, the
        same call resumes after the last whole epoch, to the same bits as an unbroken run; if the run was finished, it
        returns the model at once. Only the epochs that are run call callbacks. One run at a time writes to a path.
    scaling : "robust" has the model scale its input itself, by the medians and quartiles of the rows trained on, with
        far values drawn in smoothly (`fastmlp.input.scaling`), and learn numbers divided by a power of two next to
        their standard deviation, starting at their mean. Losses stay in the units of y. None or "none": no scaling.
    label_smoothing : ε, at least 0 and below 1 (None: 0): K classes are learnt as (1 - ε) one-hot + ε / K, one yes or
        no as (1 - ε) y + ε / 2 (Szegedy et al. 2016). So is the training loss shown; validation is by y as it is.
    preset : "tabular", for rows of unlike columns (after RealMLP, arXiv 2407.04491), stands for scaling="robust",
        optimizer=fastmlp.Adam(learning_rate=0.003, beta2=0.95), schedule="cosine", label_smoothing=0.1 where there are
        classes or labels; and, where there is validation, the weights of the epoch with the least validation loss are
        kept. Without validation they are those of the last epoch. Any of these options that is given overrides it;
        optimizer="adam" is the preset's Adam.

    Returns
    -------
    MLP, with `history`. Ctrl-C ends training early and gives the model as it then is (`history.interrupted` is True);
    where early stopping restores the best epoch, it does so then as well.

    Raises
    ------
    TypeError, ValueError for arguments that cannot be used, naming the argument, what is allowed and what came.
    RuntimeError for a device that is absent. DivergedError when loss or weights are no longer finite.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 2)); y = np.where((X ** 2).sum(axis=1) < 1, "inside", "outside")
    >>> model = fastmlp.train(X, y, hidden=16, epochs=60, batch_size=20, learning_rate=0.02, seed=0, device="reference")
    >>> model
    MLP(2-16-1, relu, sigmoid, 65 parameters, float32)
    >>> bool(model.evaluate(X, y)["accuracy"] > 0.95)
    True
    >>> print(*model.predict([[0, 0], [2, 2]]))
    inside outside
    """
    # What people pass, checked once.
    given = {name: value for name, value in locals().items() if name not in DATA}
    with ranks_of(comm) as ranks:
        options = ranks.options(ranks.checked(lambda: check_options(**given, model=model)), seed)
        log.info("device: %s (%s)", *devices.choose(device))
        data = ranks.read(*stay(X, y, devices.gpu_of(options.device)), sample_weight, options, model)
        return fit(data, np.arange(ranks.total(len(data.rows))), options, validation_data, model, ranks)


# What each option of `train` is where it is not given.
OPTION_DEFAULTS = {name: parameter.default for name, parameter in inspect.signature(train).parameters.items()
                   if name not in DATA}


def fit(data, train_rows, options, validation_data=None, model=None, ranks=ALONE):
    """Train on the rows `train_rows` (int64 indices) of checked `Dataset` data by checked `Options`; as `train`.

    With `ranks`, many processes that each have rows of their own, train_rows are of all of them, numbered through.
    """
    rows, task, net, optimizer = data.rows, data.task, options.net, options.optimizer
    epochs, schedule, callbacks = options.epochs, options.schedule, options.callbacks
    rng = np.random.default_rng(options.seed)
    kernels, n_threads = devices.kernels(options.device), ranks.threads(devices.threads(options.n_threads))

    # The net, new or continued; the rows it learns from and those it is judged by.
    train_rows, held_rows = _split(rows, train_rows, task, validation_data, options.validation_fraction, rng, ranks)
    own_rows = ranks.mine(train_rows)
    batch_size = min(options.batch_size, len(train_rows))
    steps = -(-len(train_rows) // batch_size)
    if model is None:
        sizes = (rows.x.shape[1], *net.hidden, task.outputs)
        checks.fits_in_memory(sizes, 5 + update_rules.SLOTS[optimizer.rule], batch_size, net.dtype.itemsize)
        model = MLP(sizes, net.activations, OUTPUT_OF_LOSS[task.loss], dtype=net.dtype, task=task,
                    scale=data.scale, feature_names=data.feature_names, dropout=net.dropout)
        initializers.initialize(model.weights, options.initializer, rng)
        if options.scaling == "robust":
            scaling.scale_for(model, rows, own_rows, ranks)
    elif options.scaling == "robust" and model.scaling is None:
        raise ValueError("scaling='robust' contradicts the model to be trained further, which was trained without; "
                         "leave scaling or preset out")
    validation = ranks.checked(lambda: _validation_rows(validation_data, data.rows, held_rows, model, options,
                                                        ranks))
    ranks.same("whether there is validation", validation is not None)
    rows = with_class_weight(rows, options.class_weight, task, own_rows, ranks.total)
    if rows.weights.size and not ranks.any(rows.weights[own_rows].any()):
        raise ValueError("sample_weight and class_weight leave every training row with weight 0")
    rows = with_label_smoothing(rows, task, options.smoothing_for(task))
    if model.scaling is not None:
        rows = scaling.scaled(model, rows)
        validation = None if validation is None else scaling.scaled(model, validation)
    early_stopping = options.early_stopping
    if early_stopping is None and options.preset == "tabular" and validation is not None:
        early_stopping = EarlyStopping(patience=epochs)
    watch = watch_of(early_stopping, validation is not None, has_accuracy=task.kind != "numbers")
    dropout_seed = int(rng.integers(1 << 63))
    history = model.history
    history.begin(compile_kernels(kernels, model.dtype, options.verbose))
    done, checkpoint = 0, options.checkpoint
    if checkpoint is not None:
        run = run_record(options, batch_size, rows, train_rows, validation, model, watch)
        done = checkpoint.resume(ranks.record(run, DATA_RECORDED, len(rows)), model, rng, watch)
    show = reporter(options.verbose, epochs, steps, done)

    # Every buffer of training, allocated once; the state works on its own copy of the weights.
    state = kernels.prepare(
        scaling.scaled_parameters(model), model.sizes, model.activation_codes(model.trained_output),
        dropout=(*model.dropout, 0.0), loss=losses.NAMES.index(task.loss), rule=optimizer.rule, hyper=optimizer.hyper,
        l2=options.l2, batch_size=batch_size, scale=model.scale, seed=ranks.seed(dropout_seed), n_threads=n_threads,
        **devices.precision_options(options.precision),
        loss_parameter=scaling.scaled_loss_parameter(model))
    _take_up_optimizer(kernels, state, model, optimizer)
    feed = ranks.feed(rows, train_rows, batch_size)
    model.seed, model.device, model.n_threads = options.seed, options.device, n_threads

    started, step_before = perf_counter(), state.step
    try:
        with show:
            for epoch in range(done, 0 if history.stopped else epochs):
                epoch_started = perf_counter()
                show.epoch_begins(epoch + 1)
                rates = rates_of(schedule, optimizer.learning_rate, epoch, epochs * steps, steps)
                totals = feed.train_epoch(kernels, state, rng, rates)
                numbers = _means(totals, len(train_rows), model)
                _synchronise(kernels, state, model, numbers["loss"], optimizer, steps)
                ranks.same_bits(model.parameters)
                if validation is not None:
                    numbers |= _means(*ranks.evaluate(kernels, state, validation), model, "val_")
                numbers |= {"learning_rate": float(rates[-1]), "seconds": perf_counter() - epoch_started}
                number = history.append(numbers)
                show.epoch_ends(numbers)
                if watch is not None and watch.see(number, numbers, model.parameters):
                    history.stopped = "early_stopping"
                answers = [callback(model, {"epoch": number, **numbers}) for callback in callbacks]
                if ranks.any(any(answer is True or answer is np.True_ for answer in answers)):
                    history.stopped = "callback"
                if checkpoint is not None:
                    stands = (epoch + 1, model, _optimizer_state(kernels, state, model, optimizer), rng, watch,
                              history.duration + perf_counter() - started)
                    ranks.checked(lambda stands=stands: checkpoint.save(*stands))
                if history.stopped:
                    log.info("stopped after epoch %d by %s", number, history.stopped)
                    break
    except KeyboardInterrupt:
        if ranks.size > 1:
            raise
        history.interrupted = True
        history.settle()
        _read_if_finite(kernels, state, model)
        taken = state.step - step_before
        log.warning("interrupted after %d of %d epochs and %d of %d steps", done + taken // steps, epochs,
                    taken % steps, steps)
    finally:
        history.duration += perf_counter() - started
    _keep_optimizer(kernels, state, model, optimizer)
    if watch is not None and watch.parameters is not None:
        model.parameters[:] = watch.parameters
        history.best_epoch = watch.best_epoch
    return model


def _split(rows, train_rows, task, validation_data, fraction, rng, ranks):
    """(rows to train on, rows set aside) of `train_rows`, as indices."""
    if not fraction:
        return train_rows, None
    if validation_data is not None:
        raise ValueError("validation_data and validation_fraction exclude each other; pass one of them")
    answers = ranks.gather(on_host(rows.answers()))[train_rows] if task.kind == "classes" else None
    train, held = split(len(train_rows), fraction, answers, rng)
    return train_rows[train], train_rows[held]


def _validation_rows(validation_data, rows, held_rows, model, options, ranks):
    if held_rows is not None:
        return rows.take(ranks.mine(held_rows))
    if validation_data is None:
        return None
    names = ("X of validation_data", "y of validation_data", "sample_weight of validation_data")
    X, y, weights = validation_pair(validation_data)
    stored = streaming.train_in_windows(X, names[0], model.dtype,
                                        options.window_rows if streaming.is_stored(X) else None)
    X, y = stay(X, y, None if stored is not None else devices.gpu_of(options.device))
    x, _ = read_features(X, names[0], model.dtype, model, stored)
    return read_rows(x, y, weights, model.task, model.dtype, names, wide=model.scaling is not None)


def compile_kernels(kernels, dtype, verbose=0):
    """Have the kernels compiled before the clock of training starts; returns the seconds it took."""
    if not hasattr(kernels, "warm_up") or (kernels, dtype) in _warm:
        return 0.0
    if verbose and kernels.needs_compiling(dtype):
        print("Compiling kernels (first run) ...", flush=True)
    started = perf_counter()
    kernels.warm_up(dtype)
    _warm.add((kernels, dtype))
    return perf_counter() - started


_warm = set()  # (kernel package, dtype) that this process has compiled or loaded: small nets need not wait again


def _means(totals, n, model, prefix=""):
    """Loss and accuracy from an epoch's totals. The accuracy counts every row once, whatever its weight."""
    loss_sum, correct, weight_sum = totals
    numbers = {f"{prefix}loss": scaling.loss_scale(model) * float(loss_sum / weight_sum) if weight_sum else math.nan}
    if model.task.kind != "numbers":
        numbers[f"{prefix}accuracy"] = float(correct / n)
    return numbers


def _read_if_finite(kernels, state, model):
    """Copy the weights of the state into the model if all are finite; returns whether they were."""
    parameters = np.empty_like(model.parameters)
    kernels.read_parameters(state, parameters)
    finite = first_non_finite(parameters) is None
    if finite:
        scaling.take_up(model, parameters)
    return finite


def _synchronise(kernels, state, model, loss, optimizer, steps):
    finite = math.isfinite(loss) and _read_if_finite(kernels, state, model)
    if not finite:
        failed = state.failed_step and f", step {state.failed_step - (state.step - steps)} of {steps}"
        raise DivergedError(
            f"training diverged in epoch {len(model.history) + 1}{failed or ''}: the loss is {loss:.4g} and the "
            f"weights are no longer all finite numbers. Lower learning_rate (now {optimizer.learning_rate:g}), scale "
            "the columns of X (and y, if numbers) to about -1 to 1, or pass dtype='float64'. This error's .model has "
            "the weights of the last epoch that ended finite.", model)


def _take_up_optimizer(kernels, state, model, optimizer):
    saved, model.optimizer_state = model.optimizer_state, None
    if saved is not None and saved.rule == optimizer.rule:
        kernels.write_optimizer(state, saved.step, saved.s1, saved.s2)


def _optimizer_state(kernels, state, model, optimizer):
    slots = update_rules.SLOTS[optimizer.rule]
    s1, s2 = (np.empty(model.n_parameters if slots > i else 0, model.dtype) for i in range(2))
    kernels.read_optimizer(state, s1, s2)
    return OptimizerState(optimizer.rule, state.step, s1, s2)


def _keep_optimizer(kernels, state, model, optimizer):
    kept = _optimizer_state(kernels, state, model, optimizer)
    if first_non_finite(kept.s1) is None and first_non_finite(kept.s2) is None:
        model.optimizer_state = kept
