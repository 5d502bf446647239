"""Loss codes: what kernels receive; `NAMES[code]` is what people write. Formulas: `kernels`."""

NAMES = ("softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error", "huber", "absolute_error", "poisson",
         "quantile")
SOFTMAX_XENT, SIGMOID_XENT, SQUARED_ERROR, HUBER, ABSOLUTE_ERROR, POISSON, QUANTILE = range(len(NAMES))
