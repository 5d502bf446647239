"""train(): the page to read first.

A batch's way: what users pass is validated once (`options`, `input`); `run.fit` has the device's kernel package
allocate every buffer and run epoch after epoch. The mathematics of an epoch stands in `kernels.reference.training`.
"""
import inspect
import logging

import numpy as np

from .. import device as devices
from ..distributed.ranks import ranks_of
from ..input.arrays import keep_on_gpu
from .options import check_options
from .run import fit

log = logging.getLogger("fastmlp")
DATA = ("X", "y", "sample_weight", "validation_data", "model", "comm")  # arguments of `train` that are not options


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
        trains, if that is CuPy's current one, is checked and read there, and so is a y of integers or floats next to
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
        numeric dtype; y is read into memory. Rows are shuffled by blocks, then within a window, so results depend on
        window_rows: `fastmlp.distributed.sources` states the order. None: X is read into memory, unless it is such
        rows and larger than half the memory; then its windows are of 128 MiB, as the log says.
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
        True stops training; changes of the weights by a callback are undone.
    model : an MLP to train further, in place: its sizes, activations, dropout, loss, labels and dtype stay, its
        history is continued, and so are the optimizer's running means if the optimizer is of the same kind
    checkpoint : path of a file that is replaced after every epoch by the state of the run. If the process dies, the
        same call resumes after the last whole epoch, to the same bits as an uninterrupted run; if the run was finished,
        it returns the model at once. Only the epochs that are run call callbacks. One run at a time writes to a path.
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
    given = {name: value for name, value in locals().items() if name not in DATA}
    with ranks_of(comm) as ranks:
        options = ranks.options(ranks.checked(lambda: check_options(**given, model=model)), seed)
        log.info("device: %s (%s)", *devices.choose(device))
        data = ranks.read(*keep_on_gpu(X, y, devices.gpu_of(options.device)), sample_weight, options, model)
        return fit(data, np.arange(ranks.total(len(data.rows))), options, validation_data, model, ranks)


# What each option of `train` is where it is not given.
OPTION_DEFAULTS = {name: parameter.default for name, parameter in inspect.signature(train).parameters.items()
                   if name not in DATA}
