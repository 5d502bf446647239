"""MLP: a trained (or hand-made) multi-layer perceptron.

All weights and biases live in one flat array, `parameters`; `weights[l]` (n_in, n_out) and `biases[l]` (n_out,)
are views into it, in the layout the kernels read: W of the first layer in row-major order, its b, the next W, ...
"""
import math

import numpy as np

from .. import checks, device
from ..export.libraries import to_keras, to_sklearn, to_torch
from ..export.numpy_module import export_numpy
from ..export.onnx_model import to_onnx
from ..input.arrays import chosen, empty, keep_on_gpu, like_input, on_device_of, on_host, own_dtype, to_float
from ..input.labels import Task
from ..input.rows import Rows, read_features, read_rows
from ..input.stored import WINDOW_BYTES, StoredRows, is_stored, pieces, predict_in_windows
from ..kernels import activations as act
from ..kernels import flat, losses
from .history import History
from .saving import save
from .tasks import OUTPUT_OF_LOSS, task_of_output


class MLP:
    """A multi-layer perceptron: y = f_L(... f_1(scale x W₁ + b₁) ... W_L + b_L).

    `fastmlp.train` makes one from data, `MLP.from_parameters` from weights, `fastmlp.load` from a file.

    Attributes
    ----------
    sizes : tuple of int, the widths from input to output
    activations : tuple of str, one for each hidden layer
    output : str, the activation of the last layer: "softmax", "sigmoid", "identity", or any other
    parameters : (n_parameters,) float32 or float64, every weight and bias. Training puts a new array here after every
        epoch and leaves the one before as it was
    weights, biases : tuples of views into `parameters`, shaped (n_in, n_out) and (n_out,)
    classes : (K,) the labels `predict` gives back; None for multilabel and for numbers
    loss : str or None, what `evaluate` computes
    scale : float the input is multiplied by: 1/255 after training on 8-bit images
    scaling : input.scaling.InputScaling or None: plain arrays `center` and `factor` (features,) and a number `clip`;
        scaling(x) is what the first layer reads instead of x, in training and in prediction
    spread : float, a power of two: what y was divided by in training; `parameters` have it multiplied in again
    offset : (outputs,) float64 or None: the mean of y, where scaling="robust" took it off because the net's dtype could
        not hold it and y's differences in one number; `predict` adds it, and its predictions are then float64
    feature_names : tuple of str or None, the columns of the frame trained on
    dropout : tuple of float, the rates used in training, one for each hidden layer
    history : History, the numbers of every epoch of training
    seed : int or None, the seed of the last training
    device, n_threads : where and on how many threads predictions are computed, as in `fastmlp.train`
    """

    def __init__(self, sizes, activations, output, *, dtype="float32", task=None, scale=1.0, feature_names=None,
                 dropout=None):
        self.sizes = tuple(sizes)
        self.activations = tuple(activations)
        self.output = output
        self.task = task if task is not None else Task(None, self.sizes[-1])
        self.scale = float(scale)
        self.scaling, self.spread, self.offset = None, 1.0, None
        self.feature_names = feature_names
        self.dropout = tuple(dropout) if dropout is not None else (0.0,) * len(self.activations)
        self.history = History()
        self.seed = None
        self.optimizer_state = None  # what continued training takes up: optimizers.OptimizerState
        self.device, self.n_threads = "auto", None
        n_parameters, dtype = flat.n_parameters(self.sizes), checks.dtype(dtype)
        checks.affordable(n_parameters * dtype.itemsize, f"sizes: {n_parameters:,} parameters need",
                          "use narrower layers")
        self.publish(np.zeros(n_parameters, dtype))

    def publish(self, parameters):
        """Take `parameters` (n_parameters,) of the net's dtype, which the caller writes to no more, as the weights.

        The arrays are replaced at once and never written to by training: a thread that predicts, saves or converts
        meanwhile has all the weights of one epoch, and a model whose weights are a read-only memory map can be trained.
        """
        parameters = np.ascontiguousarray(parameters)   # of NumPy's own class: no np.memmap, whose copies are such too
        self._arrays = parameters, *flat.views(parameters, self.sizes)

    def arrays(self):
        """(parameters, weights, biases) that belong together, whatever another thread publishes."""
        return self._arrays

    @property
    def parameters(self):
        return self._arrays[0]

    @parameters.setter
    def parameters(self, parameters):
        shape, dtype = (getattr(parameters, name, None) for name in ("shape", "dtype"))
        if (shape, dtype) != (self.parameters.shape, self.dtype):
            raise ValueError(f"parameters must be an array of shape {self.parameters.shape} and dtype {self.dtype}, "
                             f"got {dtype or type(parameters).__name__} of shape {shape}")
        self.publish(parameters)

    @property
    def weights(self):
        return self._arrays[1]

    @property
    def biases(self):
        return self._arrays[2]

    @classmethod
    def from_parameters(cls, weights, biases, *, activation="relu", output="softmax", classes=None, scale=1.0):
        """An MLP with the weights given (copied).

        Parameters
        ----------
        weights : one array (n_in, n_out) per layer; biases : one (n_out,) per layer
        activation : one name for all hidden layers, or one per hidden layer
        output : the last layer's: "softmax", "sigmoid", "identity", "sign" or any other activation
        classes : the labels that `predict` gives back, sorted as the outputs; softmax and one sigmoid default to
            0, 1, ...
        scale : what the input is multiplied by

        The net computes in float64 if all weights and biases are float64, else in float32.

        Raises
        ------
        ValueError for shapes that do not fit each other, weights that are not finite and unknown names.

        Examples
        --------
        The lecture's threshold unit, h(x) = sign(12 x₁ + 5 x₂ - 10):

        >>> unit = fastmlp.MLP.from_parameters([[[12], [5]]], [[-10]], output="sign")
        >>> unit.predict([[0, 0], [0, 1], [1, 0], [1, 1]])
        array([-1., -1.,  1.,  1.], dtype=float32)
        """
        weights = [np.asarray(w) for w in weights]
        biases = [np.asarray(b) for b in biases]
        if not weights or len(weights) != len(biases):
            raise ValueError(f"weights and biases must have one array per layer, got {len(weights)} and {len(biases)}")
        for l, (w, b) in enumerate(zip(weights, biases, strict=True)):
            before = weights[l - 1].shape[-1] if l else None
            if w.ndim != 2 or 0 in w.shape or w.dtype.kind not in "biuf" or (l and w.shape[0] != before):
                raise ValueError(f"weights[{l}] must be numbers of shape ({before or 'n_in'}, n_out), "
                                 f"got {w.dtype} of shape {w.shape}")
            if b.shape != w.shape[1:] or b.dtype.kind not in "biuf":
                raise ValueError(f"biases[{l}] must be {w.shape[1]} numbers, got {b.dtype} of shape {b.shape}")
        sizes = (weights[0].shape[0], *(w.shape[1] for w in weights))
        hidden = checks.per_layer("activation", activation, len(sizes) - 2,
                                  lambda name, value: checks.choice(name, value, act.HIDDEN))
        checks.choice("output", output, act.NAMES)
        double = all(array.dtype == np.float64 for array in (*weights, *biases))
        model = cls(sizes, hidden, output, dtype="float64" if double else "float32",
                    task=task_of_output(output, sizes[-1], classes), scale=checks.real("scale", scale))
        for l in range(len(weights)):
            model.weights[l][:] = to_float(weights[l], f"weights[{l}]", model.dtype)
            model.biases[l][:] = to_float(biases[l], f"biases[{l}]", model.dtype)
        return model

    @property
    def n_parameters(self):
        """How many numbers training can change."""
        return self.parameters.size

    @property
    def dtype(self):
        return self.parameters.dtype

    @property
    def classes(self):
        return self.task.classes

    @property
    def loss(self):
        return self.task.loss

    def predict(self, X, out=None):
        """The net's predictions.

        Parameters
        ----------
        X : (n, features), of any numeric dtype, or a frame with the columns of training. An array on a GPU (CuPy's,
            PyTorch's) is answered by one of its kind unless labels are text; if the net's device is that GPU, and
            CuPy's current one, it does not leave it. A memory map (or a dataset of h5py or zarr, a dask array) larger
            than 128 MiB is read piece by piece.
        out : array or memory map that the predictions are written to and which is returned; of their shape, and of a
            dtype that holds them: all labels as they are, numbers to its own rounding. It may be X, but must not
            overlap it otherwise. None makes a new array.

        Returns
        -------
        (n,) labels in their own type for classes; (n, outputs) int64 of 0 and 1 for multilabel; else the outputs in
        the net's dtype (float64 if the net has an `offset`), (n,) if it was trained on one-dimensional y or has a
        single hand-made output, (n, outputs) otherwise.

        Examples
        --------
        >>> model = fastmlp.train([[0.0], [1.0], [2.0], [3.0]], ["low", "low", "high", "high"], hidden=(),
        ...                       learning_rate=0.1, epochs=100, seed=1, device="reference")
        >>> print(*model.predict([[-1], [5]]))
        low high
        """
        output = "identity" if self.task.kind != "numbers" else self.output
        if out is not None and self.task.kind == "classes":
            checks.holds("out", out, self.classes)
        parameters = self.parameters            # of one epoch for all rows
        return self._predictions(X, out, lambda x: self._decide(self._outputs(x, output, parameters)))

    def _decide(self, z):
        """The predictions that outputs z (n, outputs) stand for."""
        if self.task.kind == "multilabel":
            return (z > 0).astype(np.int64)
        if self.task.kind == "classes":
            return chosen(self.classes, z.argmax(axis=1) if z.shape[1] > 1 else (z[:, 0] > 0).astype(np.int64))
        z = self._shifted(z)
        return z[:, 0] if self.task.flat else z

    def _shifted(self, z):
        """Outputs with the offset added."""
        return z if self.offset is None else z.astype(np.float64) + on_device_of(self.offset, z)

    def predict_proba(self, X, out=None):
        """The probability of every class, (n, K) in the order of `classes`; for multilabel, of each label (n, labels).

        X, out : as in `predict`

        Raises
        ------
        ValueError if the net's outputs are no probabilities.
        """
        if self.output not in ("softmax", "sigmoid"):
            raise ValueError(f"predict_proba needs an output of 'softmax' or 'sigmoid'; this net has {self.output!r}")
        parameters = self.parameters
        if self.output == "softmax" or self.task.kind != "classes":
            return self._predictions(X, out, lambda x: self._outputs(x, self.output, parameters))
        return self.opposite_probabilities(X, out)

    def opposite_probabilities(self, X, out=None):
        """Of sigmoid outputs, (n, 2 · outputs): the probability that each is 0, then that it is 1."""
        parameters = self.parameters
        return self._predictions(X, out, lambda x: both_probabilities(self._outputs(x, "identity", parameters)))

    def evaluate(self, X, y, sample_weight=None):
        """The mean loss, and the accuracy where there are classes, over the rows of X.

        Parameters
        ----------
        X : as in `predict`; y : as in training: labels, one-hot rows, 0/1 columns or numbers
        sample_weight : (n,) weights of the loss; the accuracy counts every row once, as in training

        Returns
        -------
        {"loss": float, "accuracy": float}; {"loss": float} for numbers
        """
        if self.loss is None:
            raise ValueError(f"evaluate: a net with output {self.output!r} has no loss; compare predict(X) with y")
        X, y = keep_on_gpu(X, y, device.gpu_of(self.device))
        return self.evaluate_rows(read_rows(self._read(X), y, sample_weight, self.task, self.dtype, wide=True))

    def _read(self, X):
        """X checked, as the kernels or the net's own scaling read it; in windows if it is stored and large."""
        dtype = own_dtype(X, self.dtype) if self.scaling is not None and is_stored(X) else self.dtype
        return read_features(X, "X", self.dtype, self, predict_in_windows(X, "X", dtype))[0]

    def evaluate_rows(self, rows):
        """As `evaluate`, of rows that are checked already (`input.rows.Rows`)."""
        parameters = self.parameters
        if len(rows) <= self._rows_at_a_time and not isinstance(rows.x, StoredRows):
            return self.score_outputs(self._shifted(self._outputs(rows.x, self.trained_output, parameters)), rows)
        scores, weights, counts = [], [], []
        for indices, x in pieces(rows.x, self._rows_at_a_time):
            part = Rows(x, *rows.take_labels(indices))
            scores.append(self.score_outputs(self._shifted(self._outputs(x, self.trained_output, parameters)), part))
            weights.append(part.weights.sum(dtype=np.float64) if part.weights.size else len(indices))
            counts.append(len(indices))
        means = {"loss": weights, "accuracy": counts}
        return {name: float(np.average([score[name] for score in scores], weights=means[name])) for name in scores[0]}

    def score_outputs(self, z, rows):
        """Loss and accuracy of outputs z (n, outputs) under `trained_output`, the offset added, for checked rows."""
        kernels = device.kernels(self.device)
        if self.task.kind == "numbers":
            # In float64: in float32 the square of 1e20 is infinite, that of 1e-30 zero.
            z, targets, weights = (array.astype(np.float64) for array in (z, rows.targets, rows.weights))
            if self.loss == "squared_error":
                return {"loss": float(kernels.squared_error(z, targets, weights, z))}
            return {"loss": float(kernels.pointwise_loss(losses.NAMES.index(self.loss), self.task.loss_parameter, z,
                                                         targets, weights, z))}
        dz = empty(z.shape, z.dtype, z)
        if self.output == "softmax":
            loss = kernels.softmax_cross_entropy(z, rows.labels, rows.targets, rows.weights, dz)
            correct = z.argmax(axis=1) == on_device_of(rows.class_indices(), z)
        else:
            loss = kernels.sigmoid_cross_entropy(z, rows.targets, rows.weights, dz)
            correct = (z > 0) == on_device_of(rows.targets > 0.5, z)
        return {"loss": float(loss), "accuracy": float(correct.mean())}

    @property
    def trained_output(self):
        """What the last layer computes before the loss: the cross-entropies and Poisson hold their own link."""
        return "identity" if OUTPUT_OF_LOSS.get(self.loss, "identity") != "identity" else self.output

    def activation_codes(self, output=None):
        """The kernels' codes of every layer's activation, the last layer's being `output` if given."""
        return tuple(act.NAMES.index(name) for name in (*self.activations, output or self.output))

    def _predictions(self, X, out, predict):
        """predict(x), an array with a row for each of x's, for all of X, in memory or piece by piece, written into
        `out` if given."""
        kept, _ = keep_on_gpu(X, None, device.gpu_of(self.device) if out is None else None)
        x = self._read(kept)
        checks.apart("out", out, X if isinstance(X, np.ndarray) else x, self.parameters)
        if out is None and not isinstance(x, StoredRows) and len(x) <= self._rows_at_a_time:
            return like_input(predict(x), X)
        predictions, start = out, 0
        for _, part in pieces(x, self._rows_at_a_time):
            values = predict(part)
            if start == 0:
                shape = (len(x), *values.shape[1:])
                predictions = room_for(shape, values.dtype) if out is None else checks.output("out", out, shape,
                                                                                           values.dtype)
            predictions[start:start + len(values)] = _cast(values, predictions.dtype)
            start += len(values)
        return like_input(predictions, X) if out is None else out

    @property
    def _rows_at_a_time(self):
        """Rows whose outputs take WINDOW_BYTES: a million classes are predicted without the outputs of all rows."""
        return max(1, WINDOW_BYTES // (self.sizes[-1] * self.dtype.itemsize))

    def _outputs(self, x, output, parameters):
        """The last layer's outputs for a checked x, under the activation `output`."""
        kernels, codes, n_threads = device.kernels(self.device), self.activation_codes(output), \
            device.threads(self.n_threads)
        x = x if self.scaling is None else on_host(x)
        out = empty((len(x), self.sizes[-1]), self.dtype, x)
        rows = len(x) if self.scaling is None else self.scaling.rows_at_a_time  # no scaled copy of all of them
        for start in range(0, len(x), rows):
            part = x if self.scaling is None else self.scaling(x[start:start + rows])
            kernels.forward(parameters, self.sizes, codes, part, self.scale, n_threads, out[start:start + rows])
        return out

    def as_njit(self):
        """This net as a function of one row, for compiled code: ``net(row, out)`` inside any ``@numba.njit`` function.

        Returns
        -------
        RowNet, a copy of the weights as they are now. ``net(row, out)`` writes the last layer's outputs for
        row (n_in,), any numeric dtype, into out (n_out,), float32 or float64: probabilities in the order of
        `classes` for softmax, that of ``classes[1]`` for a single sigmoid. It allocates nothing, and works in
        parallel and nogil code and from Python.

        Pass it to your function as an argument: with ``cache=True`` your machine code is then kept and serves every
        net of the same widths and activations. Used as a global or closure variable it works as well, but Numba
        warns that it cannot cache such a function.

        Computed in the net's dtype, on the CPU; an input scale (uint8 images) and `scaling` are part of it. Against the
        same weights in float64 the outputs differ as those of `predict_proba` do, by rounding.

        Raises
        ------
        ValueError for a layer of more than 32,768 float32 units (16,384 float64): a row's layers live on the stack.

        Examples
        --------
        >>> import numba
        >>> model = fastmlp.MLP.from_parameters([[[12.0], [5.0]]], [[-10.0]], output="sign")
        >>> @numba.njit
        ... def positive(net, X):
        ...     out, count = np.empty(1), 0
        ...     for row in X:
        ...         net(row, out)
        ...         count += out[0] > 0
        ...     return count
        >>> positive(model.as_njit(), np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]]))
        2
        """
        from ..kernels.cpu.net.row import RowNet
        clipping = None if self.scaling is None else (self.scaling.center, self.scaling.factor, self.scaling.clip,
                                                      np.zeros(self.sizes[-1]) if self.offset is None else self.offset)
        return RowNet(self.parameters, self.sizes, self.activation_codes(), self.scale, clipping)

    def export_numpy(self, path):
        """Write this net as one Python file with ``predict(X)`` and ``outputs(X)`` that needs NumPy and nothing else.

        Examples
        --------
        >>> model = fastmlp.MLP.from_parameters([[[12.0], [5.0]]], [[-10.0]], output="sign")
        >>> model.export_numpy("unit.py")
        >>> import runpy
        >>> unit = runpy.run_path("unit.py")
        >>> unit["predict"]([[0, 0], [1, 0]])
        array([-1.,  1.])
        """
        export_numpy(self, path)

    def to_onnx(self, path, *, input_dtype=None):
        """Write this net as an ONNX file (operator set 17); needs ``pip install 'fastmlp[onnx]'``.

        input_dtype : dtype of the input "X" (rows, n_in): the net's own, "uint8", or "float64" where the net scales;
            None: "uint8" if the net was trained on 8-bit images, "float64" if it scales columns that float32 would
            round too coarsely (such as UNIX times), else the net's own. The scaling is part of the file.
        The output "outputs" (rows, n_out) holds the last layer's outputs: probabilities for softmax and sigmoid, in
        the order of the labels that the file's metadata keep as JSON under "classes". A float64 net's GELU takes erf
        in float32, the only one that runtimes have.
        """
        to_onnx(self, path, input_dtype=input_dtype)

    def to_torch(self):
        """This net as a `torch.nn.Sequential` in evaluation mode; `fastmlp.from_torch` is the way back.

        The last activation is part of it, and the input's scale is multiplied into the first weights.
        Raises ValueError for an activation that PyTorch lacks.
        """
        return to_torch(self)

    def to_keras(self):
        """This net as a `keras.Sequential`, as `to_torch`; `fastmlp.from_keras` is the way back."""
        return to_keras(self)

    def to_sklearn(self):
        """This net as a fitted scikit-learn `MLPClassifier` or `MLPRegressor`; `fastmlp.from_sklearn` is the way back.

        Raises ValueError for what scikit-learn's estimators cannot be: activations that differ between layers or are
        none of identity, sigmoid, tanh and relu.
        """
        return to_sklearn(self)

    def summary(self):
        """The layers as a table, in the shape of Keras.

        Examples
        --------
        >>> print(fastmlp.MLP((784, 10, 10), ("relu",), "softmax").summary())
        Model: MLP
        _________________________________________________________________
        Layer (type)                    Output Shape              Param #
        =================================================================
        dense_1 (Dense, relu)           (None, 10)                  7,850
        dense_2 (Dense, softmax)        (None, 10)                    110
        =================================================================
        Total params: 7,960
        Trainable params: 7,960
        Non-trainable params: 0
        _________________________________________________________________
        """
        def row(layer, shape, count):
            return f"{layer:<32}{shape:<16}{count:>17}"

        lines = ["Model: MLP", "_" * 65, row("Layer (type)", "Output Shape", "Param #"), "=" * 65]
        rates = (*self.dropout, 0.0)
        for l, (name, rate) in enumerate(zip((*self.activations, self.output), rates, strict=True), 1):
            n_in, n_out = self.sizes[l - 1:l + 1]
            lines.append(row(f"dense_{l} (Dense, {name})", f"(None, {n_out})", f"{(n_in + 1) * n_out:,}"))
            if rate:
                lines.append(row(f"dropout_{l} (Dropout, {rate:g})", f"(None, {n_out})", "0"))
        return "\n".join([*lines, "=" * 65, f"Total params: {self.n_parameters:,}",
                          f"Trainable params: {self.n_parameters:,}", "Non-trainable params: 0", "_" * 65])

    def save(self, path):
        """Write everything `predict` needs to a safetensors file, atomically. `fastmlp.load` reads it."""
        save(self, path)

    def __repr__(self):
        layers = "-".join(map(str, self.sizes))
        names = ", ".join((*dict.fromkeys(self.activations), self.output))
        return f"MLP({layers}, {names}, {self.n_parameters:,} parameters, {self.dtype})"

    def __getstate__(self):
        state = self.__dict__.copy()
        state["parameters"], *_ = state.pop("_arrays")  # weights and biases are views into a copy's own parameters
        return state

    def __setstate__(self, state):
        state = {"offset": None} | state        # an older model's is in its last biases
        parameters = state.pop("parameters")
        self.__dict__.update(state)
        self.publish(parameters)


def both_probabilities(z):
    """σ(-z) and σ(z), side by side. 1 - σ(z) would be 0 from z = 18 on in float32."""
    e = np.exp(np.negative(np.abs(z)))
    likely = np.reciprocal(e + 1)
    unlikely = e * likely
    return np.hstack([np.where(z > 0, unlikely, likely), np.where(z > 0, likely, unlikely)])


def _cast(values, dtype):
    """`values` in the dtype of `out`; ValueError where a number is too large for it."""
    if values.dtype == dtype:
        return values
    try:
        with np.errstate(over="raise"):
            return values.astype(dtype)
    except FloatingPointError:
        raise ValueError(f"out has dtype {dtype}, which cannot hold predictions up to {np.abs(values).max():.4g}; use "
                         f"{values.dtype}") from None


def room_for(shape, dtype):
    """An array for predictions of this shape; ValueError if the machine does not have that much memory."""
    checks.affordable(math.prod(shape) * dtype.itemsize, f"X: predictions of shape {shape} need",
                      "pass fewer rows at a time, or out= a memory map")
    return np.empty(shape, dtype)
