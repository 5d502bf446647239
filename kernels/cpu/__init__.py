"""The CPU kernels: Numba, with explicit vectors. Operations, shapes and meanings: `kernels`.

Rooms, each of which imports only those before it:
    jit, threads   how functions are compiled, and how threads keep step inside them
    vector/        `simd` the vocabulary, `pointers` its way to memory, `panels`, `vector_math`; `functions` the
                   formulas of the catalogue, and the choice among them by code
    tile/          `gemm` the tile, `dots` the one that sums over lanes; `epilogues`, `loss_rows`, `masks` what is done
                   to a tile or a row while it is hot
    operation/     the operations on plain arrays: `dense`, `losses`, `perceptron`, `optimizer`, `masks`, `rows`;
                   `operands` what they ask of them
    net/           `layout`, `network`, `weights`, `epoch` a training step on panels; `narrow` the same for few units;
                   `strategy` the choice of one; `zeros`, `sparse`, `arrange` what is zero is stepped over;
                   `gradient` a step in two halves;
                   `training` the calls that `fastmlp` makes, `arguments` what they ask of theirs; `few` inference of
                   few rows; `row` one row through a net, inside anybody's compiled code

An operation is imported when it is first named, and compiled for a dtype when it is first called.
"""
from ..interrupts import import_module
from ..renamed import new_name

_OPERATIONS = {
    "operation.dense": ("dense_backward", "dense_forward"),
    "operation.losses": ("pointwise_loss", "sigmoid_cross_entropy", "softmax_cross_entropy", "squared_error"),
    "operation.masks": ("dropout", "philox"),
    "operation.rows": ("gather",),
    "operation.perceptron": ("perceptron_batch", "perceptron_epoch", "perceptron_online", "shuffle"),
    "operation.optimizer": ("update",),
    "net.gradient": ("apply_gradients", "batch_gradient"),
    "net.training": ("evaluate", "forward", "forward_few", "needs_compiling", "prepare", "read_optimizer",
                     "read_parameters", "train_epoch", "warm_up", "write_optimizer", "write_parameters"),
}
_HOME = {name: module for module, names in _OPERATIONS.items() for name in names}
__all__ = sorted(_HOME)
READS_IN_PLACE = True            # of x nothing but the rows of the order


def __getattr__(name):
    if name not in _HOME:
        return __getattr__(new_name(__name__, name))
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
