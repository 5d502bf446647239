"""Loss codes: what kernels receive; `NAMES[code]` is what people write. Formulas: `kernels`."""

NAMES = ("softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error")
SOFTMAX_XENT, SIGMOID_XENT, SQUARED_ERROR = range(len(NAMES))
