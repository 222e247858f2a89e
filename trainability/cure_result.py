"""The result of `cure`: a `Cure`, with the initial weights and learning rates that were tried."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from rhn.errors import InvalidInputError
from rhn.utils.result import Result, fitted
from rhn.utils.wording import counted, rounded_up
from trainability.candidates import Change
from trainability.cause import Cause
from trainability.copies import copy_of_optimizer
from trainability.race import Row
from trainability.sentences import shown
from trainability.signal import Reach
from trainability.training import Training

SHOWN_TRIALS = 4


@dataclass
class Attempt:
    """Initial weights and a learning rate that `cure` tried, and the error that a run with them
    reaches.
    """

    change: Change
    rows: list[Row]
    """One training run for each minibatch order in which the change was tried."""

    @property
    def row(self) -> Row:
        """The training run in the first minibatch order."""
        return self.rows[0]

    @property
    def errors(self) -> list[float]:
        """The median relative error of the last quarter of the steps, in each minibatch order."""
        return [row.lasting.error for row in self.rows]

    @property
    def error(self) -> float:
        """The median of `errors` over the minibatch orders."""
        return median(self.errors)

    @property
    def stays(self) -> int:
        """Number of minibatch orders in which the run reaches half of the gain and keeps it until
        the end.
        """
        return sum(row.reached[1] for row in self.rows)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Cure(Result):
    """Result of `cure`: the initial weights and learning rate that help, and all that were tried.

    >>> from trainability import cure
    >>> _ = torch.manual_seed(0)
    >>> model, x = nn.Sequential(nn.Flatten(), nn.Linear(6, 1)), torch.randn(200, 2, 3)
    >>> y, sgd = x.sum((1, 2))[:, None], torch.optim.SGD(model.parameters(), 0.1)
    >>> found = cure(model, x, y, nn.MSELoss(), sgd, steps=60)
    >>> found.outcome, found.code, [*found.table()[0]][:3]
    ('without a fault', '', ['start', 'optimizer', 'learning_rate'])
    """

    outcome: str
    """One of:

    - "without a fault": the network learns unchanged;
    - "trains after the change": the network learns with the new initial weights, learning rate or
      optimiser;
    - "trains in some orders": with the change the network learns in most minibatch orders, but not
      in all;
    - "not confirmed": the network learns, unchanged or with a change, but there was no time for all
      steps or minibatch orders, or there is only one order;
    - "none helped": no change helped;
    - "undecided": no change helped, but not all changes ran to the end;
    - "not searched": a fault is proven that other initial weights cannot repair.
    """
    model: nn.Module
    """An untrained copy of your model with the initial weights that help, or with your weights if
    no others helped.
    """
    learning_rate: float
    """The learning rate that helps; with a scheduler, its initial_lr."""
    clip_norm: float | None
    """Your clipping norm; None: no clipping."""
    start: str
    """The initial weights in words, such as "orthogonal matrices"."""
    code: str
    """Lines of Python that change your `model` and `optimizer` in the same way; "" if nothing
    changes.
    """
    error: float
    """Relative error of the chosen training run on held-out examples: 0 is perfect, 1 is the
    constant predictor. It is the median over the last quarter of the steps, and over the minibatch
    orders.
    """
    before: float
    """Relative error of the unchanged training run, in the minibatch order with the highest final
    error.
    """
    causes: tuple[Cause, ...]
    """Facts about one minibatch, proofs first."""
    trials: tuple[Attempt, ...]
    """All attempts: the unchanged training run, then the chosen change, then the other changes by
    increasing error.
    """
    chosen: Attempt
    reach: Reach | None
    """How far back the gradient reaches at your initial weights; None: not measured."""
    steps: int
    """Optimiser steps of the training run."""
    seconds: float
    """Duration of the search in seconds."""
    needed_seconds: float | None
    """Seconds that a longer search needs to decide; None if this search has decided."""
    training: Training
    refused: str = ""
    """The reason why errors are not compared, such as a constant output that has the least loss;
    "" if they are.
    """

    @property
    def changed(self) -> bool:
        """True if the result differs from your training run."""
        return self.chosen is not self.trials[0]

    @property
    def changes(self) -> str:
        """The change in words, such as "orthogonal matrices, learning rate 0.01"; "" for none."""
        return self.chosen.change.words(self.training) if self.changed else ""

    def optimizer(self, parameters: Iterable[Tensor]) -> Optimizer:
        """Return a new optimiser with the learning rate that helps, for the parameters of
        `found.model`.

        The parameters of any other copy of the model can also be given. Raises InvalidInputError
        for other parameters.
        """
        theirs, own = list(parameters), list(self.training.model.parameters())
        if [p.shape for p in theirs] != [p.shape for p in own]:
            raise InvalidInputError(
                "these are not the parameters of a copy of the model: expected "
                "found.model.parameters()"
            )
        if self.chosen.change.adam is not None:
            return torch.optim.Adam(theirs, self.chosen.change.adam)
        memo: dict[int, Any] = {id(p): q for p, q in zip(own, theirs, strict=True)}
        fresh = copy_of_optimizer(self.training.optimizer, memo)
        rates = self.training.rates(self.chosen.change.factor)
        for group, rate in zip(fresh.param_groups, rates, strict=True):
            group["lr"] = rate
            group.pop("initial_lr", None)  # which a new scheduler would take
        return fresh

    @property
    def whole(self) -> int:
        """The largest number of optimiser steps of an attempt. Only errors after this many steps
        are compared.
        """
        steps = (trial.row.steps for trial in self.trials if trial.row.exploded is None)
        return max(steps, default=0)

    @property
    def compared(self) -> list[Attempt]:
        """The changes that can be compared with the unchanged training run: those that ran as many
        steps, or diverged.
        """
        tried = [trial for trial in self.trials[1:] if trial.row.measures]
        return [t for t in tried if t.row.steps == self.whole or t.row.exploded is not None]

    @property
    def finding(self) -> str:
        """The result in one clause."""
        if self.outcome == "not searched":
            return f"{self.title} cannot learn unchanged"
        if self.refused or self.outcome == "undecided":
            return f"{self.title} is undecided"
        if self.outcome == "none helped":
            return f"None of {counted(len(self.compared), 'change')} helps {self.title}"
        return f"{self.title} " + (
            f"learns with {self.changes}" if self.changed else "trains as it is"
        )

    @property
    def verdict(self) -> str:
        """The result in a few sentences."""
        if self.outcome == "not searched":
            return f"{self.finding}. Repair this before a search:"
        if self.refused:
            return f"{self.finding}: {self.refused}."
        claim = f"{self.finding}: {self._reached}."
        if self.outcome == "none helped":
            return claim
        if self.outcome == "undecided":
            return " ".join([claim, *self._others("helps")])
        others = [] if self.changed else self._others("does far better")
        return " ".join([claim, *others, self.lasts])

    @property
    def _reached(self) -> str:
        """The error of the chosen training run, and its number of steps, in words."""
        row = self.chosen.row
        if math.isfinite(self.error):
            after = f"after {counted(row.steps, 'step')}"
            return f"relative error {shown(self.error)} {after} (1: the constant predictor)"
        if row.exploded is None:
            return "there was no time for a measurement"
        return f"the loss is not finite at step {row.exploded:,}"

    def _others(self, does: str) -> Iterator[str]:
        """Yield a sentence about the changes: how many were compared, and how many stopped before
        they could be compared.
        """
        count = len(self.compared)
        earlier = sum(bool(trial.row.measures) for trial in self.trials[1:]) - count
        clauses = []
        if count:
            clauses.append(f"None of {counted(count, 'change')} {does}")
        if earlier:
            clauses.append(f"{earlier} {'more ' if count else ''}stopped earlier")
        if clauses:
            yield f"{'; '.join(clauses)}."

    @property
    def lasts(self) -> str:
        """A sentence that states at which step the chosen run learned, and in how many minibatch
        orders this lasts.
        """
        of = f"of {counted(len(self.chosen.rows), 'minibatch order')}"
        step = max(row.reached[0] for row in self.chosen.rows)
        return f"Half of the gain: reached at step {step:,}, stays in {self.chosen.stays} {of}."

    @property
    def shown(self) -> list[Attempt]:
        """The trials that are printed: the unchanged training run, the chosen change, and the best
        trial for each other choice of initial weights.
        """
        first = [self.trials[0], self.chosen] if self.changed else [self.trials[0]]
        best: dict[str, Attempt] = {}
        for trial in self.trials[1:]:
            if trial.row.measures and trial is not self.chosen:
                best.setdefault(trial.change.start.words, trial)
        return [*first, *best.values()][:SHOWN_TRIALS]

    def sentences(self) -> Iterator[str]:
        """Yield the verdict, the best trials, the causes, and what to do next; at most twelve
        lines.
        """
        yield self.verdict
        below = [*self._below_the_trials()]
        if self.trials[0].row.measures:
            yield ""
            for trial in self.shown:
                words = trial.change.words(self.training)
                errors = " ".join(f"{shown(error):>6}" for error in trial.errors)
                yield f"  {words:<60}{errors}{self._when(trial.row)}"
            yield from [""] if below else []
        yield from below

    def _when(self, row: Row) -> str:
        """Return the step at which a row ended, if the verdict states another number of steps."""
        if row.exploded is not None:
            return f"  (not finite at step {row.exploded:,})"
        return "" if row.steps == self.chosen.row.steps else f"  (step {row.steps:,})"

    def _below_the_trials(self) -> Iterator[str]:
        """Yield the first cause, and what to do next."""
        for cause in self.causes[:1]:
            yield f"{cause.sentence} {cause.remedy}"
        if self.reach and self.reach.warning and self.outcome != "without a fault":
            yield self.reach.warning
        yield from self._to_decide()
        if self.code:
            yield (
                "`code` of this result has the lines to paste after the line that creates the "
                "optimiser."
            )

    def _to_decide(self) -> Iterator[str]:
        """Yield how to get a decision, if there is none."""
        unconfirmed = self.outcome == "not confirmed"
        if self.needed_seconds is not None:
            aim = "confirm this" if unconfirmed else "decide"
            yield f"To {aim}, give at least seconds={rounded_up(self.needed_seconds)}."
        elif unconfirmed:
            yield "The DataLoader gives one order of minibatches: shuffle it to confirm."

    def summary(self, *, whole: bool = True) -> str:
        """Return the printed result as text; whole=True adds the lines to paste."""
        code = f"\n\n{self.code}".rstrip() if whole else ""
        return "\n".join(self.sentences()) + code

    def __repr__(self) -> str:
        return fitted(self.summary(whole=False))

    def table(self) -> list[dict[str, Any]]:
        """Return one dictionary per trial: initial weights, optimiser, learning rate, steps, error,
        the error in each minibatch order, and `stays`.
        """
        given = type(self.training.optimizer).__name__
        return [
            {
                "start": trial.change.start.words,
                "optimizer": given if trial.change.adam is None else "Adam",
                "learning_rate": trial.change.rate(self.training),
                "steps": trial.row.steps,
                "error": trial.error,
                "orders": " ".join(f"{error:.3g}" for error in trial.errors),
                "stays": trial.stays,
            }
            for trial in self.trials
        ]

    def _saved(self) -> dict[str, Any]:
        names = ("title", "outcome", "changes", "start", "learning_rate", "clip_norm", "code")
        numbers = ("error", "before", "steps", "seconds", "needed_seconds", "verdict")
        saved = {name: getattr(self, name) for name in (*names, *numbers)}
        causes = [vars(cause) for cause in self.causes]
        return saved | {"causes": causes, "trials": self.table()}
