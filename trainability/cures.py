"""`cure`: race initial weights and learning rates of a training run.

    found = cure(model, x, y, loss_fn, optimizer, steps=1000)
    found.best.weights, found.best.rate         # "orthogonal", 0.1
    found.apply(model)                          # draw these weights

All pairs train for an eighth of the steps, the better half for a quarter, and so on. The best pair
and yours are repeated with three seeds on other held-out examples.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rhn.cells.init import haar
from rhn.cells.layers import GateBlocks, Layer, Part
from rhn.cells.memory_init import remember
from rhn.cells.module_layers import layers_in
from rhn.errors import InvalidInputError
from rhn.utils.progress import Progress, reported
from rhn.utils.results import Result
from rhn.utils.tables import formatted
from trainability.changes import Known, initial_weights
from trainability.checks import (
    ERROR_COLUMN,
    STAR,
    THREE,
    Row,
    opened_run,
    refuse_unknown,
    seeds_of,
    shown_error,
)
from trainability.races import SEEDS, Race
from trainability.scores import MEANINGS
from trainability.training import TrainingRun

YOURS, TORCH, ORTHOGONAL, CHRONO = "yours", "torch's", "orthogonal", "chrono gates"
BOTH, REMEMBERING = "orthogonal, chrono gates", "remembering"
RATES = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Factors of the learning rates: two to a decade."""
RUNGS = (8, 4, 2, 1)
WEIGHTS, RATE, STEPS = "initial weights", "rate x", "steps"
FAILED = "pairs that raised an error"
CLOSED = "* closes 80 % of the gap in as many steps"
Pair = tuple[str, float]


@torch.no_grad()
def orthogonal_(model: nn.Module, generator: torch.Generator | None = None) -> int:
    """Draw new weights in place: recurrent matrices (n, n) are random orthogonal, other matrices
    normal with standard deviation 1/sqrt(fan_in), biases are 0, but 1 for forget and update gates
    and -1 for transform gates. Return the number of recurrent matrices.

    Linear layers (n, n) and square matrices of your own modules count as recurrent. Embeddings,
    normalisations and parameters without a gradient stay unchanged.

    >>> model = nn.RNN(3, 5)
    >>> orthogonal_(model), bool((model.weight_hh_l0.det().abs() - 1).abs() < 1e-6)
    (1, True)
    """
    return _redraw(model, haar, generator)


@torch.no_grad()
def chrono_(model: nn.Module, steps: int, generator: torch.Generator | None = None) -> int:
    """Draw the biases of gates in place, for memories of up to T steps: +-log u, with u uniform in
    [1, T - 1] (Tallec and Ollivier 2018). All other weights stay unchanged. Return the number of
    gates.

    >>> model = nn.LSTM(3, 5)
    >>> chrono_(model, 60), bool((model.bias_ih_l0[5:10] >= 0).all())
    (1, True)
    """
    count = 0
    for module, layer in layers_in(*model.modules()):
        blocks = _bias_blocks(module, layer)
        for k, block in enumerate(blocks):
            if sign := _memory(layer.gate, k):
                u = torch.empty(block.shape, dtype=torch.double)
                u.uniform_(1.0, max(2.0, steps - 1.0), generator=generator)
                block.copy_(sign * u.log())
                if layer.gate and layer.gate.carry is not None:
                    blocks[layer.gate.transform].copy_(-block)
                count += 1
    return count


@torch.no_grad()
def remembering_(model: nn.Module, steps: int, generator: torch.Generator | None = None) -> int:
    """Draw new weights in place as `remember` does, for each recurrence of tanh or ReLU; all other
    matrices are normal with standard deviation 1/sqrt(fan_in). Return the number of recurrences.

    >>> remembering_(nn.RNN(3, 8, num_layers=2), 100), remembering_(nn.LSTM(3, 8), 100)
    (2, 0)
    """
    _redraw(model, lambda drawn: drawn / math.sqrt(drawn.shape[-1]), generator)
    count = 0
    for module in model.modules():
        layers = tuple(layer for _, layer in layers_in(module))
        alone = [(replace(s, input=s.input or s.skip, skip=None),) for s in layers]
        for group in alone if isinstance(module, nn.RNNBase) else [layers]:
            count += remember(module, group, steps, generator)
    return count


def _redraw(model: nn.Module, recurrent: Callable, generator: torch.Generator | None) -> int:
    """Draw all layers, recurrent matrices as `recurrent` of a normal one; return their number."""
    count = 0
    for module, layer in layers_in(*model.modules()):
        for part in filter(None, (layer.input, layer.skip)):
            q = _values(module, part)
            drawn = torch.randn(q.shape, generator=generator, dtype=torch.double)
            q.copy_(drawn / math.sqrt(max(1, q.shape[-1])))
        for block in _square_blocks(_values(module, layer.recurrent)):
            drawn = torch.randn(block.shape, generator=generator, dtype=torch.double)
            block.copy_(recurrent(drawn))
            count += 1
        for k, block in enumerate(_bias_blocks(module, layer)):
            block.fill_(_memory(layer.gate, k))
        for name, p in module.named_parameters(recurse=False):
            if name.startswith("bias_h") and p.requires_grad:
                p.zero_()
    return count


def _memory(gate: GateBlocks | None, block: int) -> int:
    """Return 1 if a larger bias of a block makes memories last longer, -1 if shorter, else 0."""
    if gate and gate.carry is not None:
        return int(block == gate.carry)
    return (-1 if gate.opens else 1) if gate and block == gate.transform else 0


def _values(module: nn.Module, part: Part | None) -> Tensor:
    """Return the weights of a part; empty if there is none, or none with a gradient."""
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if part is None or part.parameter not in trained:
        return torch.empty(0)
    return trained[part.parameter].detach()[part.index]


def _square_blocks(R: Tensor) -> tuple[Tensor, ...]:
    return R.split(R.shape[1]) if R.dim() == 2 and len(R) % R.shape[1] == 0 else ()


def _bias_blocks(module: nn.Module, layer: Layer) -> tuple[Tensor, ...]:
    """Return the bias of a layer, n numbers for each block."""
    bias = _values(module, layer.bias)
    return bias.split(getattr(module, "hidden_size", len(bias))) if len(bias) else ()


def orthogonal_chrono(model: nn.Module, steps: int) -> int:
    """Orthogonal matrices, and gates for memories of up to `steps` time steps."""
    return orthogonal_(model) and chrono_(model, steps)


DRAWS: dict[str, Callable[[nn.Module, int], int]] = {
    ORTHOGONAL: lambda model, steps: orthogonal_(model),
    CHRONO: chrono_,
    BOTH: orthogonal_chrono,
    REMEMBERING: remembering_,
}
"""Functions by the label of their weights; they return 0 if they do not apply."""
LABELS = (YOURS, TORCH, *DRAWS)


@dataclass(frozen=True)
class Candidate:
    """Initial weights and a learning rate."""

    weights: str
    rate: float
    """Factor of your learning rates."""
    steps: int
    """Optimiser steps after which the error was measured last."""
    error: float
    """On the first half of the held-out examples, with the first seed."""
    seeds: tuple[float, ...] | None
    """On the other half, with three seeds; None if they were not run."""
    starred: bool
    """True if the pair closes 80 % of the gap between yours and the lowest error."""


@dataclass(frozen=True, repr=False, eq=False)
class Cure(Result):
    """Pairs of initial weights and learning rates, the best first.

    >>> best = Candidate("orthogonal", 3.0, 100, 0.02, None, True)
    >>> Cure(kind="numbers", time_steps=20, rows=(best,)).best.rate
    3.0
    """

    page: ClassVar[str] = "docs/guides/cure.md"
    texts: ClassVar[tuple[str, ...]] = (
        *LABELS, *MEANINGS.values(), WEIGHTS, RATE, STEPS, ERROR_COLUMN, THREE, STAR, CLOSED,
        FAILED,
    )  # fmt: skip

    kind: str
    """classes, signs, numbers or raw."""
    time_steps: int
    """Of the first input."""
    rows: tuple[Candidate, ...]
    failed: int = 0
    """Pairs that raised an error."""

    @property
    def best(self) -> Candidate:
        """The pair with the lowest error after all steps."""
        return self.rows[0]

    def apply(self, model: nn.Module) -> None:
        """Draw the best initial weights in place, from torch's random state. Multiply your learning
        rates by `best.rate` yourself.
        """
        draw_weights(model, self.best.weights, self.time_steps)

    def title(self) -> list[str]:
        return [f"error: {MEANINGS[self.kind]}"]

    def table(self) -> Mapping[str, Any]:
        """Return the error of each pair, the best first."""
        return {f"{row.weights}, {RATE} {row.rate:g}": row.error for row in self.rows}

    def notes(self) -> Mapping[str, int]:
        return {FAILED: self.failed}

    def blocks(self) -> list[list[list[str]]]:
        rows = [[WEIGHTS, RATE, STEPS, ERROR_COLUMN, THREE]]
        for row in self.rows:
            errors = [shown_error(e, self.kind) for e in (row.error, *(row.seeds or ()))]
            numbers = [formatted(row.rate), formatted(row.steps), errors[0], " ".join(errors[1:])]
            rows.append([row.weights, *numbers, STAR * row.starred])
        return [[*rows, [CLOSED]]]


def draw_weights(model: nn.Module, weights: str, steps: int) -> bool:
    """Draw initial weights by their label; return whether they apply to the model.

    steps: time steps of a sequence.
    """
    if weights == TORCH:
        initial_weights(model)
    return weights not in DRAWS or DRAWS[weights](model, steps) > 0


def with_pair(run: TrainingRun, known: Known, *, pair: Pair, steps: int) -> TrainingRun | None:
    """Return a run with other initial weights and rates; None if the weights do not apply."""
    return replace(run, factor=pair[1]) if draw_weights(run.model, pair[0], steps) else None


def cure(
    model: nn.Module,
    x: Any,
    y: Any,
    loss_fn: Callable[[Any, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    steps: int = 1000,
    progress: Progress = None,
    **how: Any,
) -> Cure:
    """Find initial weights and a factor of the learning rate with which a training run learns.

    Everything that is given is restored at the end, as by `check`.

    Args:
        model, x, y, loss_fn, optimizer: as for `check`.
        steps: optimiser steps of the last round; at least 8.
        progress: as for `check`.
        how: batch_size, clip_norm, scheduler, predict, batch_axis, shuffle, validation and seed of
            `check`.

    Raises InvalidInputError, as `check` does.

    >>> _ = torch.manual_seed(0)
    >>> x, model = torch.randn(100, 3), nn.Linear(3, 1)
    >>> sgd = torch.optim.SGD(model.parameters(), 1e-2)
    >>> found = cure(model, x, x.sum(1, keepdim=True), nn.MSELoss(), sgd, steps=40)
    >>> found.best.rate
    10.0
    """
    refuse_unknown("cure", how)
    with opened_run(model, x, y, loss_fn, optimizer, steps=steps, **how) as own:
        if steps < RUNGS[0]:
            raise InvalidInputError(f"steps is {steps}: expected at least {RUNGS[0]}")
        race = own.race(Known(False, -torch.inf, torch.inf), steps)
        count = own.run.data.time_steps
        with reported(progress, "cure") as race.advance:
            rows = halved(race, steps, count)
        kind, failed = own.run.score.kind, len(race.failed)
        return Cure(kind=kind, time_steps=count, rows=tuple(rows), failed=failed)


def halved(race: Race, steps: int, time_steps: int) -> list[Candidate]:
    """Race all pairs by successive halving; return them, the best first."""
    pairs = {f"{weights}, {RATE} {rate:g}": (weights, rate) for weights in LABELS for rate in RATES}
    race.changes = {
        label: partial(with_pair, pair=pair, steps=time_steps) for label, pair in pairs.items()
    }
    race.base = f"{YOURS}, {RATE} 1"
    left, out = [*pairs], list[Candidate]()
    for place, rung in enumerate(RUNGS):
        race.expected = race.done + steps_of_rounds(len(left), [steps // r for r in RUNGS[place:]])
        race.steps = steps // rung
        race.found.clear()
        ranked = sorted((e, label) for label in left if (e := race.error(label)) is not None)
        keep = len(ranked) if rung == 1 else -(-len(ranked) // 2)
        left, lost = [label for _, label in ranked[:keep]], ranked[keep:]
        out = [*(Candidate(*pairs[n], race.steps, e, None, False) for e, n in lost), *out]
    best = finals(race, left, pairs)
    known = {(row.weights, row.rate) for row in best}  # yours may have been dropped before
    return [*best, *(row for row in out if (row.weights, row.rate) not in known)]


def steps_of_rounds(count: int, steps: Sequence[int]) -> int:
    """Return the optimiser steps of rounds of so many steps, the first with `count` pairs, each
    further one with half of them.

    >>> steps_of_rounds(5, [10, 20, 40])  # 5, 3 and 2 pairs
    190
    """
    return sum(-(-count // 2**k) * each for k, each in enumerate(steps))


def finals(race: Race, left: list[str], pairs: Mapping[str, Pair]) -> list[Candidate]:
    """Repeat the best pair and yours with three seeds."""
    names = sorted({*left, race.base}, key=lambda label: (race.error(label), label))
    again = [(label, seed) for label in (names[0], race.base) for seed in SEEDS]
    race.expect(again)
    for label, seed in again:
        race.errors(label, seed)
    chosen = race.closing(names[:1], 0, names)
    repeated = [label for label in chosen if seeds_of(race, label) is not None]
    starred = race.closing(repeated, 1, names)
    rows = [Row(n, race.error(n) or 0.0, seeds_of(race, n), n in starred) for n in names]
    return [Candidate(*pairs[r.label], race.steps, r.error, r.seeds, r.starred) for r in rows]
