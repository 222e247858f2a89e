"""Empirical calibration of the check: how the share of networks that learned depends on the predicted time on the plateau.

`calibration.json` is from trials of the small study (docs/results/2026-11-20-calibration.md), whose initial networks are rebuilt and
measured as in a check. Trials are ordered by one number,

    delay = log10(predicted epochs on the plateau / epochs of the training)

and cut into bins whose shares of trials that learned fall with the delay (isotonic regression; Ayer et al. 1955). A trial has learned
if its best training loss is a tenth below that of the best constant output.

A bin's interval is the exact binomial one of 95 % (Clopper and Pearson), its probability (learned + 1/2) / (networks + 1), which is
never 0 or 1 (Jeffreys' prior). There is no probability for networks unlike those that were calibrated or validated (`unlike`).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from torch import nn

from gersgorin.checking.verdict import Training
from gersgorin.objective import Objective
from rhn.cells import CELLS, Cell, is_ours
from rhn.errors import DataError
from rhn.models import PolyphonicModel
from rhn.training.state import LEFT
from rhn.utils.binomial import exact_interval

FILE = Path(__file__).with_name("calibration.json")
NEVER = 300.0
"""Finite delay of a network that never leaves."""


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Study networks of one range of delays."""

    least: float
    """Least delay; -infinity in the first bin."""
    networks: int
    learned: int

    @property
    def probability(self) -> float:
        return (self.learned + 0.5) / (self.networks + 1)

    @property
    def interval(self) -> tuple[float, float]:
        return exact_interval(self.learned, self.networks)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The bins, their kinds of networks, and their validation on other networks."""

    bins: tuple[Bin, ...]
    kinds: tuple[str, ...]
    """Of the networks in the bins: "dt-rnn gaussian"."""
    limits: Mapping[str, tuple[float, float]]
    """(Least, greatest) value of each quantity among calibrated and validated networks."""
    judged: Mapping[str, Mapping]
    """Validation by kind of network, "dt-rnn scaled": networks, learned, expected (the sum of their probabilities), trusted."""
    made_by: Mapping

    def look_up(self, delay: float) -> Bin:
        """The bin of a delay. Raises DataError for NaN."""
        if math.isnan(delay):
            raise DataError("the delay is NaN: expected a number")
        return max((b for b in self.bins if b.least <= min(delay, NEVER)), key=lambda b: b.least)


def delay_of(escape_epochs: float, epochs: float) -> float:
    """log10(escape_epochs / epochs), within +-`NEVER`.

    >>> delay_of(1000, 10), delay_of(math.inf, 10), delay_of(0, 10)
    (2.0, 300.0, -300.0)
    """
    ratio = escape_epochs / epochs
    return min(max(math.log10(ratio) if ratio > 0 else -NEVER, -NEVER), NEVER)


def isotonic_bins(delays: Sequence[float], learned: Sequence[bool], least_networks: int) -> tuple[Bin, ...]:
    """Bins of at least `least_networks`, with shares that never rise with the delay: pool adjacent violators.

    >>> [(b.networks, b.learned) for b in isotonic_bins([-1, -2, 0, 1, 2], [True, True, False, True, False], 1)]
    [(2, 2), (2, 1), (1, 0)]
    """
    blocks: list[list[float]] = []  # [least delay, networks, learned]
    for delay, success in sorted(zip(delays, map(bool, learned), strict=True)):
        if blocks and blocks[-1][0] == delay:  # equal delays share a block
            blocks[-1] = [delay, blocks[-1][1] + 1, blocks[-1][2] + success]
        else:
            blocks.append([delay, 1, int(success)])
    pooled: list[list[float]] = []
    for block in blocks:
        pooled.append(block)
        while len(pooled) > 1 and _share(pooled[-1]) >= _share(pooled[-2]):
            _join(pooled, len(pooled) - 2)
    while len(pooled) > 1 and min(b[1] for b in pooled) < least_networks:
        small = min(range(len(pooled)), key=lambda k: pooled[k][1])
        neighbours = [k for k in (small - 1, small + 1) if 0 <= k < len(pooled)]
        _join(pooled, min(small, min(neighbours, key=lambda k: abs(_share(pooled[k]) - _share(pooled[small])))))
    return tuple(
        Bin(least=-math.inf if k == 0 else block[0], networks=int(block[1]), learned=int(block[2]))
        for k, block in enumerate(pooled)
    )


@cache
def load_calibration(path: Path = FILE) -> Calibration:
    """Read the calibration of a file. Raises DataError if it is none."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        bins = tuple(Bin(**b | {"least": -math.inf if b["least"] is None else b["least"]}) for b in stored["bins"])
        limits = {name: (float(low), float(high)) for name, (low, high) in stored["limits"].items()}
        judged, kinds = stored["judged"], tuple(stored["kinds"])
        return Calibration(bins=bins, kinds=kinds, limits=limits, judged=judged, made_by=stored["made_by"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no calibration ({error}): see docs/results/2026-11-20-calibration.md") from None


def _share(block: Sequence[float]) -> float:
    return block[2] / block[1]


def _join(blocks: list[list[float]], first: int) -> None:
    """Merge two neighbours."""
    (least, networks, learned), (_, more, more_learned) = blocks[first : first + 2]
    blocks[first : first + 2] = [[least, networks + more, learned + more_learned]]


KEYS = 88
COSTS = 4.0, 16.0
"""Nats a frame that the best constant output costs on music for four voices: 11.2 on all chorales, less on a few."""
USUAL = {"coupled": True, "activation": "tanh", "gate_constant": 0.0, "skip": "all"}


def unlike(objective: Objective, training: Training, first_loss: float, constant_loss: float) -> str | None:
    """Difference from all calibrated and validated networks and trainings, as the end of "it ..."; None if there is none."""
    return _other_task(objective, constant_loss) or _other_network(objective.model, training, first_loss, constant_loss)


def kind_of(model: nn.Module) -> str:
    """Name of a cell with the scheme of its weights, "dt-rnn scaled"; a key of `Calibration.judged`."""
    cell = next((name for name, factory in CELLS.items() if type(model.cells[0]) is factory), model.cell)
    return f"{cell} {model.init.scheme}" + " open" * ((getattr(model.cells[0], "transform_bias", 0) or 0) > 0)


def weight_scale(model: nn.Module) -> float | None:
    """Root mean square of the recurrent weights of all cells with `layers()`; None if there is no such cell."""
    squares, count = 0.0, 0
    for cell in model.modules():
        if not isinstance(cell, Cell):
            continue
        weights = dict(cell.named_parameters())
        for layer in cell.layers():
            if layer.recurrent is not None:
                part = weights[layer.recurrent.parameter][layer.recurrent.index]
                squares, count = squares + part.square().sum().item(), count + part.numel()
    return math.sqrt(squares / count) if count else None


def _other_task(objective: Objective, constant_loss: float) -> str | None:
    model, targets = objective.model, objective.targets
    if not isinstance(model, PolyphonicModel) or objective.loss.name != "bernoulli" or objective.output_size != KEYS:
        return "does not predict the keys of chorales, and nothing else was calibrated on"
    binary = bool(((targets == 0) | (targets == 1)).all())
    if not binary or not COSTS[0] <= constant_loss <= COSTS[1]:
        return f"reads sequences unlike chorales (a constant output costs {constant_loss:.3g} nats a frame there, 11.2 here)"
    return None


def _other_network(model: PolyphonicModel, training: Training, first_loss: float, constant_loss: float) -> str | None:
    known, cell = load_calibration(), model.cells[0]
    kind = kind_of(model)
    if not is_ours(type(cell)) or len(model.cells) > 1:
        return "is a cell of your own" if len(model.cells) == 1 else "stacks several cells, and the study none"
    other = [f"{name} {getattr(cell, name)}" for name, usual in USUAL.items() if getattr(cell, name, usual) != usual]
    if other:
        return f"has {other[0]}, and no network of the study had"
    if first_loss < LEFT * constant_loss:
        return f"has left the plateau already, with a loss of {first_loss:.4g} nats a frame"
    if not known.judged.get(kind, {"trusted": kind in known.kinds})["trusted"]:
        tried = "the prediction was wrong when it was tried" if kind in known.judged else "none was tried"
        return f"is of the kind {kind}, of which {tried}{_known_starts(known, kind)}"
    gain = (weight_scale(model) or 0) * math.sqrt(cell.hidden_size)
    return _beyond(known, training, {"depth": cell.depth, "hidden_size": cell.hidden_size, "weight_gain": gain})


def _known_starts(known: Calibration, kind: str) -> str:
    """The initialisations of the same cell that are known, as options in brackets; "" if there are none."""
    cell, _, *gates = kind.split()
    trusted = [*known.kinds, *(name for name, found in known.judged.items() if found["trusted"])]
    schemes = {scheme: None for name, scheme, *rest in map(str.split, trusted) if (name, rest) == (cell, gates)}
    options = [scheme + ":STD" * (scheme == "gaussian") for scheme in schemes]
    return f" (it is known with --init {' or '.join(options)})" if options else ""


def _beyond(known: Calibration, training: Training, sizes: dict[str, float]) -> str | None:
    """The first quantity outside the range of the calibration, in words."""
    values = sizes | {name: getattr(training, name) for name in ("learning_rate", "momentum", "epochs")}
    for name, (low, high) in known.limits.items():
        if name in values and not low <= values[name] <= high:
            what = name.replace("_", " ")
            return f"has a {what} of {values[name]:g}, and the networks of the study had {low:g} to {high:g}"
    return None
