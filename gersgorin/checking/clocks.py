"""Clocks of a training: what moves on its plateau before the loss does, and the escape that they
forecast.

    now = signal(trial, 400, 600)
    now.gain, now.errors                # 0.004 of the constant's loss, 6.2 standard errors above 0
    expected(trial, 6000)               # (escape, its interval, probability of leaving)

**Signal.** With d the deviations of the outputs from their mean over a minibatch, L the loss and c
the best constant output,

    L(c + a d) = L(c) - a G + a^2 H / 2 + ...        G = -<dL/dz, d>, H = d' (d^2L/dz^2) d, both at z = c

The gain is the largest a G - a^2 H / 2 for 0 <= a <= 1, relative to L(c): the share of the loss
that the outputs explain, as they are or shrunk. For the squared error of outputs that are too large
it is the squared correlation. Each step of a training gives one G, before the step, on examples
that it has not just seen. The mean of some hundred shows a gain of a thousandth and less, while the
losses of minibatches scatter by some per cent; its standard error comes from the scatter of the G.

**Reach.** The share of the gradient of the last output that comes from the first half of a sequence
(`reach.py`).

**Forecast.** Near a saddle the gain grows exponentially, so ln gain is extrapolated as a straight
line from the second and last thirds of the steps, up to the gain at which a training leaves; ln
reach likewise, which often grows while the gain does not yet. If nothing moves, an escape is the
less likely the less of the training is left; a trial that is too short, or not on the plateau,
decides nothing.

Legend: S steps of a trial.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist

import numpy as np

from gersgorin.checking.trials import Trial

Interval = tuple[float, float]
LEAVES = 0.05  # gain at which a training leaves
MOVES = 3.0  # standard errors of a gain that is no chance
# times the loss of a constant output, from which on a training is not on the plateau yet, or not
# any more
ABOVE = 1.5
FEWEST = 100  # steps of a trial that forecasts anything
LAW = 1.0  # standard deviation of the growth of ln gain from that of the law
# probability of leaving of a whole training in which nothing moves yet; a fifth to a third of the
# recorded ones did
STILL = 0.32
OPEN = 0.5  # of one about which nothing is known
BROKEN = 0.1  # share of trainings in which the law does not hold
WINDOWS = 15  # of a figure
GROWS = 0.3  # least growth of ln gain in a sentence
NARROW = -10.0  # log10 of a reach that tells nothing yet
# log10 of a reach that tells nothing any more; a training leaves when its reach is about 1
WIDE = -0.5
WIDENS = 0.7  # growth of log10 reach that is no chance
BENDS = 0.2  # relative error of that growth by its law
SCATTER = 2.0  # times the scatter of the readings: error of that growth
READINGS = 5  # of the reach, at least
FURTHER = 10.0  # times a reach that has moved


@dataclass(frozen=True)
class Signal:
    """The share of the loss that the outputs explain in some steps of a training."""

    first: int
    last: int
    gain: float
    """Of the constant's loss; 0 if the outputs explain nothing; NaN if it cannot be measured: a
    loss that is singular at a constant.
    """
    errors: float
    """The gain in standard errors."""

    @property
    def moves(self) -> bool:
        """True if the gain is no chance."""
        return self.errors >= MOVES and not math.isnan(self.gain)


def signal(trial: Trial, first: int, last: int) -> Signal:
    """The signal in the steps of a trial from `first` on to `last`, two at least."""
    loss, slopes = sum(trial.constants[first:last]), np.asarray(trial.slopes[first:last])
    curvatures = [h for h in trial.curvatures if math.isfinite(h)] or [0.0]
    G, H = (
        float(slopes.sum() / loss),
        float(sum(trial.powers[first:last]) * np.median(curvatures) / loss),
    )
    error = float(slopes.std(ddof=1)) * math.sqrt(len(slopes)) / loss
    a = min(1.0, max(0.0, G / H)) if H > 0 else 1.0
    gain = float(np.maximum(0.0, a * G - a * a * H / 2))
    return Signal(first, last, gain if gain <= 1 else math.nan, G / max(error, 1e-300))


def signals(trial: Trial) -> list[Signal]:
    """The signals of a trial in windows of equal lengths; none of minibatches of one output, which
    has no deviation.
    """
    if not any(trial.powers):
        return []
    ends = np.linspace(0, trial.steps, min(WINDOWS, trial.steps // 2) + 1).astype(int).tolist()
    return [signal(trial, *window) for window in pairwise(ends)]


def thirds(trial: Trial) -> tuple[Signal, Signal]:
    """The signals in the second and in the last third of a trial."""
    t = trial.steps
    return signal(trial, t // 3, 2 * t // 3), signal(trial, 2 * t // 3, t)


def moves(trial: Trial) -> bool:
    """True if the outputs explain more of the loss in the last third of a trial than chance
    does.
    """
    return any(trial.powers) and thirds(trial)[1].moves


def expected(trial: Trial, steps: int) -> tuple[float, Interval, float]:
    """(Escape, its interval, probability of leaving within these steps) of a training that was not
    seen to leave.
    """
    t = trial.steps
    if not FEWEST <= t < steps or trial.ratios[-1] >= ABOVE:
        return math.inf, (float(t), math.inf), OPEN
    measured = any(trial.powers) and not math.isnan(thirds(trial)[1].gain)
    still = STILL * (1 - t / steps) if measured else OPEN
    growths = [found for found in (_signal_growth(trial), _reach_growth(trial)) if found]
    if not growths:
        return math.inf, (float(t), math.inf), still
    escape, interval, probability = max(
        (growth.forecast(t, steps) for growth in growths), key=lambda found: found[2]
    )
    return escape, interval, (1 - BROKEN) * probability + BROKEN * still


@dataclass(frozen=True)
class Growth:
    """The growth of the logarithm of a clock in a trial of t steps."""

    growth: float
    """Over `span` t."""
    error: float
    """Its standard deviation, that of the law included."""
    far: float
    """Growth that is left from the time `since` t on until the training leaves."""
    span: float
    since: float

    def forecast(self, t: int, steps: int) -> tuple[float, Interval, float]:
        """(Escape, its interval, probability of leaving within these steps) if it continues as a
        straight line.
        """

        def escape(growth: float) -> float:
            return (
                max(t * (self.since + self.span * self.far / growth), t) if growth > 0 else math.inf
            )

        needed = self.far * self.span * t / (steps - self.since * t)
        probability = NormalDist().cdf((self.growth - needed) / self.error)
        interval = escape(self.growth + 1.28 * self.error), escape(self.growth - 1.28 * self.error)
        return escape(self.growth), interval, probability


def _signal_growth(trial: Trial) -> Growth | None:
    """Of ln gain from the second third of a trial to the last; None if nothing moves."""
    if not moves(trial):
        return None
    early, late = thirds(trial)
    growth = math.log(late.gain / max(early.gain, late.gain / late.errors))
    error = math.hypot(1 / late.errors, 1 / max(early.errors, 1.0), LAW)
    return Growth(growth, error, max(0.0, math.log(LEAVES / late.gain)), 1 / 3, 5 / 6)


def _reach_growth(trial: Trial) -> Growth | None:
    """Of log10 reach over the last two thirds of a trial; None if it is wide already, too narrow,
    or does not grow.
    """
    known = [
        (step, math.log10(reach.far)) for step, reach in trial.reaches if 0 < reach.far < math.inf
    ]
    known = [(step, far) for step, far in known if 3 * step >= trial.steps]
    if len(known) < READINGS:
        return None
    x, y = np.array(known).T
    slope, height = np.polyfit(x - trial.steps, y, 1)
    growth, scatter = (
        2 / 3 * trial.steps * slope,
        float(np.std(y - height - slope * (x - trial.steps))),
    )
    if not NARROW < height < WIDE or growth < WIDENS:
        return None
    return Growth(
        float(growth),
        math.hypot(WIDENS, BENDS * growth, SCATTER * scatter),
        float(-height),
        2 / 3,
        1.0,
    )


def motion(trial: Trial) -> str:
    """A sentence: the motion of both clocks in a trial whose loss stands still."""
    if trial.steps < FEWEST or not any(trial.powers):
        return ""
    early, late = thirds(trial)
    if math.isnan(late.gain):
        return ""
    if late.moves:
        before = f"{early.gain:.1g} of the loss in steps {early.first:,} to {early.last:,}, and "
        grows = late.gain > early.gain * math.exp(GROWS)
        words = (
            f"the outputs explain {before * grows}{late.gain:.1g} of the loss in steps "
            f"{late.first:,} to {late.last:,}"
        )
        words += ", and hardly more than before" * (not grows)
    else:
        errors = f" ({late.errors:.1f} standard errors)" * (late.errors >= 0)
        words = f"the outputs explain no more of the loss than chance would{errors}"
    shares = [(step, reach.far) for step, reach in trial.reaches if reach.far > 0]
    if len(shares) > 1:
        (_, first), (step, last) = shares[0], shares[-1]
        moved = max(last / first, first / last) > FURTHER
        change = (
            f"went from {first:.1g} to {last:.1g} in {step:,} steps"
            if moved
            else f"stays at {last:.1g}"
        )
        words += (
            "; the norm of the gradient in the first half of the sequences, as a share "
            f"of the whole, {change}"
        )
    return words[0].upper() + words[1:] + "."
