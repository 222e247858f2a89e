"""Result of a check: prediction, numbers, suggestions and their text; candidates for changes of a network or its training."""

import math
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from rhn.errors import InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.utils.io import finite_json
from rhn.utils.result import Result
from rhn.utils.wording import counted

if TYPE_CHECKING:
    from gersgorin.checking.gains import Gains

MOST = 10**9  # batches or epochs


@dataclass(frozen=True, kw_only=True)
class Training:
    """Settings of a training by SGD on the mean loss of a frame. Raises InvalidInputError."""

    learning_rate: float
    momentum: float = 0.9
    epochs: int = 300
    batches: int = 1
    """Steps of SGD per epoch."""

    def __post_init__(self):
        for name, fits, expected in (
            ("learning_rate", lambda v: 0 < v < math.inf, "a number above 0"),
            ("momentum", lambda v: 0 <= v < 1, "0 or more and less than 1"),
            ("epochs", lambda v: 1 <= v <= MOST and v == int(v), "a whole number of at least 1"),
            ("batches", lambda v: 1 <= v <= MOST and v == int(v), "a whole number of at least 1"),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not fits(value):
                raise InvalidInputError(f"the {name.replace('_', ' ')} is {value}, expected {expected}")


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """Prediction for one network and one training."""

    escape_epochs: float
    """Epochs on the plateau; infinite if the simulation does not leave it."""
    ended: str
    """Result of the simulated escape, see `gersgorin.analyses.escape.Trajectory`."""
    probability: float | None
    """Of learning: a loss a tenth below that of the best constant output. None: not known."""
    interval: tuple[float, float] | None
    """Exact 95 % interval of the share of similar study networks that learned."""
    networks: int = 0
    """Number of similar study networks."""
    learned: int = 0


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """A change and the prediction for the changed network."""

    change: str
    """In words: "initialise with 1/sqrt(n)"."""
    option: dict[str, Any]
    """The changed options: {"init": "scaled"}."""
    outlook: Outlook


@dataclass(frozen=True, kw_only=True, repr=False)
class Check(Result):
    """Result of `check`: `verdict` is one sentence, `summary()` a page, `to_json()` the output of --json."""

    name: str
    training: Training
    outlook: Outlook
    order: float
    """Of the plateau: the power of the weights' scale at which the rate of learning falls."""
    rates: dict[str, float]
    """||dL/dW|| / ||W|| on the plateau, by matrix."""
    constant_loss: float
    """Loss of the best constant output."""
    first_loss: float
    """Loss before training."""
    weight_scale: float | None
    """Root mean square of the recurrent weights."""
    unlike: str | None
    """Reason of an unknown probability; None if it is known."""
    loss_unit: str = "nats a frame"
    """Of both losses."""
    again: str | None = None
    """After a divergence: `Outlook.ended` of a second simulation with other initial weights; else None."""
    cells: "tuple[Gains, ...]" = ()
    """Gains, exponents and saturation, one for each cell and seed."""
    suggestions: tuple[Suggestion, ...] = ()

    @property
    def probability(self) -> float | None:
        return self.outlook.probability

    @property
    def interval(self) -> tuple[float, float] | None:
        return self.outlook.interval

    @property
    def escape_epochs(self) -> float:
        return self.outlook.escape_epochs

    @property
    def escape_steps(self) -> float:
        return self.escape_epochs * self.training.batches

    @property
    def optimizer(self) -> str:
        return "SGD"

    @property
    def verdict(self) -> str:
        """One sentence: time on the plateau and its reason, share of similar networks that learned, best changes."""
        escape, epochs, o = self.escape_epochs, self.training.epochs, self.outlook
        if escape == 0:
            return (
                f"{self.name}: has left the plateau already, with {self.first_loss:.4g} {self.loss_unit} against the "
                f"{self.constant_loss:.4g} of a constant output; what comes after is not known."
            )
        if not math.isfinite(escape):
            start = f"{ENDS[o.ended][0]}{_runs_that_diverged(self)}"
        elif escape > epochs:
            start = f"will sit on the plateau for about {in_epochs(escape, epochs)}, and has {epochs}"
        else:
            start = f"should leave the plateau after about {in_epochs(escape, epochs)} of {epochs}"
        comma = "," * math.isnan(self.order)  # after the reason of an unknown order
        scale = "" if self.weight_scale is None else f"{comma} at recurrent weights of {self.weight_scale:.1g}"
        if self.unlike:
            then = f"whether it learns is not known, because it {self.unlike}"
        else:
            low, high = (100 * bound for bound in o.interval)
            then = f"of {o.networks} study networks like it {o.learned} learned ({low:.0f} to {high:.0f} %)"
        return f"{self.name}: {start} (order {_order(self.order)}{scale}); {then}{_advice(self)}."

    def summary(self) -> str:
        """The verdict, then the numbers behind it."""
        t, o = self.training, self.outlook
        batches, scale = counted(t.batches, "batch", "batches"), self.weight_scale
        rows = {
            "training": f"SGD, learning rate {t.learning_rate:g}, momentum {t.momentum:g}, {counted(t.epochs, 'epoch')} of {batches}",
            "plateau": f"{self.constant_loss:.4g} {self.loss_unit}, what a constant output reaches on these sequences; "
            f"it starts at {self.first_loss:.4g}",
            "order": _order(self.order) + (f", recurrent weights of {scale:.3g}" if scale else ""),
            "leaves after": leaves(o).removeprefix("leaves after "),
            "probability": "not known" if o.probability is None else _probability(o),
            "rates": rates_in_words(self.rates),
        }
        lines = [self.verdict, "", *(f"{name:<15}{words}" for name, words in rows.items()), *lines_of_gains(self.cells)]
        if self.suggestions:
            lines += ["", "tried instead", *(f"  {_tried(s)}" for s in self.suggestions)]
        return "\n".join(lines)

    def to_json(self) -> dict:
        """All numbers for JSON; None if not finite."""
        names = ("probability", "interval", "escape_epochs", "order", "rates", "name", "unlike", "constant_loss")
        names += ("first_loss", "loss_unit", "weight_scale", "optimizer", "escape_steps")
        content = {"verdict": self.verdict} | {name: getattr(self, name) for name in names}
        content |= {"ended": self.outlook.ended, "another_draw_ended": self.again}
        content |= {"study_networks": self.outlook.networks, "study_learned": self.outlook.learned}
        content |= asdict(self.training)
        content["cells"] = [cell.to_dict() for cell in self.cells]
        content["suggestions"] = [
            {"change": s.change, "option": s.option} | asdict(s.outlook) for s in self.suggestions
        ]
        return finite_json(content)


LARGE = 1e5  # epochs; from here on written as a power of ten
GOOD, MUCH = 0.5, 2.0  # probability of a sufficient change; factor of a helpful one
ENDS = {  # of a simulated escape without a time: in the verdict, and in place of the time
    "never": ("will sit on the plateau for ever", "never leaves"),
    "waiting": ("will still be on the plateau when its training ends", "not within its training"),
    "unsettled": (
        "is not seen to leave the plateau, where its loss neither falls nor comes to rest",
        "not seen to leave, its loss does not settle",
    ),
    "diverged": ("may diverge before it leaves the plateau", "diverged when followed"),
    "unfollowed": ("has too many parameters for its way off the plateau to be followed", "not followed"),
}


def leaves(outlook: Outlook) -> str:
    """Time of the escape in words, or the reason why there is none."""
    if outlook.escape_epochs == 0:
        return "has left already"
    return (
        f"leaves after {in_epochs(outlook.escape_epochs)}"
        if math.isfinite(outlook.escape_epochs)
        else ENDS[outlook.ended][1]
    )


def in_epochs(epochs: float, beside: int | None = None) -> str:
    """A finite time in words; with more digits if rounding would change its order relative to `beside`.

    >>> in_epochs(0.3), in_epochs(17.6), in_epochs(3e12), in_epochs(300.2, 300)
    ('1 epoch', '18 epochs', '10^12 epochs', '300.2 epochs')
    """
    power = round(math.log10(epochs)) if epochs >= LARGE else None
    rounded = max(1, round(epochs)) if power is None else 10**power
    if beside is not None and (rounded > beside) != (epochs > beside):
        return f"{epochs:.9g} epochs"
    return counted(rounded, "epoch") if power is None else f"10^{power} epochs"


def _order(order: float) -> str:
    """The order in words, as a whole number if it is near one."""
    if math.isnan(order):
        return "unknown, its rates are below all numbers or it has no output bias"
    return f"{round(order)}" if abs(order - round(order)) <= 0.05 else f"{order:.1f}"


def _runs_that_diverged(check: Check) -> str:
    """Number of simulations that diverged, in words; "" if the first did not."""
    if check.outlook.ended != "diverged":
        return ""
    if check.again is None:
        return ", as the one run did that was followed"
    runs = "both runs" if check.again == "diverged" else "one of two runs"
    return f", as {runs} did that were followed, each with another draw of its weights"


def _probability(o: Outlook) -> str:
    low, high = o.interval
    return f"{o.probability:.2f} ({low:.2f} to {high:.2f}): {o.learned} of {o.networks} study networks like it learned"


def lines_of_gains(cells: "tuple[Gains, ...]") -> list[str]:
    """A line with the name of each cell, then its gains, exponents and saturation; those in a loop of the network are left out."""
    lines = []
    for gains in cells:
        if gains.own_loop:
            lines.append(
                f"{gains.cell}: called in a loop of your own, which check does not measure; gersgorin plot follows it"
            )
            continue
        gates = "" if gains.saturated_gates is None else f", gates {gains.saturated_gates:.0%}"
        rows = {
            "input gain": _row(gains.input_gain),
            "state gain": _row(gains.state_gain),
            "exponent": f"{_spread(gains.exponents)}, {counted(gains.exponent_steps, 'step')}{_a_step(gains.exponents)}",
            "saturated": f"outputs {gains.saturated_outputs:.0%}{gates}",
        }
        lines += [gains.cell, *(f"  {name:<13}{words}" for name, words in rows.items())]
    return lines


def rates_in_words(rates: dict[str, float]) -> str:
    """
    >>> rates_in_words({"a": 0.012, "b": math.inf})
    'gradient / weights on the plateau: a 1.2e-02, b infinite (its weights are 0)'
    """
    each = [f"{n} infinite (its weights are 0)" if r == math.inf else f"{n} {r:.1e}" for n, r in rates.items()]
    return f"gradient / weights on the plateau: {', '.join(each)}"


def _row(values) -> str:
    return " ".join(f"{value:.2g}" for value in values) or "the cell does not say what one of its layers does"


def _a_step(exponents) -> str:
    """An exponent in words."""
    factor = math.exp(statistics.fmean(map(float, exponents)))
    return f"; each step multiplies a gradient by {factor:.2g}" if 0 < factor < math.inf else ""


def _spread(exponents) -> str:
    """Mean and standard deviation over sequences."""
    finite = [float(e) for e in exponents if math.isfinite(e)]
    if len(finite) < len(exponents):
        return f"not finite in {len(exponents) - len(finite)} of {counted(len(exponents), 'sequence')}"
    spread = f" +- {statistics.pstdev(finite):.1g}" if len(finite) > 1 else ""
    return f"{statistics.fmean(finite):.3g}{spread} over {counted(len(finite), 'sequence')}"


def _tried(suggestion: Suggestion) -> str:
    o = suggestion.outlook
    options = ", ".join(f"--{name.replace('_', '-')} {value}" for name, value in suggestion.option.items())
    likely = "" if o.probability is None else f", probability {o.probability:.2f}"
    return f"{suggestion.change} ({options}: {leaves(o)}{likely})"


def _advice(check: Check) -> str:
    """The best changes, as the end of a sentence; "" if none were tried."""
    followed = [s for s in check.suggestions if s.outlook.ended != "unfollowed"]
    if not followed:
        return ""
    if enough := [s for s in followed if _is_enough(s.outlook, check)]:
        return "; " + ", or ".join(map(_tried, enough[:2]))
    if better := [s for s in followed if _is_better(s.outlook, check.outlook)]:
        return f"; what was tried is not enough, the best of it: {_tried(better[0])}"
    return "; nothing that was tried helps"


def _is_enough(new: Outlook, check: Check) -> bool:
    """True if the changed network will probably learn, and more probably than the original."""
    old = check.outlook
    if new.probability is not None and old.probability is not None:
        return new.probability >= GOOD and new.probability > old.probability
    return new.escape_epochs <= check.training.epochs < old.escape_epochs


def _is_better(new: Outlook, old: Outlook) -> bool:
    """True if the probability doubles, or the time on the plateau halves."""
    if new.probability is not None and old.probability is not None:
        return new.probability >= MUCH * old.probability
    return math.isfinite(new.escape_epochs) and new.escape_epochs <= old.escape_epochs / MUCH


FASTER = 3.0  # factor on the learning rate
SLOWER = 3.0, 10.0  # divisors of the learning rate after a divergence
HIGHEST_RATE = 0.5
GATED = "rhn"
WITHOUT_GATES = ("rnn", "irnn", "dt-rnn", "dts-rnn")
MOSTLY_CLOSED = -2.0


@dataclass(frozen=True)
class Change:
    """One change: in words, as options, and the changed network and training."""

    words: str
    option: dict[str, Any]
    model: nn.Module
    training: Training


def changes(model: nn.Module, training: Training, *, diverged: bool = False) -> Iterator[Change]:
    """Candidates for changes, one option each; for a user's module only the learning rate.

    diverged: the simulation diverged: try smaller learning rates instead of a larger one.
    """
    if isinstance(model, PolyphonicModel | LanguageModel):
        yield from _of_networks(model, training)
    given = training.learning_rate
    rates = [given / by for by in SLOWER] if diverged else [min(FASTER * given, HIGHEST_RATE)]
    for rate in (float(f"{rate:.1g}") for rate in rates):
        if diverged or rate > given:
            words = f"a learning rate of {rate:.3g}"
            yield Change(words, {"learning_rate": rate}, model, replace(training, learning_rate=rate))


def _of_networks(model: PolyphonicModel | LanguageModel, training: Training) -> Iterator[Change]:
    config = model.config()
    if model.init.scheme not in ("scaled", "orthogonal"):
        yield Change("initialise with 1/sqrt(n)", {"init": "scaled"}, _rebuilt(model, init="scaled"), training)
    if model.cell in WITHOUT_GATES:
        gated = type(model)(**_for_cell(model, config, GATED), generator=_generator())
        yield Change("use gates", {"cell": GATED}, gated, training)
    if (config.get("transform_bias") or 0) > MOSTLY_CLOSED and "transform_bias" in config:
        closed = _rebuilt(model, transform_bias=MOSTLY_CLOSED)
        yield Change(
            f"start with a transform bias of {MOSTLY_CLOSED:g}", {"transform_bias": MOSTLY_CLOSED}, closed, training
        )


def _rebuilt(model: nn.Module, **changed) -> nn.Module:
    return type(model)(**model.config() | changed, generator=_generator())


def _for_cell(model: nn.Module, config: dict, cell: str) -> dict:
    """The configuration with another cell: sizes and initialisation stay, the options of the old cell go."""
    names = ("init", *type(model).sizes)
    return {"cell": cell} | {name: config[name] for name in names}


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
