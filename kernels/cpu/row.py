"""Where `net.row` was. Numba's caches of users' functions (`cache=True`) name the type of a RowNet by its module, and
an index that names one that is gone cannot be read: the function would raise until its cache is deleted by hand.
"""
from ..interrupts import import_module


def __getattr__(name):
    if name != "RowNetType":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(".net.row", __package__).RowNetType
