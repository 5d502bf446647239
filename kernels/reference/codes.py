"""The integers the kernels receive, restated so that the oracle depends on nothing it checks: a code is a name's
position. What there is to each name stands beside its formula: `activations.FUNCTIONS`, `losses`, `update.STEPS`.
"""

ACTIVATIONS = ["identity", "relu", "leaky_relu", "tanh", "sigmoid", "gelu", "silu", "sign", "softmax", "exp"]
LOSSES = ["softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error", "huber", "absolute_error", "poisson",
          "quantile"]
RULES = ["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw", "adam_eps", "gradient"]


def name_of(names, code, what):
    if not 0 <= code < len(names):
        raise ValueError(f"{what} code {code} is unknown")
    return names[code]
