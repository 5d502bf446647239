"""Options of training: good ones, and one in four calls with anything at all in one's place."""
import numpy as np
from hypothesis import strategies as st

import fastmlp

GOOD = {
    "hidden": [(), 1, 7, (3, 5), [16], np.int64(4)], "activation": ["relu", "tanh", "gelu", "silu", "sigmoid"],
    "dropout": [0, 0.3], "optimizer": ["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw"], "l2": [0, 1e-3],
    "schedule": ["constant", "cosine", "one_cycle", "step"], "batch_size": [1, 3, 16, 1000], "epochs": [1, 2],
    "validation_fraction": [0.0, 0.3], "early_stopping": [None, 1, fastmlp.EarlyStopping(1, monitor="loss")],
    "class_weight": [None, "balanced", {0: 2.0}, {"a": 0.0}], "n_threads": [None, 1, 2, 5],
    "learning_rate": [None, 1e-3, 0.1, 1e3], "initializer": ["he_normal", "glorot_uniform"],
    "loss": ["auto", "softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error"],
}
ANYTHING = [None, True, -1, 0, 1.5, 10 ** 30, float("nan"), float("inf"), "relu", "", b"adam", (), (0,), [[]], {},
            {1: 2}, (None,), object(), np.array([1, 2]), np.array(3.7), np.float32(0.5), print, int, ("adam", 2), 1e308,
            -1e-9, 2j]


@st.composite
def options(draw, good=GOOD, names=None):
    chosen = {name: draw(st.sampled_from(good[name])) for name in
              draw(st.lists(st.sampled_from(sorted(good)), max_size=4, unique=True))}
    if draw(st.integers(0, 3)) == 0:
        name = draw(st.sampled_from(sorted(names or good)))
        chosen[name] = draw(st.sampled_from(ANYTHING))
    return chosen


TRAIN_NAMES = ["X", "y", "device", "dtype", "seed", "sample_weight", "checkpoint", "validation_data", "callbacks",
               "verbose", "model", *GOOD]
