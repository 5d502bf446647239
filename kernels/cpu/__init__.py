"""The CPU kernels: Numba, with explicit vectors. Operations, shapes and meanings: `kernels`.

`simd` the vector vocabulary, `pointers` its way to memory, `vector_math` and `functions` what is computed with it ·
`gemm` the tile, `dots` the one that sums over lanes · `dense`, `losses`, `perceptron`, `optimizer`, `masks`, `rows`
operations on plain arrays, `operands` what they ask of them · `layout`, `network`, `weights`, `epoch` a training step
on panels; `narrow` the same for few units · `zeros`, `sparse`, `arrange` what is zero is stepped over · `threads`,
`jit` how it all runs · `training` the calls that `fastmlp` makes · `few` inference of few rows · `gradient` a training
step in two halves · `row` one row through a net, inside anybody's compiled code.

An operation is imported when it is first named, and compiled for a dtype when it is first called.
"""
from ..interrupts import import_module
from ..renamed import new_name

_HOME = {
    "apply_gradients": "gradient", "batch_gradient": "gradient",
    "dense_backward": "dense", "dense_forward": "dense", "dropout": "masks", "evaluate": "training",
    "forward": "training", "gather": "rows", "needs_compiling": "training", "perceptron_batch": "perceptron",
    "perceptron_epoch": "perceptron", "perceptron_online": "perceptron", "philox": "masks", "pointwise_loss": "losses",
    "prepare": "training", "read_optimizer": "training", "read_parameters": "training", "shuffle": "perceptron",
    "sigmoid_cross_entropy": "losses", "softmax_cross_entropy": "losses", "squared_error": "losses",
    "train_epoch": "training",
    "update": "optimizer", "warm_up": "training", "write_optimizer": "training", "write_parameters": "training",
}
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
