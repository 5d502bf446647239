"""scikit-learn's callbacks (`sklearn.callback`, from 1.9 on): every epoch of `fit` is a task they are told of."""
try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9 has no callbacks
    class CallbackSupportMixin:
        """Nothing to support."""

    def with_callbacks(method):
        return method

__all__ = ["CallbackSupportMixin", "Tasks", "with_callbacks"]


class Tasks:
    """The epochs of one `fit` as its callbacks see them; false, and free, where the estimator has none."""

    def __init__(self, estimator, X, y, sample_weight, fitted, enabled):
        self.fit = self.epoch = None
        if not enabled or not getattr(estimator, "_skl_callbacks", None):
            return
        context = estimator._init_callback_context(max_subtasks=_most_tasks(estimator))
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        self.given = {"estimator": estimator, "X": X, "y": y, "metadata": metadata, "reconstruction_attributes": fitted}
        self.fit = context.call_on_fit_task_begin(**self.given)

    def __bool__(self):
        return self.fit is not None

    def begin(self):
        """An epoch begins."""
        if self:
            self.epoch = self.fit.subcontext(task_name="epoch").call_on_fit_task_begin(**self.given)

    def end(self):
        """An epoch has ended; returns whether a callback asks to stop."""
        return bool(self and self.epoch.call_on_fit_task_end(**self.given))

    def close(self):
        """`fit` has ended."""
        if self:
            self.fit.call_on_fit_task_end(**self.given)


def _most_tasks(estimator):
    # scipy calls back after each iteration, when the next one is not yet known to come: one task more.
    return estimator.max_iter + (getattr(estimator, "solver", None) == "lbfgs")
