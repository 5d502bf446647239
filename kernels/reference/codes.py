"""The integers the kernels receive, restated so that the oracle depends on nothing it checks."""

IDENTITY, RELU, LEAKY_RELU, TANH, SIGMOID, GELU, SILU, SIGN, SOFTMAX, EXP = range(10)
SOFTMAX_XENT, SIGMOID_XENT, SQUARED_ERROR, HUBER, ABSOLUTE_ERROR, POISSON, QUANTILE = range(7)
SGD, MOMENTUM, NESTEROV, RMSPROP, ADAM, ADAMW, ADAM_EPS, GRADIENT = range(8)
