"""What training did, epoch by epoch."""
import math


class History:
    """Numbers of every epoch.

    Attributes
    ----------
    epochs : list of int, counted from 1 over all training of the model
    duration : float, seconds of training so far, without compilation
    compile_seconds : float, seconds spent compiling kernels before training
    interrupted : bool, whether Ctrl-C ended the last training
    stopped : str or None, why the last training ended before its last epoch ("early_stopping", "callback")
    best_epoch : int or None, the epoch whose weights early stopping restored

    Examples
    --------
    >>> history = fastmlp.History()
    >>> history.append({"loss": 0.7, "accuracy": 0.5}), history.append({"loss": 0.4, "accuracy": 0.9})
    (1, 2)
    >>> history["loss"], list(history.keys()), len(history)
    ([0.7, 0.4], ['loss', 'accuracy'], 2)
    """

    def __init__(self):
        self.epochs = []
        self.duration = 0.0
        self._columns = {}
        self.begin()

    def begin(self, compile_seconds=0.0):
        """Another training begins."""
        self.compile_seconds = compile_seconds
        self.interrupted, self.stopped, self.best_epoch = False, None, None

    def append(self, numbers):
        """Add an epoch and return its number. What is missing from this or from earlier epochs reads NaN there."""
        for name in numbers:
            self._columns.setdefault(name, [math.nan] * len(self.epochs))
        for name, column in self._columns.items():
            column.append(float(numbers.get(name, math.nan)))
        self.epochs.append(len(self.epochs) + 1)
        return self.epochs[-1]

    def settle(self):
        """Forget an epoch that Ctrl-C kept from being added completely."""
        for column in self._columns.values():
            del column[len(self.epochs):]

    def keys(self):
        return self._columns.keys()

    def __getitem__(self, name):
        try:
            return self._columns[name]
        except KeyError:
            raise KeyError(f"{name!r}: this history has {', '.join(self._columns) or 'no epochs yet'}") from None

    def __contains__(self, name):
        return name in self._columns

    def __len__(self):
        return len(self.epochs)

    def __iter__(self):
        return iter(self._columns)

    def to_dict(self):
        """{"epochs": [...], "loss": [...], ...}, new lists: ready for a data frame."""
        return {"epochs": list(self.epochs), **{name: list(column) for name, column in self._columns.items()}}

    def to_record(self, duration):
        """The history as plain numbers, `duration` being its seconds so far: what `restore` takes."""
        return {"columns": self._columns, "duration": duration, "stopped": self.stopped}

    def restore(self, record):
        """Become the history that `to_record` told of."""
        columns = {str(name): [float(number) for number in column] for name, column in record["columns"].items()}
        epochs = {len(column) for column in columns.values()}
        if len(epochs) > 1 or record["stopped"] not in (None, "early_stopping", "callback"):
            raise ValueError("its history has columns of different lengths or an unknown reason to stop")
        self._columns, self.epochs = columns, list(range(1, max(epochs, default=0) + 1))
        self.duration, self.stopped = float(record["duration"]), record["stopped"]

    def plot(self, ax=None):
        """Draw "Model loss": loss against epoch, Train and (with validation) Test.

        Parameters
        ----------
        ax : matplotlib Axes to draw on; None makes a new figure.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ImportError if matplotlib is not installed, ValueError if there is nothing to draw.
        """
        if not self.epochs:
            raise ValueError("this history has no epochs to draw: the model was loaded or built, not trained")
        if ax is None:
            try:
                from matplotlib import pyplot
            except ImportError as error:
                raise ImportError("plot() needs matplotlib: pip install 'fastmlp[plot]'") from error
            ax = pyplot.figure().add_subplot()
        ax.plot(self.epochs, self["loss"], label="Train")
        if "val_loss" in self:
            ax.plot(self.epochs, self["val_loss"], label="Test")
        ax.set(title="Model loss", xlabel="Epoch", ylabel="Loss")
        ax.legend()
        return ax

    def __repr__(self):
        last = ", ".join(f"{name} {column[-1]:.4g}" for name, column in self._columns.items() if column)
        return f"History({len(self)} epochs{': ' if last else ''}{last})"
