"""What the windows of a run certify of its gradient: numbers, without torch.

Legend: T steps; W window lengths, the shortest first; the kinds of bound are those of `kinds.py`. Logarithms are natural.
"""

import math
from dataclasses import dataclass

import numpy as np

from gersgorin.certified.kinds import KINDS
from rhn.result import fitted
from rhn.wording import counted


@dataclass(frozen=True, kw_only=True)
class CertifiedBounds:
    """Bounds on log ||dy[t]/dy[0]||_2, t = 1..T, that hold for the float64 Jacobians whatever rounding did."""

    title: str
    lengths: tuple[str, ...]
    """The window lengths in words, (W,): "1 layer", "2 layers", "1 step", ..., "85 steps"."""
    window_steps: np.ndarray
    """The same in steps, (W,); 0 for windows of layers within a step."""
    upper: np.ndarray
    """(kinds, W, T), at time t from windows of up to that length; inf where a kind says nothing."""
    lower: np.ndarray
    """(W, T); -inf where the product may be zero for all that is certified."""
    log_norm: np.ndarray
    """What was measured: log ||dy[t]/dy[0]||_2 in plain float64, (T,)."""
    numerical_radius: np.ndarray
    """At least w(A[t]) of each step, (T,): a run that stayed at step t has ||A^k|| <= 2 w^k."""
    log_condition: dict[str, float]
    """What changing to each fixed norm costs once a run, log cond(S); without the norms that were not found."""
    kinds: tuple[str, ...] = KINDS
    unit: str = "steps"
    """What a step is, for the axis of time."""
    about: str = ""
    """How network and sequence came to be, under a figure's title."""

    @property
    def steps(self) -> int:
        """T."""
        return len(self.log_norm)

    @property
    def best(self) -> np.ndarray:
        """The smallest upper bound of any kind, (W, T)."""
        return self.upper.min(0)

    @property
    def exponent(self) -> np.ndarray:
        """The certified exponent of the whole run for each window length, (W,), per step: the measured one is not above it."""
        return self.best[:, -1] / self.steps

    @property
    def lower_exponent(self) -> np.ndarray:
        """The exponent that the measured one is not below, (W,), per step."""
        return self.lower[:, -1] / self.steps

    @property
    def measured_exponent(self) -> float:
        """log ||dy[T]/dy[0]||_2 / T."""
        return float(self.log_norm[-1] / self.steps)

    @property
    def half_life(self) -> np.ndarray:
        """Steps in which the gradient is certain to halve on average, (W,); inf where no shrinking is certified."""
        return np.array([_half_life(exponent) for exponent in self.exponent])

    @property
    def binding(self) -> list[str]:
        """The kind that binds best for each window length, (W,)."""
        return [self.kinds[k] for k in self.upper[:, :, -1].argmin(0)]

    @property
    def certifying(self) -> int | None:
        """The first window length that certifies that the gradient shrinks over the run; None where none does."""
        found = np.flatnonzero(self.exponent < 0)
        return int(found[0]) if len(found) else None

    def rows(self) -> list[dict]:
        """One row a window length, as `gersgorin-plot --certify --json` prints them."""
        return [
            {
                "window": words,
                "window_steps": int(self.window_steps[w]),
                "certified_exponent": float(self.exponent[w]),
                "certified_half_life": float(self.half_life[w]),
                "above_measured": float(self.exponent[w]) - self.measured_exponent,
                "lower_exponent": float(self.lower_exponent[w]),
                "bound": self.binding[w],
                "exponents": {k: float(v) / self.steps for k, v in zip(self.kinds, self.upper[:, w, -1], strict=True)},
            }
            for w, words in enumerate(self.lengths)
        ]

    def summary(self) -> dict:
        """A JSON object of the numbers that tell."""
        return {
            "measured_exponent": self.measured_exponent,
            "measured_half_life": _half_life(self.measured_exponent),
            "certifying_window": None if self.certifying is None else self.lengths[self.certifying],
            "largest_numerical_radius": float(self.numerical_radius.max()),
            "log_condition": self.log_condition,
            "windows": self.rows(),
        }

    def __repr__(self) -> str:
        return fitted(f"{self.title}, {counted(self.steps, 'step')}\n{certified_table(self)}")


def certified_table(bounds: CertifiedBounds) -> str:
    """The exponents and half-lives that each window length certifies, and what they say, in plain text."""
    lines = [f"{'windows of':<14}{'exponent <=':>13}{'half-life <=':>13}{'exponent >=':>13}   by"]
    for row in bounds.rows():
        numbers = (row["certified_exponent"], row["certified_half_life"], row["lower_exponent"])
        lines.append(f"{row['window']:<14}" + "".join(f"{v:>13.4g}" for v in numbers) + f"   {row['bound']}")
    life = _half_life(bounds.measured_exponent)
    lines.append(f"{'measured':<14}{bounds.measured_exponent:>13.4g}{life:>13.4g}")
    lines.append(
        f"held at any one step: ||A^k|| <= 2 w^k, numerical radius w up to {bounds.numerical_radius.max():.4g}"
    )
    return "\n".join([*lines, certified_sentence(bounds)])


def certified_sentence(bounds: CertifiedBounds) -> str:
    """What the bounds say, in a sentence: how long a window it takes."""
    T, measured, w = bounds.steps, bounds.measured_exponent, bounds.certifying
    over = f"over {counted(T, 'step')}"
    if w is not None and np.isneginf(bounds.exponent[w]):
        return f"Certified: {over} the gradient vanishes entirely, by windows of {bounds.lengths[w]}."
    if w is not None:
        return (
            f"Certified: {over} the gradient halves, on average, at least every {bounds.half_life[w]:.3g} steps, by windows of "
            f"{bounds.lengths[w]} ({bounds.binding[w]}); measured {_half_life(measured):.3g}, by the longest windows "
            f"{bounds.half_life[-1]:.3g}."
        )
    if bounds.lower_exponent.max() >= 0:
        return f"Certified: {over} the gradient does not vanish; its measured exponent is {measured:.3g} a step."
    if measured < 0:
        return f"No window certifies that the gradient vanishes {over}: rounding leaves it open."
    return f"No window certifies that the gradient vanishes {over}; by the measured exponent, {measured:.3g} a step, it does not."


def _half_life(exponent: float) -> float:
    return -math.log(2) / exponent if exponent < 0 else math.inf
