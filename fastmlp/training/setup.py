"""What stands before the first epoch of a `Run`: rows, net, compiled kernels and their state."""
from time import perf_counter

from .. import checks
from .. import device as devices
from ..input import scaling, stored
from ..input.arrays import keep_on_gpu, on_host
from ..input.rows import (
    finished_rows,
    read_features,
    read_rows,
    split,
    validation_pair,
    weights_by_class,
)
from ..kernels import losses, update_rules
from ..net import initializers
from ..net.model import MLP, OUTPUT_OF_LOSS

_warm = set()  # (kernel package, dtype) that this process has compiled or loaded: small nets need not wait again


# ------------------------------------------------------------------------------- rows

def hold_out(data, train_rows, validation_data, options, random, ranks):
    """(rows to train on, rows held out for validation or None) of `train_rows`, as indices."""
    if not options.validation_fraction:
        return train_rows, None
    if validation_data is not None:
        raise ValueError("validation_data and validation_fraction exclude each other; pass one of them")
    classes = None
    if data.task.kind == "classes":
        classes = ranks.gather(on_host(data.rows.class_indices()))[train_rows]
    train, held_out = split(len(train_rows), options.validation_fraction, classes, random.split)
    return train_rows[train], train_rows[held_out]


def training_rows(rows, own_rows, model, options, ranks):
    """The finished `rows`, of which this process trains on `own_rows` (indices)."""
    weights = weights_by_class(rows, options.class_weight, model.task, own_rows, ranks.total)
    rows = finished_rows(rows, model, weights=weights, smoothing=options.smoothing_for(model.task))
    if rows.weights.size and not ranks.any(rows.weights[own_rows].any()):
        raise ValueError("sample_weight and class_weight leave every training row with weight 0")
    return rows


def validation_rows(validation_data, rows, held_out, model, options, ranks):
    """The rows to evaluate on after every epoch, not yet finished: those of `rows` with the indices `held_out`, or the
    user's validation_data; None if there are none."""
    validation = ranks.checked(lambda: _validation_rows(validation_data, rows, held_out, model, options, ranks))
    ranks.same("whether there is validation", validation is not None)
    return validation


def _validation_rows(validation_data, rows, held_out, model, options, ranks):
    if held_out is not None:
        return rows.take(ranks.mine(held_out))
    if validation_data is None:
        return None
    names = ("X of validation_data", "y of validation_data", "sample_weight of validation_data")
    X, y, weights = validation_pair(validation_data)
    in_file = stored.train_in_windows(X, names[0], model.dtype, options.window_rows if stored.is_stored(X) else None)
    X, y = keep_on_gpu(X, y, None if in_file is not None else devices.gpu_of(options.device))
    x, _ = read_features(X, names[0], model.dtype, model, in_file)
    return read_rows(x, y, weights, model.task, model.dtype, names, wide=model.scaling is not None)


# ------------------------------------------------------------------------------- net

def net_to_train(model, data, own_rows, batch_size, options, random, ranks):
    """A new net for these data, or `model` to train further."""
    if model is not None:
        if options.scaling == "robust" and model.scaling is None:
            raise ValueError("scaling='robust' contradicts the model to be trained further, which was trained without; "
                             "leave scaling or preset out")
        return model
    rows, task, net = data.rows, data.task, options.net
    sizes = (rows.x.shape[1], *net.hidden, task.outputs)
    checks.fits_in_memory(sizes, 5 + update_rules.SLOTS[options.optimizer.rule], batch_size, net.dtype.itemsize)
    model = MLP(sizes, net.activations, OUTPUT_OF_LOSS[task.loss], dtype=net.dtype, task=task, scale=data.scale,
                feature_names=data.feature_names, dropout=net.dropout)
    initializers.initialize(model.weights, options.initializer, random.start)
    if options.scaling == "robust":
        scaling.scale_for(model, rows, own_rows, ranks)
    return model


# ------------------------------------------------------------------------------- kernels

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


def kernel_state(kernels, model, options, batch_size, seed, n_threads):
    """The kernels' state for training `model`, which gives up the optimizer's running means if the rule is the same."""
    optimizer = options.optimizer
    state = kernels.prepare(
        scaling.scaled_parameters(model), model.sizes, model.activation_codes(model.trained_output),
        dropout=(*model.dropout, 0.0), loss=losses.NAMES.index(model.task.loss), rule=optimizer.rule,
        hyper=optimizer.hyper, l2=options.l2, batch_size=batch_size, scale=model.scale, seed=seed, n_threads=n_threads,
        **devices.precision_options(options.precision), loss_parameter=scaling.scaled_loss_parameter(model))
    saved, model.optimizer_state = model.optimizer_state, None
    if saved is not None and saved.rule == optimizer.rule:
        kernels.write_optimizer(state, saved.step, saved.s1, saved.s2)
    return state
