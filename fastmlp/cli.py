"""The command `fastmlp`: `fastmlp lab` trains the lecture's nets on MNIST, `fastmlp info` says what is used and why."""
import argparse
import io
import os
import sys
from pathlib import Path

__all__ = ["main"]

# The nets of the lecture's labs, by their numbers there: ReLU hidden layers, softmax over ten digits.
LABS = {
    1: {"hidden": (10,)},
    2: {"hidden": (500,)},
    4: {"hidden": (500, 300), "dropout": 0.4},
}
INTERRUPTED = 130  # what shells report after Ctrl-C


def main(arguments=None):
    """Run the command and return its exit code: 0, 2 for a wrong argument, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # as in `fastmlp lab | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser():
    parser = argparse.ArgumentParser(prog="fastmlp", description="Multi-layer perceptrons on hand-written kernels.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="command")
    lab = commands.add_parser(
        "lab", help="train a net of the MNIST lab",
        description="Train on the MNIST digits: lab 1 has 10 hidden units, lab 2 has 500, lab 4 has 500 and 300 with "
                    "dropout. RMSprop, batches of 256, evaluated on the test set after every epoch.")
    lab.add_argument("lab", nargs="?", type=int, choices=LABS, default=2, help="which lab (default 2)")
    lab.add_argument("--epochs", type=_at_least(1), default=10, metavar="N",
                     help="passes over the training images (default 10)")
    lab.add_argument("--seed", type=_at_least(0), default=0, metavar="S",
                     help="fixes start, order and dropout (default 0)")
    lab.add_argument("--device", default="auto", metavar="D",
                     help="auto (the default), cpu, cuda or reference (plain NumPy)")
    lab.add_argument("--threads", type=_at_least(1), metavar="N", help="threads (default: what the kernels find best)")
    lab.add_argument("--plot", type=Path, metavar="FILE", help="draw the loss of every epoch into this file")
    lab.set_defaults(run=_lab, error=lab.error)
    info = commands.add_parser("info", help="print what is used and why")
    info.set_defaults(run=_info)
    return parser


def _at_least(minimum):
    def whole_number(text):
        if not text.isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {minimum}, got {text!r}")
        return int(text)

    return whole_number


def _lab(options):
    from . import datasets, device
    from .files import write_atomically
    from .optimizers import RMSprop
    from .training.entry import train

    try:
        device.kernels(options.device)
        device.threads(options.threads)
    except (ValueError, RuntimeError, TypeError) as error:
        options.error(str(error))
    axes = _axes(options.plot, options.error) if options.plot else None

    X_train, y_train, X_test, y_test = datasets.mnist()
    model = train(X_train, y_train, **LABS[options.lab], activation="relu", optimizer=RMSprop(), batch_size=256,
                  epochs=options.epochs, validation_data=(X_test, y_test), device=options.device,
                  n_threads=options.threads, seed=options.seed, verbose=2)
    history = model.history
    if history.interrupted:
        print(f"\nInterrupted after {len(history)} of {options.epochs} epochs; the net so far:")
    test = model.evaluate(X_test, y_test)
    print(f"\nCompile time: {history.compile_seconds:.2f} s")
    print(f"Training duration: {history.duration:.2f} s")
    print(f"Test loss: {test['loss']:.4f}")
    print(f"Test accuracy: {test['accuracy']:.4f}\n")
    print(model.summary())
    if axes is not None and len(history):
        history.plot(axes)
        picture = io.BytesIO()
        axes.figure.savefig(picture, format=options.plot.suffix[1:].lower())
        try:
            write_atomically(options.plot, picture.getvalue())
        except OSError as error:
            print(f"fastmlp: the plot cannot be written: {error}", file=sys.stderr)
            return 1
        print(f"Model loss drawn into {options.plot}")
    return INTERRUPTED if history.interrupted else 0


def _axes(file, error):
    """Axes to draw on, made before training so that a wrong --plot is known at once."""
    from .files import checked_target

    try:
        from matplotlib.figure import Figure
    except ImportError:
        error("argument --plot: needs matplotlib: pip install 'fastmlp[plot]'")
    axes = Figure().add_subplot()
    formats = axes.figure.canvas.get_supported_filetypes()
    if file.suffix[1:].lower() not in formats:
        error(f"argument --plot: {file} must end in one of .{', .'.join(sorted(formats))}")
    try:
        checked_target(file)
    except OSError as problem:
        error(f"argument --plot: {problem.strerror}: {file}")
    return axes


def _info(options):
    from .environment import info

    facts = info()
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:{width}}  {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
