"""Result of a check of a training: verdict, trials, figure and JSON.

Legend: K trials.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

from matplotlib import rcParams
from matplotlib.axes import Axes

from gersgorin.checking.causes.cause import CUT, Cause, digits
from gersgorin.checking.causes.kept_out import Reading
from gersgorin.checking.causes.pairing import UNEXPLAINED
from gersgorin.checking.clocks import motion, signals
from gersgorin.checking.forecast import LIKELY, UNLIKELY, Forecast, stays
from gersgorin.checking.reach import Reach
from gersgorin.checking.trials import DIVERGED, WINDOW
from rhn.plotting.figure import DASHED, ink, line_style, panels
from rhn.utils.figures import BLUE, folded
from rhn.utils.io import finite_json
from rhn.utils.result import Result, rows_of
from rhn.utils.wording import counted, rounded_up

CERTAIN = 3.0  # standard errors
FALLING = 0.99  # of the loss of one window before: a loss that still falls
HIGHER = 1.1  # times the constant's loss: above it, in words
# times the constant's loss: at the end of a training it is only slightly below, in words
CLEAR = 0.9
DECIDES = 1.15  # times the seconds of a whole training that its trials take, about
HUGE = 1e7  # steps; from here on written as a power of ten
VALUES = 15  # characters before the values of the summary
CONSTANT = "that of the best constant output"
SLOW = (
    "Its steps take {:.2g} times as long as with torch.set_flush_denormal(True), which the "
    "trials use."
)
EXPLAINED = (
    "A kernel regression explains {:.0%} of the targets of left-out examples: the data "
    "can be learned from."
)
MOST_CAUSES = 3  # that are printed
FINDINGS = {  # outcomes in the title of a figure
    "leaves": "learns more than a constant output",
    "stays": "learns no more than a constant output",
    "explodes": "diverges before it learns more than a constant output",
    "leaves, then explodes": "learns more than a constant output, then diverges",
    "may leave": "may learn more than a constant output, or not",
}
# causes that another start or rate may remove
SEARCHED = ("initial weights", "learning rate", "explosion")
CURE = "To search for initial weights and a learning rate that work: gersgorin.cure."


@dataclass(frozen=True, kw_only=True, repr=False)
class TrainingCheck(Result, Forecast):
    """Result of `check`: `verdict` is a few sentences, `summary()` a page, `to_json()` the output
    of --json.
    """

    name: str
    steps: int
    """Length of the training."""
    optimizer: str = ""
    """Class of the optimiser: "Adam"."""
    learning_rate: float = math.nan
    """Of its first group of parameters."""
    steps_per_epoch: float = math.nan
    """inf for a DataLoader without an end."""
    first_loss: float = math.nan
    """Loss of a minibatch before training."""
    shift: float = 0.0
    """Added to all losses here, so that none is below 0."""
    causes: tuple[Cause, ...] = ()
    """Why it does not learn, or learns nothing of use; the surest and most harmful first."""
    losses: tuple[float, ...] = ()
    """Of the user's own run."""
    held_out: tuple[Reading, ...] = ()
    """Gains of the training itself on held-out examples, at some steps after it has left."""
    validation: float | None = None
    """Loss of the trained network on validation examples, relative to that of a constant output,
    see `Validation`.
    """
    explained: float | None = None
    """Share of the targets of left-out examples that a kernel regression explains; None: not
    measured.
    """
    saved_seconds: float = 0.0
    """Of the training that was not run, because a cause is sure without it."""
    scheduler: str | None = None
    """Class of the scheduler, which begins with `learning_rate` or multiplies it: "OneCycleLR"."""
    left_out: tuple[str, ...] = ()
    """In words: what there was no time for, and what failed."""
    seconds: float = 0.0
    """Most time that was given."""
    slowed: float | None = None
    """Times as long that a step takes with subnormal numbers, which the trials set to zero; None:
    less than twice, or they are zero.
    """
    step_seconds: float = math.nan
    """Seconds for a step of one trial, everything included."""
    setup_seconds: float = 0.0
    """Seconds of the check before its trials."""

    @property
    def tried(self) -> int:
        """Steps of the training that were run."""
        return self.trials[0].steps

    @property
    def last_loss(self) -> float:
        """Mean of the last losses that were seen, relative to the best constant output's; NaN
        without a step.
        """
        return float(self.trials[0].ratios[-1]) if self.tried else math.nan

    @property
    def reach(self) -> Reach | None:
        """Of the gradient of the untrained network; None: not measured."""
        return next((reach for step, reach in self.trials[0].reaches if step == 0), None)

    @property
    def seen(self) -> bool:
        """True if the training was seen to leave, or to its end; else its clocks forecast it."""
        return self.trials[0].left < math.inf or self.tried >= self.steps

    @property
    def still_falls(self) -> bool:
        """True if the last mean loss is at least 1 %, and three standard errors, below that of one
        window before.
        """
        before, own = self.tried - 1 - WINDOW, self.trials[0]
        if before < WINDOW - 1:
            return False
        fall, scatter = (
            own.ratios[before] - self.last_loss,
            math.hypot(own.error(before), own.error(self.tried - 1)),
        )
        return bool(fall > max((1 - FALLING) * own.ratios[before], CERTAIN * scatter))

    @property
    def outcome(self) -> str:
        """One of "leaves", "stays", "explodes", "leaves, then explodes" and "may leave".

        It may leave if the probability is neither low nor high, or if escape time and probability
        differ.
        """
        if not self.tried:
            return "stays" if any(cause.sure for cause in self.causes) else "may leave"
        leaves = self.escape_steps <= self.steps
        if self.diverges_at < math.inf:
            return "leaves, then explodes" if leaves else "explodes"
        if leaves and self.probability >= LIKELY:
            return "leaves"
        return "stays" if not leaves and stays(self.probability, self.steps) else "may leave"

    @property
    def probably(self) -> str:
        """A word before "stays" if it is forecast from clocks that do not move."""
        return "probably " * (self.outcome == "stays" and self.probability >= UNLIKELY)

    def sentences(self) -> tuple[str, ...]:
        """The causes; outcome and time; subnormals."""
        sure = any(cause.sure for cause in self.causes)
        advised = (
            sure
            or self.explained == 0
            or any("gersgorin.cure" in c.remedy for c in self.causes[:MOST_CAUSES])
        )
        advised |= any(cause.name not in SEARCHED for cause in self.causes[:1])
        next_step = CURE if self.outcome in ("stays", "explodes") and not advised else ""
        slow = SLOW.format(self.slowed) if self.slowed else ""
        trained = (
            (self._what(), self._when()) if self.tried or not self.causes else (self._untried(),)
        )
        moved = not self.seen or self.outcome == "may leave"
        still = (
            motion(self.trials[0])
            if self.outcome in ("leaves", "stays", "may leave") and moved
            else ""
        )
        own, data = (
            self._own_losses(),
            EXPLAINED.format(self.explained) if self.explained else UNEXPLAINED,
        )
        data = "" if sure or self.explained is None else data
        causes = map(str, self.causes[:MOST_CAUSES])
        cut = [line for line in self.left_out if line.startswith(CUT)]
        untried = "" if sure or self.outcome == "leaves" or not cut else f"Not tried: {cut[0]}."
        return tuple(
            filter(
                None,
                (
                    *causes,
                    *trained,
                    own,
                    self._kept_out(),
                    self._validated(),
                    still,
                    data,
                    untried,
                    next_step,
                    slow,
                ),
            )
        )

    @property
    def verdict(self) -> str:
        return " ".join(self.sentences())

    @property
    def why(self) -> str | None:
        """The first cause in a sentence; None if none was found."""
        return self.causes[0].sentence if self.causes else None

    def _own_losses(self) -> str:
        """The user's losses beside those of the trial, if they are not a cause."""
        n, total = min(len(self.losses), self.tried), len(self.losses)
        if not n or any(cause.name == "own loop" for cause in self.causes):
            return ""
        theirs, ours = (
            sum(values[max(0, n - WINDOW) : n]) / min(n, WINDOW)
            for values in (self.losses, self.trials[0].losses)
        )
        later = (
            f"; after {counted(total, 'step')} yours is {sum(self.losses[-WINDOW:]) / WINDOW:.3g}"
            * (total >= n + WINDOW)
        )
        return (
            f"After {counted(n, 'step')} your own loss is {theirs:.3g}, that of the trial "
            f"{ours:.3g}{later}."
        )

    def _kept_out(self) -> str:
        """The last loss on held-out examples, unless it is a cause."""
        last = self.held_out[-1] if self.held_out else None
        if last is None or any(
            "kept_out" in cause.evidence or "validation" in cause.evidence for cause in self.causes
        ):
            return ""
        error = f" (standard error {last.error:.1g})" * math.isfinite(last.error)
        held = f"its loss on held-out examples is {digits(1 - last.kept)} times {CONSTANT}{error}"
        return f"After {counted(last.step, 'step')} {held}."

    def _validated(self) -> str:
        """The loss on validation examples, unless it is a cause."""
        if self.validation is None or any("validation" in cause.evidence for cause in self.causes):
            return ""
        return (
            "On validation examples, in evaluation mode, it is then "
            f"{digits(self.validation)} times {CONSTANT}."
        )

    def _untried(self) -> str:
        if self.outcome != "stays":
            decide = f" To decide, {self._enough}." if math.isfinite(self.step_seconds) else ""
            return f"No trial of {self.name} was made.{decide}"
        saved = (
            f", which saved about {rounded_up(self.saved_seconds)} s"
            if self.saved_seconds >= 1
            else ""
        )
        return (
            f"So {self.name} learns nothing in its {counted(self.steps, 'step')}; no trial "
            f"was needed{saved}."
        )

    @property
    def _enough(self) -> str:
        """The seconds that decide."""
        whole = self.setup_seconds + DECIDES * self.steps * self.step_seconds
        whole = max(whole, 2 * self.seconds * self.cut)
        return f"give seconds={rounded_up(whole)}" if math.isfinite(whole) else "give more seconds"

    def _what(self) -> str:
        n, p, name = (
            counted(self.steps, "step"),
            _probability(self.probability),
            self.name + "," * ("," in self.name),
        )
        rate = (
            "a learning rate" if self.scheduler is None else f"an initial_lr (of {self.scheduler})"
        )
        start = f"Under {self.optimizer} at {rate} of {self.learning_rate:.4g},"
        if not self.tried:
            return (
                f"{start} it is not known if the loss of {name} falls below {CONSTANT} in "
                f"{n}: the time ran out before the first."
            )
        whole = f"for all of its {n}" if self.steps > 1 else "in its only step"
        at = f"{'above' if self.last_loss > HIGHER else 'at'} {CONSTANT} {whole}"
        slightly = "slightly " * (
            self.outcome == "leaves" and self.tried >= self.steps and self.last_loss > CLEAR
        )
        falls, below = (
            f"falls {slightly}below {CONSTANT}",
            f"is below {CONSTANT} from the first step on",
        )
        words = {
            "leaves": f"{falls} within {n} (probability {p})"
            if self.escape_steps
            else f"{below} (probability {p})",
            "stays": f"{self.probably}stays {at} (probability of falling below it {p})",
            "explodes": f"explodes within {n}, before it falls below {CONSTANT} (probability "
            f"of falling below it {p})",
            "leaves, then explodes": f"{falls if self.escape_steps else below}, then explodes "
            f"within {n} (probability that it does not "
            f"{p})",
            "may leave": f"may or may not fall below {CONSTANT} within {n} (probability {p})",
        }
        return f"{start} the loss of {name} {words[self.outcome]}."

    def _when(self) -> str:
        if not self.tried:
            return f"To decide, {self._enough}."
        # from the first step on
        below = self.outcome.startswith("leaves") and not self.escape_steps
        parts = [] if self.outcome == "explodes" or below else [self._escape()]
        if self.diverges_at < math.inf:
            parts.append(f"it explodes at step {self.diverges_at:,.0f}")
        words = ", and ".join(parts)
        early = ""
        if self.cut and (self.outcome == "may leave" or self.probably):
            early = (
                f"; the time ran out after {counted(self.tried, 'step')}: to decide, {self._enough}"
            )
        error = self.trials[0].error(self.tried - 1)
        falls = f" (standard error {error:.1g})" * (
            CLEAR < self.last_loss < 1 and math.isfinite(error)
        )
        falls += " and still falls" * self.still_falls
        clear = (
            self.tried < self.steps
            and self.diverges_at == math.inf
            and not self.trials[0].cut
            and not early
        )
        enough = ", when its trial ended," * clear
        seen = (
            f"After {counted(self.tried, 'step')}{enough} its loss is "
            f"{digits(self.last_loss)} times {CONSTANT}{falls}."
        )
        when = f"{words[0].upper()}{words[1:]}{early}." if words else ""
        return " ".join(filter(None, [when, seen * math.isfinite(self.last_loss)]))

    def _escape(self) -> str:
        """The time of the escape with its interval."""
        low, high = self.interval
        if math.isinf(self.escape_steps):
            if math.isinf(low) or self.outcome != "may leave":
                return "no such fall was seen" + " in this order of the minibatches" * (
                    self.outcome == "may leave"
                )
            return f"no such fall was seen (at the earliest after about {_rounded(low)} steps)"
        verb = "does so" if self.outcome.startswith("leaves") else "would do so"
        end = _rounded(high) if high <= self.steps else f"more than {self.steps:,}"
        between = f" ({_rounded(low)} to {end})" * (low < high)
        return f"it {verb} after about {_rounded(self.escape_steps)} steps{between}"

    def lines(self) -> Iterator[str]:
        """The plateau of the training, and its trials."""
        rows = {
            "plateau": None
            if math.isnan(self.constant_loss)
            else f"{self.constant_loss:.4g}, the lowest loss of one output for all inputs; the "
            f"first loss is {self.first_loss:.4g}"
            + f" (both with {self.shift:.3g} added, as all losses here: yours fall below 0)"
            * (self.shift > 0),
            "trials": f"\n{' ' * VALUES}".join(map(_trial, self.table())) if self.tried else None,
            "left out": "; ".join(self.left_out),
        }
        yield from (f"{name:<{VALUES}}{words}" for name, words in rows.items() if words)

    def table(self) -> list[dict]:
        """One row for each trial, by learning rate: its steps, and those at which it left (0: at
        first) and diverged; inf: not seen.
        """
        every = sorted(self.trials, key=lambda trial: trial.factor)
        columns = {
            name: [getattr(trial, name) for trial in every]
            for name in ("steps", "left", "diverged")
        }
        columns["left"] = [0.0 if trial.began_below else trial.left for trial in every]
        return rows_of(
            learning_rate=[self.learning_rate * trial.factor for trial in every], **columns
        )

    def draw(self, ax: Axes) -> None:
        """Loss of each trial relative to a constant output's, a dot at its end; shaded: the
        interval of the escape.
        """
        tried = [trial for trial in self.trials if trial.steps]
        if not tried:
            words = folded(
                f"No trial was run. {self.why or self.verdict}",
                ax.figure.figure.get_figwidth() - 0.5,
                rcParams["font.size"],
            )
            ax.text(0, 1, words, transform=ax.transAxes, va="top")
            ax.set_axis_off()
            return
        for k, trial in enumerate(tried):
            label = f"learning rate {self.learning_rate * trial.factor:.3g}" + ", as given" * (
                trial.factor == 1
            )
            ax.plot(
                range(1, trial.steps + 1),
                trial.ratios,
                marker="o",
                markevery=[-1],
                label=label,
                **line_style(k),
            )
        if self.losses and tried:
            n = min(len(self.losses), tried[0].steps)
            own = replace(tried[0], losses=list(self.losses[:n]), constants=tried[0].constants[:n])
            ax.plot(range(1, n + 1), own.ratios, label="your own run", **line_style(len(tried)))
        ax.axhline(1, **DASHED | {"color": ink(ax)}, linewidth=0.8, label="best constant output")
        if 0 < self.escape_steps < math.inf:
            low, high = (min(max(step, 1), self.steps) for step in self.interval)
            ax.axvspan(
                low, high, color=BLUE, alpha=0.15, lw=0, label="interval of the escape from it"
            )
        ax.set(xscale="log", yscale="log", xlabel="step", ylabel="loss / that of a constant output")
        if self.held_out:
            dots = line_style(0) | {"linestyle": "", "marker": "s", "markersize": 4}
            steps, losses = zip(
                *((reading.step, 1 - reading.kept) for reading in self.held_out), strict=True
            )
            ax.plot(steps, losses, label="as given, on held-out examples", **dots)
        ax.set_title(f"Loss of each trial, a mean of up to {WINDOW} steps")
        ax.set_ylim(
            top=min(ax.get_ylim()[1], DIVERGED * max([1.0, *(trial.ratios[0] for trial in tried)]))
        )

    def draw_clocks(self, ax: Axes) -> None:
        """Shares that grow before the loss falls: of the loss that the outputs explain, of the
        gradient from early steps; no zeros.
        """
        explained = [
            ((s.first + s.last) / 2, s.gain, s.moves) for s in signals(self.trials[0]) if s.gain > 0
        ]
        early = [
            (max(1, step), reach.far) for step, reach in self.trials[0].reaches if reach.far > 0
        ]
        early *= len(early) > 1
        dots = line_style(0) | {"linestyle": "", "marker": "o", "markersize": 4}
        curves: dict[str, tuple[list, dict]] = {
            "of the loss, explained by the outputs": (explained, line_style(0)),
            "the same, more than by chance": ([row for row in explained if row[2]], dots),
            "of the gradient, from the first half of a sequence": (
                early,
                line_style(1) | {"marker": "."},
            ),
        }
        for label, (rows, style) in curves.items():
            if rows:
                ax.plot([row[0] for row in rows], [row[1] for row in rows], label=label, **style)
        ax.set(
            xscale="log",
            xlabel="step",
            ylabel="share",
            title="Signs before the loss falls, if they grow",
        )
        if explained or early:
            ax.set(yscale="log", ylim=(None, 2))

    def _heading(self) -> str:
        first = f"; first cause: {self.causes[0].name}" if self.causes else ""
        return f"{self.name} {self.probably}{FINDINGS[self.outcome]}{first}"

    _plot_trials, _plot_words = (
        panels(7, 2.4, _heading, 1)(draw, draw_clocks),
        panels(7, 0.9, _heading)(draw),
    )

    def plot(self, ax: Axes | None = None, **options) -> Axes:
        """Losses and clocks of the trials; without one a sentence."""
        return (self._plot_trials if self.tried else self._plot_words)(ax, **options)

    def to_json(self) -> dict:
        """All numbers for JSON; None if not finite. `interval` is that of `escape_steps`."""
        content = {
            f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("title", "about")
        }
        names = ("verdict", "why", "outcome", "last_loss", "still_falls", "diverges_at", "cut")
        content |= {name: getattr(self, name) for name in names}
        own = self.trials[0]
        content["clocks"] = {
            "explained": [vars(window) for window in signals(own)],
            "reach": [{"step": step, "share": reach.far} for step, reach in own.reaches],
        }
        reach = (
            None
            if self.reach is None
            else {"seen": self.reach.seen, "share": self.reach.share.tolist()}
        )
        content |= {
            "trials": self.table(),
            "reach": reach,
            "causes": [vars(cause) for cause in self.causes],
        }
        content["held_out"] = [vars(reading) for reading in self.held_out]
        return finite_json(content)

    def _saved(self) -> dict:
        """`to_json`, with the curves of the figure: (S,) losses relative to the constant's, for
        each row of `table`.
        """
        every = sorted(self.trials, key=lambda trial: trial.factor)
        return self.to_json() | {
            "curves": [trial.ratios.tolist() if trial.steps else [] for trial in every]
        }


def _rounded(step: float) -> str:
    """
    >>> _rounded(1234.5), _rounded(0.3), _rounded(3e9)
    ('1,230', '1', '10^9')
    """
    return (
        f"10^{round(math.log10(step))}"
        if step >= HUGE
        else f"{max(1, round(float(f'{step:.3g}'))):,}"
    )


def _probability(p: float) -> str:
    """
    >>> _probability(0.999), _probability(0.42), _probability(math.nan)
    ('over 0.99', '0.42', 'not known')
    """
    if math.isnan(p):
        return "not known"
    return "over 0.99" if p > 0.99 else "below 0.01" if p < 0.01 else f"{p:.2f}"


def _trial(row: dict) -> str:
    """A trial and its end: "learning rate 0.001     falls below the plateau at step 36 of 90"."""
    ends = [
        f"{verb} at step {row[key]:,.0f}"
        for key, verb in (("left", "falls below the plateau"), ("diverged", "explodes"))
        if 0 < row[key] < math.inf
    ]
    if row["left"] == 0:
        ends = [f"below the plateau from the first of {row['steps']:,} steps on", *ends]
    end = (
        ", ".join(ends)
        or f"neither falls below the plateau nor explodes in {counted(row['steps'], 'step')}"
    )
    end += f" of {row['steps']:,}" * (
        len(ends) == 1 and row["diverged"] == math.inf and row["left"] > 0
    )
    return f"learning rate {row['learning_rate']:<10.3g} {end if row['steps'] else 'not tried'}"
