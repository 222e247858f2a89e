"""Draw the pictures of docs/concepts.md: `python examples/concepts.py [FOLDER]`."""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from torch import nn

from gersgorin import eigenvalues, gersgorin_discs, products, temporal_jacobian

BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
STEPS, UNITS = 40, 32
MATRIX = np.array([[0.5, 0.2, 0.1], [0.1, -0.3, 0.2], [0.05, 0.25, 0.9]])


def jacobian(ax: Axes) -> None:
    """Draw the Jacobian of one time step of a small RNN as a heat map."""
    cell = nn.RNNCell(2, 6)
    x, s = torch.randn(2), torch.randn(6).tanh()
    A = temporal_jacobian(cell, x, s).detach().numpy()
    image = ax.imshow(A, cmap="RdBu_r", vmin=-abs(A).max(), vmax=abs(A).max(), aspect="auto")
    ax.set_xticks(range(6), range(1, 7))
    ax.set_yticks(range(6), range(1, 7))
    ax.set(xlabel="unit before the step", ylabel="unit after the step")
    ax.get_figure(root=True).colorbar(image, ax=ax, label="derivative")


def product(ax: Axes) -> None:
    """Draw the norm of the product of Jacobians over time, for three RNNs with different
    weights.
    """
    x = torch.randn(STEPS, 2, dtype=torch.float64)
    R = torch.linalg.qr(torch.randn(UNITS, UNITS, dtype=torch.float64))[0]
    W = 0.1 * torch.randn(UNITS, 2, dtype=torch.float64)
    for name, scale, squashed, style in (
        ("explodes", 1.3, False, {"color": BLUE}),
        ("stays", 1, False, {"color": ORANGE, "linestyle": "--"}),
        ("vanishes", 0.7, True, {"color": GREEN, "linestyle": ":"}),
    ):
        step = partial(_step, scale * R, W, squashed)
        found = products(step, x, torch.zeros(UNITS, dtype=torch.float64))
        ax.plot(np.append(0, found.log_norm) / np.log(10), label=name, **style)
    ax.set(xlabel="time steps t", ylabel="norm of the product (log₁₀)")


def _step(R, W, squashed, x, s):
    """Compute one time step of an RNN, linear or with tanh."""
    z = R @ s + W @ x
    return torch.tanh(z) if squashed else z


def discs(ax: Axes) -> None:
    """Draw the Geršgorin discs and the eigenvalues of `MATRIX`."""
    found = gersgorin_discs(torch.tensor(MATRIX))
    for k, (centre, radius) in enumerate(zip(found.centers, found.radii, strict=True)):
        style = {"facecolor": f"{BLUE}26", "edgecolor": BLUE, "label": "" if k else "discs"}
        ax.add_patch(Circle((float(centre), 0), float(radius), **style))
    values = eigenvalues(torch.tensor(MATRIX)).numpy()
    ax.plot(values.real, values.imag, "o", color=RED, markersize=5, label="eigenvalues")
    ax.add_patch(Circle((0, 0), 1, fill=False, linestyle="--", label="unit circle"))
    ax.set(
        xlabel="real part",
        ylabel="imaginary part",
        aspect="equal",
        xlim=(-1.3, 1.3),
        ylim=(-1.1, 1.1),
    )


def constant(ax: Axes) -> None:
    """Draw targets, a good prediction and the constant predictor."""
    time = np.arange(60)
    y = np.sin(time / 5) + 0.3 * np.sin(time / 1.7)
    good = y + 0.15 * torch.randn(60).numpy()
    ax.plot(time, y, "o", color="black", markersize=2.5, label="targets")
    share = float(((good - y) ** 2).mean() / y.var())
    ax.plot(time, good, color=BLUE, label=f"a network, relative error {share:.2f}")
    ax.axhline(y.mean(), color=ORANGE, linestyle="--", label="constant predictor, relative error 1")
    ax.set(xlabel="example", ylabel="value")


def plateau(ax: Axes) -> None:
    """Draw the loss of an LSTM that learns the sum of four early inputs, after a plateau."""
    x = 2 * torch.rand(512, 20, 1) - 1
    y = x[:, 4:8].sum(1)
    model = nn.ModuleList([nn.LSTM(1, 16, batch_first=True), nn.Linear(16, 1)])
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=1e-2), []
    for _ in range(800):
        chosen = torch.randint(len(x), (32,))
        loss = (model[1](model[0](x[chosen])[0][:, -1]) - y[chosen]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    smooth = np.convolve(losses, np.ones(20) / 20, "valid")
    ax.plot(np.arange(len(smooth)) + 20, smooth, color=BLUE, label="training loss")
    ax.axhline(float(y.var()), color=ORANGE, linestyle="--", label="constant predictor")
    ax.set(xlabel="optimiser step", ylabel="loss", yscale="log")


def nats(ax: Axes) -> None:
    """Draw -log p over p."""
    p = np.linspace(0.005, 1, 300)
    ax.plot(p, -np.log(p), color=BLUE)
    for value in (0.5, 0.1, 0.01):
        ax.plot(value, -np.log(value), "o", color=RED)
        ax.annotate(
            f"p = {value:g}: {-np.log(value):.2g} nats", (value + 0.03, -np.log(value)), va="center"
        )
    ax.set(
        xlabel="probability p of the event that happened",
        ylabel="-log p (nats)",
        xlim=(0, 1),
        ylim=(0, None),
    )


PICTURES = {
    "jacobian": (jacobian, "The Jacobian: how each unit depends on every unit one step before"),
    "product": (product, "The product of many steps vanishes, stays or explodes"),
    "discs": (discs, "Every eigenvalue lies in a Geršgorin disc"),
    "constant": (constant, "The constant predictor ignores its input"),
    "plateau": (plateau, "The loss rests on a plateau before it falls"),
    "nats": (nats, "The less probable the event, the larger the loss"),
}
"""Function and title of each picture."""

if __name__ == "__main__":
    folder = Path(sys.argv[1] if sys.argv[1:] else ".")
    for name, (draw, title) in PICTURES.items():
        torch.manual_seed(0)
        figure = Figure(figsize=(6, 3.6), layout="constrained", dpi=150)
        ax = figure.subplots()
        draw(ax)
        figure.suptitle(title, x=0.01, ha="left")
        ax.spines[["top", "right"]].set_visible(False)
        if ax.get_legend_handles_labels()[0]:
            figure.legend(loc="outside lower left", ncols=2, frameon=False)
        figure.savefig(folder / f"concepts-{name}.png")
