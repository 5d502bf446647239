"""A net kept by compiled code: in a typed list, a jitclass, a tuple, when Python's own object is gone."""
import gc
from itertools import pairwise

import numpy as np
import pytest
from numba import njit, typeof
from numba.experimental import jitclass
from numba.typed import Dict, List

import fastmlp

ROW = np.random.default_rng(5).standard_normal(20).astype(np.float32)


def net(seed=0):
    rng = np.random.default_rng(seed)
    sizes = (20, 50, 4)
    return fastmlp.MLP.from_parameters([rng.standard_normal(shape).astype(np.float32) for shape in pairwise(sizes)],
                                       [rng.standard_normal(n).astype(np.float32) for n in sizes[1:]]).as_njit()


def outputs(net):
    out = np.empty(4)
    net(ROW, out)
    return out


def churn():
    """Whatever was let go is written over."""
    gc.collect()
    return [np.full(size, 1e9, np.float32) for size in np.random.default_rng(0).integers(500, 3000, 500)]


@njit
def of_list(nets, row, out):
    nets[0](row, out)
    return out


@njit
def of_dict(nets, row, out):
    nets[1](row, out)
    return out


@njit
def of_tuple(nets, row, out):
    nets[0](row, out)
    return out


@njit
def itself(net):
    return net


@pytest.fixture
def right():
    return outputs(net())


def test_in_a_typed_list(right):
    nets = List([net()])
    kept = churn()
    np.testing.assert_array_equal(of_list(nets, ROW, np.empty(4)), right)
    np.testing.assert_array_equal(outputs(nets[0]), right)
    del kept


def test_in_a_typed_dict(right):
    nets = Dict()
    nets[1] = net()
    kept = churn()
    np.testing.assert_array_equal(of_dict(nets, ROW, np.empty(4)), right)
    del nets, kept


def test_in_a_jitclass(right):
    @jitclass([("net", typeof(net()))])
    class Controller:
        def __init__(self, net):
            self.net = net

        def run(self, row, out):
            self.net(row, out)
            return out

    controller = Controller(net())
    kept = churn()
    np.testing.assert_array_equal(controller.run(ROW, np.empty(4)), right)
    np.testing.assert_array_equal(outputs(controller.net), right)
    del kept


def test_in_a_tuple_and_returned(right):
    np.testing.assert_array_equal(of_tuple((net(), net(1)), ROW, np.empty(4)), right)
    returned = itself(net())
    kept = churn()
    np.testing.assert_array_equal(outputs(returned), right)
    assert repr(returned) == repr(net())
    del kept


def test_nothing_is_kept_for_ever():
    import weakref
    one = net()
    packed = weakref.ref(one.packed)
    nets = List([one])
    of_list(nets, ROW, np.empty(4))
    itself(one)
    del one, nets
    gc.collect()
    assert packed() is None
