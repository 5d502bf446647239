"""`python docs/pictures/draw.py [NAME ...]`: draws the pictures of these pages; needs matplotlib.

`labs` trains the lecture's three MNIST networks for 100 epochs each, which takes minutes; the others take seconds.
"""
import sys
from pathlib import Path

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

import fastmlp

FOLDER = Path(__file__).parent
RED, BLUE, GREY = "#c0392b", "#2980b9", "#7f8c8d"
REGIONS = ListedColormap(["#d6e6f2", "#f6d9d5"])
LABS = {
    "Lab 1: 784-10-10": {"hidden": (10,)},
    "Lab 2: 784-500-10": {"hidden": (500,)},
    "Lab 4: 784-500-300-10, dropout 0.4": {"hidden": (500, 300), "dropout": 0.4},
}


def figure(width, height, columns=1):
    made = Figure(figsize=(width, height), layout="constrained")
    return made, made.subplots(1, columns, squeeze=False)[0]


def clusters(rng, n=40):
    """Two groups of points that a line can separate."""
    X = np.concatenate([rng.normal((-0.6, -0.9), 0.5, (n, 2)), rng.normal((1.3, 0.8), 0.5, (n, 2))])
    return X, np.repeat([-1, 1], n)


def scatter(ax, X, y):
    for label, colour, marker in ((-1, BLUE, "o"), (1, RED, "^")):
        ax.scatter(*X[y == label].T, s=26, c=colour, marker=marker, edgecolor="white", linewidth=0.6, zorder=3)


def line(ax, unit, **style):
    """Where θᵀx + b = 0."""
    a, b = unit.theta
    x = np.array(ax.get_xlim())
    ax.plot(x, -(unit.bias + a * x) / b, **style)


def perceptron():
    """Online and batch find a line, not the same one, and not a good one; XOR has none; a hidden layer does it."""
    picture, (separable, xor, hidden) = figure(11, 3.7, 3)
    X, y = clusters(np.random.default_rng(3))
    scatter(separable, X, y)
    separable.set(xlim=(-2.7, 2.7), ylim=(-2.7, 2.7), title="A line exists: some line is found")
    for name, options in (("online", {}), ("online, shuffled", {"shuffle": True, "seed": 1}),
                          ("batch", {"mode": "batch"})):
        unit = fastmlp.train_perceptron(X, y, **options)
        line(separable, unit, label=f"{name}: {len(unit.history['mistakes'])} passes", color="black",
             linestyle={"online": "-", "batch": ":"}.get(name, "--"))
    separable.legend(loc="upper left", fontsize=8)

    rng = np.random.default_rng(0)
    corners = np.repeat([[0, 0], [0, 1], [1, 0], [1, 1]], 10, axis=0) + rng.normal(0, 0.08, (40, 2))
    labels = np.repeat([-1, 1, 1, -1], 10)
    for ax in (xor, hidden):
        scatter(ax, corners, labels)
        ax.set(xlim=(-0.5, 1.5), ylim=(-0.9 if ax is xor else -0.5, 1.5), xticks=(0, 1), yticks=(0, 1))
    xor.set_title("XOR: no line does, and it never settles")
    for passes, shade in ((100, "0.75"), (103, "0.5"), (107, "0.1")):
        unit = fastmlp.train_perceptron(corners, labels, max_epochs=passes, shuffle=True, seed=2)
        line(xor, unit, color=shade, label=f"pass {passes}: {unit.history['mistakes'][-1]} mistakes")
    xor.legend(loc="lower center", fontsize=8)
    hidden.set_title("XOR with a hidden layer of 8 tanh")
    net = fastmlp.train(corners, labels, hidden=(8,), activation="tanh", learning_rate=0.1, epochs=200, seed=0)
    axis = np.linspace(-0.5, 1.5, 200)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1)
    hidden.contourf(axis, axis, net.predict(grid.reshape(-1, 2)).reshape(200, 200), levels=[-2, 0, 2], cmap=REGIONS)
    return picture


def labs(epochs=100):
    """Loss against epoch, train and test, of the three networks."""
    (X_train, y_train, *test), (picture, axes) = fastmlp.datasets.mnist(), figure(11, 3.4, 3)
    for ax, (title, options) in zip(axes, LABS.items(), strict=True):
        model = fastmlp.train(X_train, y_train, optimizer="rmsprop", epochs=epochs, validation_data=tuple(test), seed=0,
                              **options)
        model.history.plot(ax)
        accuracy = model.evaluate(*test)["accuracy"]
        ax.set_title(f"{title}\ntest accuracy {accuracy:.4f}", fontsize=10)
        ax.set_ylim(0, 0.5)
        print(title, {name: round(column[-1], 4) for name, column in model.history.to_dict().items()}, flush=True)
    return picture


def logistic():
    """Threshold, logistic function, tanh and ReLU."""
    picture, (ax,) = figure(5.5, 3)
    z = np.linspace(-4, 4, 401)
    for name, y, style in (("sign", np.where(z >= 0, 1, -1), {"color": GREY, "linestyle": ":"}),
                           ("sigmoid", 1 / (1 + np.exp(-z)), {"color": RED}),
                           ("tanh", np.tanh(z), {"color": BLUE}),
                           ("ReLU", np.maximum(z, 0), {"color": "black", "linestyle": "--"})):
        ax.plot(z, y, label=name, **style)
    ax.set(xlabel="z = wᵀx + b", ylim=(-1.2, 2), xlim=(-4, 4))
    ax.grid(alpha=0.3)
    ax.legend(loc="upper left")
    return picture


def box(ax, x, y, width, height, text, colour):
    ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0.02", facecolor=colour, edgecolor="0.3"))
    ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9)


def arrow(ax, start, end):
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": "0.3"})


def step():
    """What one fused training step reads and writes, kernel by kernel."""
    picture, (ax,) = figure(10, 4)
    ax.set(xlim=(0, 10), ylim=(0, 4.2))
    ax.axis("off")
    memory, kernel = "#eef2f5", "#f6d9d5"
    box(ax, 0.1, 3.1, 1.5, 0.8, "images, uint8\nin shuffled order", memory)
    for x, text in ((2.1, "gather\nrows → float32 × scale"), (4.4, "forward, per layer\nx W + b, f and f′"),
                    (6.9, "last layer\nsoftmax, loss, dz")):
        box(ax, x, 3.1, 2.1 if x > 2.2 else 1.9, 0.8, text, kernel)
    for x, text in ((6.9, "backward, per layer\ndz Wᵀ ⊙ f′"),
                    (4.0, "a tile of dW = xᵀ dz\nnever leaves the cache:\nl2, optimizer, W ← W − ...")):
        box(ax, x, 1.3, 2.5 if x < 5 else 2.1, 1.0, text, kernel)
    box(ax, 0.9, 1.3, 2.3, 1.0, "weights in panels\n(n / P, k, P)\nand the optimizer's slots", memory)
    arrow(ax, (1.62, 3.5), (2.08, 3.5))
    arrow(ax, (4.02, 3.5), (4.38, 3.5))
    arrow(ax, (6.52, 3.5), (6.88, 3.5))
    arrow(ax, (7.95, 3.08), (7.95, 2.34))
    arrow(ax, (6.88, 1.8), (6.54, 1.8))
    arrow(ax, (3.98, 1.8), (3.24, 1.8))
    arrow(ax, (2.05, 2.34), (4.6, 3.08))
    ax.text(0.1, 0.55, "Red: one compiled call for the whole epoch. Threads share the rows of a batch on the way "
            "forward and the tiles of dW on the way back;\nthey meet at barriers of their own. Grey: all that is "
            "kept in memory between steps. The gradient is not.", fontsize=9, va="center", color="0.2")
    return picture


PICTURES = {function.__name__: function for function in (perceptron, logistic, step, labs)}


def main(names):
    for name in names or PICTURES:
        PICTURES[name]().savefig(FOLDER / f"{name}.png", dpi=90, metadata={"Software": None})
        print(FOLDER.name, name, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
