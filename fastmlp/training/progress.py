"""What training shows while it runs: nothing, a bar, or the lecture's two lines per epoch."""
from contextlib import nullcontext

SHOWN = ("loss", "accuracy", "val_loss", "val_accuracy")


class Silent:
    """verbose=0, and the shape of the other two."""

    def __init__(self, epochs, steps, done=0):
        self.epochs, self.steps, self.done = epochs, steps, done

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def epoch_begins(self, epoch):
        pass

    def epoch_ends(self, numbers):
        pass


class Lines(Silent):
    """verbose=2: ``Epoch 3/10`` and ``235/235 - 0s - loss: 0.3245 - accuracy: 0.9093 - val_loss: ...``."""

    def epoch_begins(self, epoch):
        print(f"Epoch {epoch}/{self.epochs}", flush=True)

    def epoch_ends(self, numbers):
        parts = [f"{self.steps}/{self.steps}", f"{numbers['seconds']:.0f}s"]
        print(" - ".join(parts + [f"{name}: {numbers[name]:.4f}" for name in SHOWN if name in numbers]), flush=True)


class Bar(Silent):
    """verbose=1: one tqdm bar over the epochs."""

    def __enter__(self):
        from tqdm.auto import tqdm
        self.bar = tqdm(total=self.epochs, initial=self.done, desc="Training", unit="epoch")
        return self

    def __exit__(self, *error):
        self.bar.close()

    def epoch_ends(self, numbers):
        self.bar.set_postfix({name: f"{numbers[name]:.4f}" for name in SHOWN if name in numbers}, refresh=False)
        self.bar.update()


def reporter(verbose, epochs, steps, done=0):
    """The context manager that shows training at the level `verbose`, `done` of whose epochs are behind it."""
    return (Silent, Bar, Lines)[_level(verbose)](epochs, steps, done)


def count_bar(verbose, total, description):
    """A tqdm bar over `total` trainings, to be entered; entered, it is None where `verbose` is 0."""
    if not _level(verbose):
        return nullcontext()
    from tqdm.auto import tqdm
    return tqdm(total=total, desc=description, unit="net")


def _level(verbose):
    if verbose not in (0, 1, 2):
        raise ValueError(f"verbose must be 0 (silent), 1 (a bar) or 2 (a line per epoch), got {verbose!r}")
    return int(verbose)
