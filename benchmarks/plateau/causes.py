"""Why deep transitions leave earlier than the saddle alone allows, and why those of identity matrices do not although it lets them.

Both have one cause: the epochs before the output bias is learnt. Then the mean error of the outputs is large, it does not depend on the
input, and it makes hidden biases and output matrix grow together.
"""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch

from gersgorin import plateau
from gersgorin.analyses.plateau import put_at_constant
from gersgorin.objective import Objective
from gersgorin.paper.plateau_sweeps import probe
from rhn.data import chorales
from rhn.models import PolyphonicModel
from rhn.training.chorales import ChoraleTask
from rhn.training.curves import LEFT
from rhn.training.evaluation import constant_output_nll
from rhn.training.optimizers import SGD
from rhn.training.trainer import Trainer

LEARNING_RATE = 0.1
IDENTITY_RATES = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
UNITS = 29


@dataclass(frozen=True)
class Start:
    """Predicted steps to leave of one deep transition, from one start; the field names are the columns."""

    depth: int
    init_std: float
    start: str
    steps: float
    ended: str


@dataclass(frozen=True)
class Integrator:
    """One training of a deep transition with identity matrices."""

    start: str
    learning_rate: float
    epochs: int
    left_epoch: int | None
    """First epoch below 0.98 of the constant output's loss."""
    least_nll: float
    saturated: float
    """Share of the state's entries beyond 0.9 in size, on the probe, with the best weights."""


def starts() -> list[Start]:
    """Deep transitions as they are, with the output bias at the base rates, and with hidden biases that stay zero."""
    rows = []
    for depth, std in (
        (1, 1e-4),
        (2, 1e-3),
        (2, 1e-4),
        (2, 1e-5),
        (3, 1e-3),
        (3, 1e-4),
        (3, 1e-5),
        (4, 1e-2),
        (4, 1e-3),
        (4, 1e-4),
    ):
        for start in ("zero", "base rates", "no hidden biases"):
            way = plateau(_small(depth, std, start), [piece[:16] for piece in probe()]).escape(LEARNING_RATE)
            rows.append(Start(depth, std, start, way.leaves_after, way.ended))
    return rows


def integrators(depth: int = 4, epochs: int = 120) -> list[Integrator]:
    """Trainings on the chorales, all at once: every learning rate from an output bias of zero, and from the base rates."""
    corpus, settings = chorales(progress=False), [(s, r) for s in ("zero", "base rates") for r in IDENTITY_RATES]
    models = {k: _identity(depth, start, corpus) for k, (start, _) in enumerate(settings)}
    config = SimpleNamespace(epochs=epochs, patience=epochs, objective="train", batch_size=32, seed=0)
    rates = {k: rate for k, (_, rate) in enumerate(settings)}
    training = Trainer(ChoraleTask(config, corpus), models, rates, optimizer=SGD(momentum=0.9))
    while training.live():
        training.run_epoch()
    goal, rows = LEFT * constant_output_nll(corpus), []
    for k, (start, rate) in enumerate(settings):
        curve = training.curve(k)[:, 0]
        below = np.flatnonzero(curve < goal)
        left = int(below[0]) if len(below) else None
        rows.append(
            Integrator(start, rate, len(curve) - 1, left, float(np.nanmin(curve)), _saturated(training.best_model(k)))
        )
    return rows


def _small(depth: int, std: float, start: str) -> PolyphonicModel:
    generator = torch.Generator().manual_seed(1)
    model = PolyphonicModel("dt-rnn", hidden_size=16, depth=depth, init=f"gaussian:{std!r}", generator=generator)
    if start == "base rates":
        objective = Objective(model, [piece[:16] for piece in probe()])
        put_at_constant(objective)
        with torch.no_grad():
            model.output.bias.copy_(objective.parameters["output.bias"])
    if start == "no hidden biases":
        model.cells[0].bias.requires_grad_(False)
    return model


def _identity(depth: int, start: str, corpus) -> PolyphonicModel:
    generator = torch.Generator().manual_seed(1)
    model = PolyphonicModel("dt-rnn", hidden_size=UNITS, depth=depth, init="identity:1e-3", generator=generator)
    if start == "base rates":
        rates = np.concatenate([np.asarray(piece)[1:] for piece in corpus.train]).mean(0).clip(1e-4, 1 - 1e-4)
        with torch.no_grad():
            model.output.bias.copy_(torch.as_tensor(np.log(rates / (1 - rates))))
    return model


@torch.no_grad()
def _saturated(model: PolyphonicModel) -> float:
    x = torch.stack([torch.as_tensor(piece, dtype=torch.float32) for piece in probe()], 1)
    share = (model.cells[0](x)[0].abs() > 0.9).float().mean().item()
    return share if math.isfinite(share) else 1.0
