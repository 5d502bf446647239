"""Operations that had another name: found under it for one more release, with a warning."""
import warnings

_NEW_NAMES = {"softmax_xent": "softmax_cross_entropy", "sigmoid_xent": "sigmoid_cross_entropy"}


def new_name(package, name):
    """What an operation of `package` is called now; AttributeError if it never had that name."""
    if name not in _NEW_NAMES:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    warnings.warn(f"{package}.{name} is now {_NEW_NAMES[name]}", DeprecationWarning, stacklevel=3)
    return _NEW_NAMES[name]
