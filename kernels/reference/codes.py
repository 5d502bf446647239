"""The integers the kernels receive, restated so that the oracle depends on nothing it checks."""

IDENTITY, RELU, LEAKY_RELU, TANH, SIGMOID, GELU, SILU, SIGN, SOFTMAX = range(9)
SOFTMAX_XENT, SIGMOID_XENT, SQUARED_ERROR = range(3)
SGD, MOMENTUM, NESTEROV, RMSPROP, ADAM, ADAMW = range(6)
