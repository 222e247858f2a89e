"""Small training runs that tests share: a sum of two inputs, classes, and signs."""

import re
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import torch
from torch import nn

from rhn.utils.tables import EXPLAINED, MISSING, MORE
from trainability.changes import Known
from trainability.data import read_examples
from trainability.door import layout_with_outputs, users_output
from trainability.races import Race
from trainability.scores import score_of
from trainability.snapshot import restored
from trainability.training import TrainingRun

N, T, M = 200, 6, 2


def sums(count=N, steps=T):
    """x (N, T, M), and y (N, 1), the sum of the first numbers of two time steps."""
    x = torch.randn(count, steps, M)
    return x, x[:, :2, 0].sum(1, keepdim=True)


def parts(model, loss_fn=None, kind="Adam", rate=1e-2, **how):
    """(model, x, y, loss, optimiser) of the sums."""
    optimizer = getattr(torch.optim, kind)(model.parameters(), rate, **how)
    return (model, *sums(), loss_fn or nn.MSELoss(), optimizer)


def run_of(model, x, y, loss_fn, optimizer=None, *, predict=None, scheduler=None, **data):
    """A `TrainingRun` of these parts."""
    usual = {"batch_size": 32, "axis": 0, "shuffle": True, "validation": None, "seed": 0}
    read = read_examples(x, y, **usual | data, device=torch.device("cpu"))
    with restored(model, loss_fn):
        read = replace(read, layout=layout_with_outputs(model, read, predict))
    score = score_of(lambda x: users_output(model, read, x), read, loss_fn, predict)
    return TrainingRun(
        model=model,
        loss_fn=loss_fn,
        optimizer=optimizer or torch.optim.SGD(model.parameters(), 1e-3),
        scheduler=scheduler,
        data=read,
        score=score,
        predict=predict,
        shuffle=read.shuffle,
        last=score.last,
    )


@dataclass(frozen=True)
class Prepared(Race):
    """A race whose mean errors are known: {label: error}, or {label: (error on the first half,
    errors on the other half with three seeds)}; on the first half, too, three seeds may have three
    errors. A seed without an error raises in training.

    noise: largest deviation of an example from the error of a row, +-; 0 for the row none.
    """

    prepared: dict = field(default_factory=dict)
    noise: float = 0.0

    def errors(self, label, seed):
        if label not in self.prepared:
            return None
        known = self.prepared[label]
        first, other = known if isinstance(known, tuple) else (known, (known,) * 3)
        if other[seed] is None:
            return None
        first = first[seed] if isinstance(first, tuple) else first
        noise = 0.0 if label == self.base else self.noise * EXAMPLES
        self.found[label, seed] = first + noise + 0 * EXAMPLES, other[seed] + noise + 0 * EXAMPLES
        return self.found[label, seed]


EXAMPLES = torch.linspace(-1, 1, 20, dtype=torch.double)


def prepared(
    known, *, kind="numbers", constant=1.0, noise=0.0, groups=None, steps=1, has_held_out=True
):
    """A `Prepared` race."""
    data = SimpleNamespace(has_held_out=has_held_out)
    run = SimpleNamespace(score=SimpleNamespace(kind=kind), data=data)
    held = (SimpleNamespace(groups=torch.arange(20) if groups is None else groups),) * 2
    both = (torch.full_like(EXAMPLES, constant),) * 2
    return Prepared(
        run, None, Known(), steps, 0, held=held, constant=both, prepared=known, noise=noise
    )


FRAME = {
    *("examples", "(", "distinct),", "held", "out,", "time", "steps;", "optimiser", "steps", ","),
    *(":", "error:", ";", "rate", "to", "note:", "SGD,", "Adam,", *MORE.split()),
    *EXPLAINED.split(),
}


def other_words(found):
    """The words of a printed result that are no numbers and no literals of its class."""
    text = f"{found}\n{found.whole()}"
    for literal in sorted((*found.texts, found.page), key=len, reverse=True):
        text = text.replace(literal, " ")
    text = re.sub(r"-?\b(inf|nan|\d[\d.]*(e[+-]?\d+)?)\b", " ", text)
    return {*text.split()} - {MISSING} - FRAME
