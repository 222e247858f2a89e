"""Draw the pictures of docs/concepts.md: `python examples/concepts.py [FOLDER]`."""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import nn

import gersgorin
from gersgorin.linalg import eigenvalues, gersgorin_discs
from rhn.plotting.figure import CIRCLE, DASHED, Block, compose, line_style
from rhn.utils.figures import BLUE, ORANGE, RED, save_figure

STEPS, UNITS = 40, 32
MATRIX = np.array([[0.5, 0.2, 0.1], [0.1, -0.3, 0.2], [0.05, 0.25, 0.9]])


def jacobian(ax: Axes) -> None:
    """Draw the Jacobian of one time step of a small RNN as a heat map."""
    cell = nn.RNNCell(2, 6)
    x, s = torch.randn(2), torch.randn(6).tanh()
    A = gersgorin.temporal_jacobian(cell, x, s).detach().numpy()
    image = ax.imshow(A, cmap="RdBu_r", vmin=-abs(A).max(), vmax=abs(A).max(), aspect="auto")
    ax.set_xticks(range(6), range(1, 7))
    ax.set_yticks(range(6), range(1, 7))
    ax.set(xlabel="unit before the step", ylabel="unit after the step")
    ax.figure.figure.colorbar(image, ax=ax, label="derivative")


def products(ax: Axes) -> None:
    """Draw the norm of the product of Jacobians over time, for three RNNs with different
    weights.
    """
    x = torch.randn(STEPS, 2, dtype=torch.float64)
    R = torch.linalg.qr(torch.randn(UNITS, UNITS, dtype=torch.float64))[0]
    W = 0.1 * torch.randn(UNITS, 2, dtype=torch.float64)
    for k, (name, scale, slope) in enumerate(
        (("explodes", 1.3, 0), ("stays", 1, 0), ("vanishes", 0.7, 1))
    ):
        step = partial(_step, scale * R, W, slope)
        found = gersgorin.products(step, x, s0=torch.zeros(UNITS, dtype=torch.float64))
        logs = np.concatenate(([0.0], found.log_norm)) / np.log(10)
        ax.plot(logs, label=f"the gradient {name}", **line_style(k))
    ax.set(xlabel="time steps t", ylabel="norm of the product (log₁₀)")


def _step(R, W, squashed, x, s):
    """Compute one time step of an RNN, linear or with tanh."""
    z = R @ s + W @ x
    return torch.tanh(z) if squashed else z


def discs(ax: Axes) -> None:
    """Draw the Geršgorin discs and the eigenvalues of `MATRIX`."""
    found = gersgorin_discs(torch.tensor(MATRIX))
    for k, (centre, radius) in enumerate(zip(found.centers, found.radii, strict=True)):
        curve = float(centre) + float(radius) * CIRCLE
        ax.fill(
            curve.real,
            curve.imag,
            facecolor=f"{BLUE}26",
            edgecolor=BLUE,
            label=None if k else "discs",
        )
    values = eigenvalues(torch.tensor(MATRIX)).numpy()
    ax.plot(values.real, values.imag, "o", color=RED, markersize=5, label="eigenvalues")
    ax.plot(CIRCLE.real, CIRCLE.imag, **DASHED, linewidth=1, label="unit circle")
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
    "jacobian": (
        jacobian,
        "The Jacobian says how each unit depends on every unit one step before",
        4.2,
        3.2,
    ),
    "product": (products, "The product of many steps vanishes, stays or explodes", 6, 2.8),
    "discs": (discs, "Every eigenvalue lies in a Geršgorin disc", 5, 3.4),
    "constant": (constant, "The constant predictor ignores its input", 6, 2.8),
    "plateau": (plateau, "The loss rests on a plateau before it falls", 6, 2.8),
    "nats": (nats, "The less probable the event, the larger the loss", 5, 2.8),
}
"""Function, title, width and height (inches) of each picture."""

if __name__ == "__main__":
    folder = Path(sys.argv[1] if sys.argv[1:] else ".")
    for name, (draw, title, width, height) in PICTURES.items():
        torch.manual_seed(0)
        figure = partial(compose, title, "", Block([draw], height), width=width)
        save_figure(folder / f"concepts-{name}.png", figure)
