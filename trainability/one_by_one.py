"""Measure held-out examples one at a time, if their outputs depend on the minibatch.

The outputs depend on the minibatch if the output of an example changes when all other examples
become copies of it, with the same random numbers.

found = one_by_one(base, race)    # None if it does not depend
found.sentence, found.cause()
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from gersgorin.validate import random_numbers_kept
from rhn.errors import RhnError
from rhn.utils.wording import counted
from trainability.cause import Cause
from trainability.data import Pair, count_of, take
from trainability.probe import EXAMPLES
from trainability.race import CLEAR, Race, Row, paired
from trainability.scores import PairedErrors
from trainability.sentences import shown
from trainability.training import Training
from trainability.verdict import BETTER

MOST = 100  # examples that are measured


@dataclass(frozen=True)
class OneByOne:
    """The errors of held-out examples, one at a time and in larger minibatches."""

    alone: PairedErrors
    joint: Tensor
    """(E,) errors of the same examples in the minibatches of the race."""
    largest: int
    """Number of examples in the largest minibatch of the race."""

    @property
    def error(self) -> float:
        """Relative error in the minibatches of the race."""
        return float(self.joint.mean()) / self.alone.size

    @property
    def sentence(self) -> str:
        """A sentence with both errors; "" if they are printed alike."""
        one, several = shown(self.alone.relative), shown(self.error)
        if one == several:
            return ""
        examples = counted(self.alone.count, "held-out example")
        return (
            f"The outputs of an example depend on its minibatch: on {examples} the relative error "
            f"is {several} in minibatches of at most {self.largest}, and {one} one at a time."
        )

    def cause(self) -> Cause | None:
        """Return the cause "minibatch" if the error is far lower with one example at a time; else
        None.
        """
        mean, deviation = paired(self.joint, self.alone.errors, self.alone.size)
        if self.alone.relative > BETTER * min(1.0, self.error) or mean <= CLEAR * deviation:
            return None
        return Cause(
            "minibatch",
            "network",
            self.sentence,
            "Look in forward for what is read from the whole minibatch: after pad_packed_sequence "
            "out[:, -1] is the last output of the longest sequence only, and h[-1] that of each; "
            "an order of sorted sequences must be undone; a mean or softmax may run over the "
            "examples.",
            evidence={"alone": self.alone.relative, "minibatch": self.error},
        )


def one_by_one(base: Row, race: Race) -> OneByOne | None:
    """Measure the first held-out examples again, each in a minibatch of its own.

    None if the outputs do not depend on the minibatch, or cannot be compared.
    """
    training, score = base.training, race.scores["error"]
    if training is None or base.exploded is not None or not base.measures:
        return None
    if score.axes.batch is None or not score.by_example:
        return None
    axis, batch = training.data.axis, score.axes.batch
    try:
        if not _depends_on_others(training, race.pairs[0], batch):
            return None
        single = [*islice(_examples(race.pairs, axis), MOST)]
        outputs = training.answers([x for x, _ in single])
        joint = training.answers([x for x, _ in race.pairs])
    except RhnError:  # of a network that does not take a single example
        return None
    shapes = {one.shape for each in joint for one in each.split(1, batch)}
    if not shapes.issuperset(one.shape for one in outputs):  # as of a squeeze() that drops an axis
        return None
    errors = score.in_pairs(outputs, [y for _, y in single])
    others = base.measures[-1].pairs["error"].errors[: errors.count]
    return OneByOne(errors, others, max(count_of(pair, axis) for pair in race.pairs))


def _examples(pairs: list[Pair], axis: int) -> Iterator[Pair]:
    """Yield each example of some minibatches, as a minibatch of its own."""
    for pair in pairs:
        yield from (take(pair, torch.tensor([k]), axis) for k in range(count_of(pair, axis)))


def _depends_on_others(training: Training, pair: Pair, batch: int) -> bool:
    """True if the output of an example changes when the other examples of a minibatch become copies
    of it; False if outputs do not repeat with the same random numbers.
    """
    axis, count = training.data.axis, count_of(pair, training.data.axis)

    def outputs(rows: Tensor) -> Tensor:
        with random_numbers_kept(training.model):
            return training.answers([take(pair, rows, axis)[0]])[0]

    def are_alike(one: Tensor, other: Tensor) -> bool:
        return one.shape == other.shape and torch.allclose(one, other, rtol=1e-3, atol=1e-5)

    joint = outputs(torch.arange(count))
    if not are_alike(joint, outputs(torch.arange(count))):  # it keeps something from call to call
        return False
    alone = [outputs(torch.full((count,), k)) for k in range(min(count, EXAMPLES))]
    return any(
        not are_alike(joint.select(batch, k), copies.select(batch, k))
        for k, copies in enumerate(alone)
    )
