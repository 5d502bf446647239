"""The solvers of `MLPClassifier` and `MLPRegressor`: scikit-learn's loops around the compiled epoch.

scikit-learn's loss and its gradient are the kernels' times a factor, for it sums over outputs where the kernels take
the mean. No kernel knows: with g' = c g, a step of gradient descent at rate η is one at rate c η, and one of Adam is
the same with ε / c; the penalty alpha, which is no part of g, is passed on as alpha / c.
"""
import warnings
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ..kernels import losses, update_rules
from ..kernels.flat import views

SPARSE_BLOCK = 4096   # rows of a sparse X made dense at a time
LBFGS_BATCH = 1024    # rows whose gradients are summed at a time: the buffers stay small, whatever X's length


@dataclass(frozen=True)
class Net:
    """What is trained, as the kernels name it; and what scikit-learn calls its loss.

    shown : its loss is that of the kernels times this; factor : its gradient is theirs times this
    alpha : it adds ½ alpha Σ w² to the sum of a batch's losses
    """

    sizes: tuple
    activations: tuple           # codes; the last is IDENTITY where the loss holds the link
    dropout: tuple               # a rate for each layer, the last 0
    loss: int
    loss_parameter: float
    alpha: float

    @property
    def factor(self):
        if self.loss == losses.SOFTMAX_CROSS_ENTROPY:
            return 1.0
        return self.sizes[-1] * (0.5 if self.loss == losses.SQUARED_ERROR else 1.0)

    @property
    def shown(self):
        return {losses.SIGMOID_CROSS_ENTROPY: self.factor, losses.POISSON: self.factor, losses.SQUARED_ERROR: 0.5}.get(
            self.loss, 1.0)


class Source:
    """Rows that a kernel package trains on: x (n, features) dense, or CSR and then made dense block by block."""

    def __init__(self, kernels, x, labels, targets, weights):
        self.kernels, self.x, self.labels_and_targets = kernels, x, (labels, targets, weights)
        self.weight = float(weights.sum(dtype=np.float64)) if weights.size else float(x.shape[0])
        self.sparse = not isinstance(x, np.ndarray)

    def __len__(self):
        return self.x.shape[0]

    def _blocks(self, order, length):
        for start in range(0, len(order), length):
            rows = order[start:start + length]
            yield start, (self.x[rows].toarray(), *(a[rows] if a.size else a for a in self.labels_and_targets))

    def train(self, state, order, rates, batch):
        """`train_epoch` over the rows `order`."""
        if not self.sparse:
            return self.kernels.train_epoch(state, self.x, *self.labels_and_targets, order, rates)
        totals, length = np.zeros(3), max(1, SPARSE_BLOCK // batch) * batch
        for start, block in self._blocks(order, length):
            block_rates = rates[start // batch:-(-(start + len(block[0])) // batch)]
            totals += self.kernels.train_epoch(state, *block, np.arange(len(block[0])), block_rates)
        return tuple(totals.tolist())

    def evaluate(self, state):
        """`evaluate` over all rows."""
        if not self.sparse:
            return self.kernels.evaluate(state, self.x, *self.labels_and_targets)
        return tuple(sum(np.array(self.kernels.evaluate(state, *block))
                         for _, block in self._blocks(np.arange(len(self)), SPARSE_BLOCK)).tolist())


@dataclass
class Optimizer:
    """The rule of a step, its rate, and what it remembers between calls of `partial_fit`."""

    rule: int
    hyper: np.ndarray
    learning_rate: float
    schedule: str = "constant"
    step: int = 0
    slots: list = field(default_factory=list)

    @classmethod
    def of(cls, estimator, net):
        rate = estimator.learning_rate_init
        if estimator.solver == "adam":
            hyper = np.array([estimator.beta_1, estimator.beta_2, estimator.epsilon / net.factor, 0.0])
            return cls(update_rules.ADAM_EPS, hyper, rate)
        rule = update_rules.SGD
        if estimator.momentum:
            rule = update_rules.NESTEROV if estimator.nesterovs_momentum else update_rules.MOMENTUM
        return cls(rule, np.array([estimator.momentum, 0.0, 0.0, 0.0]), rate, estimator.learning_rate)

    def rates(self, steps, net):
        scale = 1.0 if self.rule == update_rules.ADAM_EPS else net.factor
        return np.full(steps, self.learning_rate * scale)

    def into(self, kernels, state):
        if self.step:
            kernels.write_optimizer(state, self.step, *self.slots)

    def keep(self, kernels, state, parameters):
        used = update_rules.SLOTS[self.rule]
        self.step = state.step
        self.slots = [np.empty(parameters.size if used > i else 0, parameters.dtype) for i in range(2)]
        kernels.read_optimizer(state, *self.slots)

    def stops(self, message, verbose):
        """Whether training ends when no progress is seen; an adaptive rate is lowered first."""
        words = " Stopping."
        if self.schedule == "adaptive":
            words = " Learning rate too small. Stopping."
            if self.learning_rate > 1e-6:
                self.learning_rate /= 5.0
                words = f" Setting learning rate to {self.learning_rate:f}"
        if verbose:
            print(message + words)
        return "Stopping" in words


def squares(net, parameters):
    """Σ w² over the weights, not the biases."""
    return sum(float(np.dot(w, w)) for w in map(np.ravel, views(parameters, net.sizes)[0]))


def fit_stochastic(estimator, net, parameters, source, validation, score, tasks, incremental, n_threads):
    """Epochs of Adam or gradient descent until scikit-learn's rules say stop; `parameters` (flat) are trained in place.

    validation : a Source whose loss makes up val_loss_curve_, or None; score : () -> float of the rows that early
    stopping watches, or None; tasks : callbacks.Tasks; incremental : one epoch, as `partial_fit`
    """
    est, kernels = estimator, source.kernels
    n = len(source)
    batch = min(200, n) if est.batch_size == "auto" else est.batch_size
    if batch > n:
        warnings.warn("Got `batch_size` less than 1 or larger than sample size. It is going to be clipped",
                      stacklevel=4)
    batch = int(min(batch, n))
    steps = -(-n // batch)
    begun = Optimizer.of(est, net)
    if not incremental or not hasattr(est, "_optimizer") or est._optimizer.rule != begun.rule:
        est._optimizer = begun
    optimizer = est._optimizer
    seed = int(est._random_state.randint(np.iinfo(np.int32).max)) if any(net.dropout) else 0
    state = kernels.prepare(
        parameters, net.sizes, net.activations, dropout=net.dropout, loss=net.loss, rule=optimizer.rule,
        hyper=optimizer.hyper, l2=0.0, batch_size=batch, scale=1.0, seed=seed, n_threads=n_threads,
        alpha=est.alpha / net.factor, loss_parameter=net.loss_parameter)
    optimizer.into(kernels, state)

    order, norm = np.arange(n), squares(net, parameters)
    est.n_iter_ = 0
    try:
        for _ in range(est.max_iter):
            tasks.begin()
            if est.shuffle:
                places = np.arange(n)
                est._random_state.shuffle(places)      # as sklearn.utils.shuffle draws
                order = order[places]
            loss_sum, _, weight_sum = source.train(state, order, optimizer.rates(steps, net), batch)
            kernels.read_parameters(state, parameters)
            norm_before, norm = norm, squares(net, parameters)
            # The norm that the steps met, taken to change evenly along the epoch: each step met the one before it.
            met = norm_before + (norm - norm_before) * (steps - 1) / (2 * steps)
            est.loss_ = (net.shown * loss_sum + 0.5 * est.alpha * met * steps) / weight_sum if weight_sum else np.nan
            est.n_iter_ += 1
            est.t_ += n
            est.loss_curve_.append(est.loss_)
            if est.verbose:
                print(f"Iteration {est.n_iter_}, loss = {est.loss_:.8f}")
            if validation is not None:
                val_sum, _, val_weight = validation.evaluate(state)
                est.val_loss_curve_.append(net.shown * val_sum / val_weight)
            _count(est, parameters, score)
            if optimizer.schedule == "invscaling":
                optimizer.learning_rate = est.learning_rate_init / (est.t_ + 1) ** est.power_t
            stop = tasks.end()
            if est._no_improvement_count > est.n_iter_no_change:
                what = "Validation score" if score is not None else "Training loss"
                stop |= optimizer.stops(f"{what} did not improve more than tol={est.tol:f} for {est.n_iter_no_change} "
                                        "consecutive epochs.", est.verbose)
                est._no_improvement_count = est._no_improvement_count if stop else 0
            if stop or incremental:
                break
            if est.n_iter_ == est.max_iter:
                warnings.warn(f"Stochastic Optimizer: Maximum iterations ({est.max_iter}) reached and the optimization "
                              "hasn't converged yet.", ConvergenceWarning, stacklevel=4)
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=4)
        kernels.read_parameters(state, parameters)
    optimizer.keep(kernels, state, parameters)
    if score is not None:
        parameters[:] = est._best_parameters


def _count(est, parameters, score):
    """Epochs without improvement, of the score where there is one, else of the training loss."""
    if score is None:
        worse = est.loss_ > est.best_loss_ - est.tol
        if est.loss_ < est.best_loss_:
            est.best_loss_ = est.loss_
    else:
        value = score()
        est.validation_scores_.append(value)
        if est.verbose:
            print(f"Validation score: {value:f}")
        worse = value < est.best_validation_score_ + est.tol
        if value > est.best_validation_score_:
            est.best_validation_score_ = value
            est._best_parameters = parameters.copy()
    est._no_improvement_count = est._no_improvement_count + 1 if worse else 0


def fit_lbfgs(estimator, net, parameters, source, tasks, n_threads):
    """L-BFGS over the compiled loss and gradient of all rows, in float64; `parameters` (flat) are trained in place.

    The rule GRADIENT sums each batch's gradient times the batch's weight, which is its rate: no step is taken.
    """
    from scipy import optimize

    est, kernels, n = estimator, source.kernels, len(source)
    batch, order = min(n, LBFGS_BATCH), np.arange(n)
    weights = source.labels_and_targets[2].astype(np.float64) if source.labels_and_targets[2].size else np.ones(n)
    rates = np.add.reduceat(weights, np.arange(0, n, batch))
    state = kernels.prepare(
        parameters.astype(np.float64), net.sizes, net.activations, dropout=net.dropout, loss=net.loss,
        rule=update_rules.GRADIENT, hyper=np.zeros(4), l2=0.0, batch_size=batch, scale=1.0, seed=0,
        n_threads=n_threads, loss_parameter=net.loss_parameter)
    penalised = np.concatenate([np.arange((k + 1) * m) < k * m for k, m in pairwise(net.sizes)])
    zeros, unused = np.zeros(parameters.size), np.empty(0)

    def objective(flat):
        kernels.write_parameters(state, flat)
        kernels.write_optimizer(state, 0, zeros, unused)
        loss_sum, _, weight_sum = source.train(state, order, rates, batch)
        gradient = np.empty(flat.size)
        kernels.read_optimizer(state, gradient, unused)
        pulled = est.alpha * flat * penalised
        return ((net.factor * loss_sum + 0.5 * (flat @ pulled)) / weight_sum,
                (net.factor * gradient + pulled) / weight_sum)

    def after_iteration(flat):
        parameters[:] = flat
        if tasks.end():
            raise StopIteration
        tasks.begin()

    tasks.begin()
    result = optimize.minimize(objective, parameters.astype(np.float64), method="L-BFGS-B", jac=True,
                               callback=after_iteration if tasks else None,
                               options={"maxfun": est.max_fun, "maxiter": est.max_iter, "gtol": est.tol})
    parameters[:] = result.x
    tasks.end()
    penalty = 0.5 * est.alpha * squares(net, result.x) / source.weight
    est.n_iter_ = min(int(result.nit), est.max_iter)
    est.loss_ = float(result.fun - penalty) * net.shown / net.factor + penalty
    if est.verbose:
        print(f"L-BFGS: {est.n_iter_} iterations, {result.nfev} evaluations, loss = {est.loss_:.8f}")
    if result.status != 0:
        more = f"\n\nIncrease the number of iterations to improve the convergence (max_iter={est.max_iter})."
        warnings.warn(
            f"lbfgs failed to converge after {est.n_iter_} iteration(s) (status={result.status}):\n{result.message}"
            f"{more if est.n_iter_ == est.max_iter else ''}\nScaling the columns of X may help.", ConvergenceWarning,
            stacklevel=4)
