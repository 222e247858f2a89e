"""Measure the plateau: relative gradient of each matrix, order of the saddle.

Such a network first learns its output bias and then stays at the loss of the best constant output,
beside a saddle of the loss at zero weights. There

    rate of a matrix M = ||dL/dM|| / ||M||            (1 / unit of gradient flow's time)

is the inverse of the time in which gradient flow changes M by its own size. If the loss near the
saddle is a product of P matrices, the rate is proportional to the scale of the weights to the power
P - 2. That power is the `order`, measured as the slope of log rate against log scale between the
network's own scale and a tenth of it. Order 0: a saddle of second order, left exponentially, in a
time logarithmic in the scale (Saxe et al. 2014). Higher orders: flatter saddles, left in a time
that is a power of 1 / scale.

The own scale makes the slope a property of this network; a tenth of it lies towards the saddle,
where the slope becomes an integer. A slope near no integer means that the network is not near the
saddle, and then no integer is reported.

**Matrices and scale.** A parameter of three dimensions is a stack of matrices, one a layer:
`weight_hh[2]` is the third. The gates in one matrix stay together, which changes a relative rate by
at most the square root of their number. Biases are not matrices and are not scaled, nor is a weight
of one dimension such as the recurrent weight of an IndRNN. Matrices are scaled about zero. Square
blocks nearer to the identity, ||M - I|| < ||M|| (the mean of the diagonal is above 1/2), are scaled
about the identity.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from gersgorin.run.run import Progress, silent
from gersgorin.training.frames import FrameTraining
from gersgorin.training.losses import Loss
from rhn.errors import InvalidInputError
from rhn.plotting.figure import panels
from rhn.utils.figures import SKY, drawable
from rhn.utils.result import Result

TENTH = 0.1
NEAR = 0.05  # largest distance of a slope from the integer that is reported for it


def measure_rates(training: FrameTraining) -> tuple[dict[str, float], dict[str, float]]:
    """(the rates, their slopes d log rate / d log scale) of the network of a training, by matrix;
    it is left as it was.

    A slope is NaN where a rate is 0. Frozen parameters count as those that do not move.
    """
    before = {name: p.detach().clone() for name, p in training.parameters.items()}
    scaled = {
        name: centre + TENTH * (before[name] - centre)
        for name, centre in identities(before).items()
    }
    own = rates_at_constant(training)
    training.model.load_state_dict(scaled, strict=False)
    tenth = rates_at_constant(training)
    training.model.load_state_dict(before, strict=False)
    return own, {name: _slope(rate, tenth[name]) for name, rate in own.items()}


def rates_at_constant(training: FrameTraining) -> dict[str, float]:
    """||dL/dM|| / ||M|| of every matrix, after the output bias is moved so that the mean output is
    the best constant one.

    A matrix of zeros has the rate infinity where its gradient is not zero, and 0 where it is. A
    network without an output bias is taken as it is.
    """
    if training.output_bias is not None:
        with torch.no_grad():
            mean = training.outputs()[training.mask].mean(0)
            training.parameters[training.output_bias].add_(training.best_constant()[0] - mean)
    slopes = matrices(training.gradients()[1])
    return {
        name: relative_rate(slopes[name], M) for name, M in matrices(training.parameters).items()
    }


def matrices(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    """Views of the matrices among these parameters, by name, the layers of a stack apart.

    >>> list(matrices({"R": torch.zeros(2, 3, 3), "b": torch.zeros(3)}))
    ['R[0]', 'R[1]']
    """
    found: dict[str, Tensor] = {}
    for name, p in parameters.items():
        if is_weight(name, p):
            M = p.detach()
            found |= (
                {name: M}
                if p.dim() == 2
                else {f"{name}[{k}]": layer.flatten(1) for k, layer in enumerate(M)}
            )
    return found


def identities(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    """The centre of scaling of each parameter that has matrices: the identity for square blocks
    near to it, zero elsewhere.
    """
    centres = {name: torch.zeros_like(p) for name, p in parameters.items() if is_weight(name, p)}
    for name, M in matrices(centres).items():
        values, (rows, columns) = matrices(parameters)[name], M.shape
        for start in range(0, rows - columns + 1, columns):
            if values[start : start + columns].diagonal().mean() > 0.5:
                M[start : start + columns].fill_diagonal_(1)
    return centres


def is_weight(name: str, p: Tensor) -> bool:
    """True for a parameter of two or more dimensions whose name is not that of a bias (some cells
    stack a bias a layer).
    """
    return p.dim() >= 2 and "bias" not in name


def _slope(own: float, tenth: float) -> float:
    usable = 0 < own < math.inf and 0 < tenth < math.inf
    return math.log(own / tenth) / -math.log(TENTH) if usable else math.nan


def relative_rate(slope: Tensor, weight: Tensor) -> float:
    """||dL/dM|| / ||M||; infinity for zeros with a gradient, 0 for zeros without."""
    size, steep = float(weight.detach().norm()), float(slope.detach().norm())
    return steep / size if size else (math.inf if steep else 0.0)


@dataclass(frozen=True, kw_only=True, repr=False)
class Plateau(Result, kind="plateau"):
    """The plateau of one network on its sequences and loss."""

    loss: float
    """Of the best constant output on these sequences, in `loss_unit`: the height of the plateau."""
    rates: dict[str, float]
    """||dL/dM|| / ||M|| of every matrix M at the constant output, by name, the layers of a stack
    apart.
    """
    slopes: dict[str, float]
    """d log rate / d log scale of all weights, by matrix; NaN for a rate of 0."""
    loss_unit: str = "nats a frame"
    """Of the loss."""
    sequences: int = 1
    """Number of sequences that the constant output is the best for."""
    output_bias: bool = True
    """Whether the network has a trained output bias, without which it does not reach the constant
    output.
    """

    @property
    def fastest(self) -> str:
        """The matrix of the highest rate."""
        return max(self.rates, key=lambda name: self.rates[name])

    @property
    def order(self) -> float:
        """The slope of the fastest matrix: 0 on a plateau that is left exponentially, P - 2 beside
        a product of P small matrices.

        NaN for a network without a trained output bias: it does not reach the constant output, so
        its rates are not those of a plateau.
        """
        return self.slopes[self.fastest] if self.output_bias else math.nan

    @property
    def integer_order(self) -> int | None:
        """The integer within 0.05 of the order; None where there is none."""
        order = self.order
        return round(order) if math.isfinite(order) and abs(order - round(order)) <= NEAR else None

    def sentences(self) -> Iterator[str]:
        """One sentence: the loss of the constant, the fastest matrix with its rate, and the
        order.
        """
        number = self.order if self.integer_order is None else self.integer_order
        power = (
            "changes as an unknown power of"
            if math.isnan(number)
            else f"changes as the power {number:.3g} of"
            if number
            else "does not change with"
        )
        these = "this sequence" if self.sequences == 1 else f"these {self.sequences} sequences"
        constant = (
            f"At the best constant output for {these} alone, {self.loss:.4g} {self.loss_unit}"
        )
        rate = (
            f"{self.fastest} learns fastest, at a relative rate of {self.rates[self.fastest]:.3g}"
        )
        yield f"{constant}, {rate}; this rate {power} the scale of all weights."

    def table(self) -> list[dict]:
        """One row a matrix: its name, its relative rate, and the slope of log rate against log
        scale.
        """
        return [
            {"matrix": name, "rate": rate, "slope": self.slopes[name]}
            for name, rate in self.rates.items()
        ]

    @panels(6, 3.2, "rates of learning at the constant output")
    def plot(self, ax=None) -> Axes:
        """The relative rates, a bar a matrix, on a log scale."""
        rates = {name: rate for name, rate in self.rates.items() if rate > 0}
        ax.barh([drawable(name) for name in rates], list(rates.values()), color=SKY)
        ax.tick_params(axis="y", length=0, pad=-4)
        ax.set_yticks(range(len(rates)), ax.get_yticklabels(), ha="left")  # on the bars
        if rates:
            ends = (
                np.floor(np.log10(min(rates.values()))),
                np.ceil(np.log10(max(rates.values())) + 1e-9),
            )
            ax.set(xscale="log", xlim=(10 ** ends[0], 10 ** ends[1]))
        ax.invert_yaxis()
        ax.set(xlabel="gradient norm / weight norm")
        return ax


def plateau(model: nn.Module, sequences: Any, loss: str | Loss | None = None) -> Plateau:
    """Measure the plateau that a network stands on, or would, with its output at the best constant.

    Args:
        model, sequences, loss: as for `gersgorin.FrameTraining`: a model with an output, its
            sequences and its loss.

    Returns:
        `loss`, `rates`, `slopes` and `order`. The model is left as it was.

    Raises:
        InvalidInputError: as for `gersgorin.FrameTraining`, and for a model without a trained
            matrix.
    """
    return of_training(FrameTraining(model, sequences, loss))


def of_training(training: FrameTraining, *, progress: Progress = silent) -> Plateau:
    """Measure the rates of learning of a model at the best constant output for its sequences."""
    if not matrices(training.parameters):
        raise InvalidInputError(
            "the model has no trained matrix: leave one that requires gradients"
        )
    rates, slopes = measure_rates(training)
    progress(1, 1)
    return Plateau(
        loss=training.best_constant()[1],
        rates=rates,
        slopes=slopes,
        loss_unit=training.frame_loss.unit,
        sequences=training.mask.shape[1],
        output_bias=training.output_bias is not None,
        title=training.label.heading,
        about=training.label.about,
    )
