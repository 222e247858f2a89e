"""The best setting of a cell's study trained anew with five seeds, and what is measured of these networks before and after.

Legend: T frames of one chorale, N state entries, A[t] = ds[t+1]/ds[t] (N, N), B[t] = ds[t+1]/dx[t] (N, 88). Along the chorale, from a
state of zeros, in float64:

    radius      mean of the spectral radius of A[t]
    bulk        mean of trace(A[t]) / N: the mean eigenvalue
    exponent    log ||A[T-1] ... A[0]||_2 / T, a quarter note; minus infinity where the product is 0
    half_life   -log 2 / exponent, in quarter notes: negative where the gradient doubles
    input_gain  mean of ||B[t]||_2
    looseness   median of how far the row discs of A[t] reach from 0, over its spectral radius
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.cells.studies import Study
from gersgorin import gersgorin_discs, input_jacobian, temporal_jacobian, trajectory
from gersgorin.linalg import finite_time_exponent, spectral_radius
from optim_study.backend import build_models, hidden_size, start_training
from rhn.cells import num_parameters
from rhn.data import Corpus
from rhn.models import PolyphonicModel
from rhn.training.curves import best_epoch
from rhn.training.seeds import weights_generator
from rhn.utils.io import write_json

SEEDS = 5
FIRST = 1_000  # trials from this number on: their weights are drawn from seeds that no study has drawn from
MEASURES = ("radius", "bulk", "exponent", "half_life", "input_gain", "looseness")


@dataclass(frozen=True, kw_only=True)
class Network:
    """One network at one moment; the field names are the columns of the table."""

    cell: str
    seed: int
    moment: str
    """"initial"; "trained", the weights of the epoch with the least training loss; "usual", untrained too, but with weights of standard
    deviation 1 / sqrt(inputs) where "initial" has that of the study's best setting."""
    hidden_size: int
    state_size: int
    parameters: int
    learning_rate: float | None
    """None, as what follows, where it is not trained."""
    init_std: float | None
    epoch: int
    train_nll: float | None
    valid_nll: float | None
    radius: float
    bulk: float
    exponent: float
    half_life: float
    input_gain: float
    looseness: float


def networks(
    study: Study, corpus: Corpus, x: Tensor, path: Path, progress: Callable[[int, int], None]
) -> list[Network]:
    """The networks of one cell, read from `path` where they were kept, otherwise trained and kept there."""
    made_from = {"study": study.config.fingerprint, "trial": study.best.trial, "seeds": SEEDS}
    if path.exists():
        kept = json.loads(path.read_text())
        if kept["made_from"] == made_from:
            return [Network(**{name: _number(name, value) for name, value in row.items()}) for row in kept["networks"]]
    found = train(study, corpus, x, progress)
    write_json(path, {"made_from": made_from, "networks": [asdict(network) for network in found]})
    return found


def train(study: Study, corpus: Corpus, x: Tensor, progress: Callable[[int, int], None]) -> list[Network]:
    """The best setting with `SEEDS` other initial weights, as one program, as the study trains; measured along x (T, 88)."""
    config, numbers = study.config, range(FIRST, FIRST + SEEDS)
    settings = dict.fromkeys(numbers, config.settings(study.best.trial))
    models = build_models(config, settings)
    training = start_training(config, settings, {}, corpus)
    while training.live():
        training.run_epoch()
        progress(training.epoch, config.epochs)
    found, told = [], {"learning_rate": settings[FIRST].learning_rate, "init_std": settings[FIRST].init_std}
    for number in numbers:
        curve = training.curve(number)
        best = best_epoch(curve, config.objective)
        for moment, epoch, model in (("initial", 0, models[number]), ("trained", best, training.best_model(number))):
            train_nll, valid_nll = curve[epoch].tolist()
            losses = {"epoch": epoch, "train_nll": train_nll, "valid_nll": valid_nll}
            found.append(_network(config.arch, number - FIRST, moment, model, x, **told, **losses))
    return found


def usual_starts(study: Study, x: Tensor) -> list[Network]:
    """As many networks as were trained, untrained, as they usually start: see `Network.moment`."""
    config, found = study.config, []
    for seed in range(SEEDS):
        generator = weights_generator(config.seed, config.arch, config.depth, FIRST + seed)
        model = PolyphonicModel(config.arch, hidden_size=hidden_size(config), init="scaled", generator=generator)
        untrained = dict.fromkeys(("learning_rate", "init_std", "train_nll", "valid_nll"))
        found.append(_network(config.arch, seed, "usual", model, x, epoch=0, **untrained))
    return found


def _network(cell: str, seed: int, moment: str, model: nn.Module, x: Tensor, **training) -> Network:
    return Network(
        cell=cell,
        seed=seed,
        moment=moment,
        hidden_size=model.hidden_size,
        state_size=model.cells[0].state_size,
        parameters=num_parameters(model),
        **training,
        **measures(model, x),
    )


@torch.no_grad()
def measures(model: nn.Module, x: Tensor) -> dict[str, float]:
    """`MEASURES` of a network's cell along x (T, 88), in float64."""
    cell, x = PolyphonicModel(**model.config()).double().cells[0], x.double()
    cell.load_state_dict(model.cells[0].state_dict())
    s = trajectory(cell, x)[:-1]
    A, B = temporal_jacobian(cell, x, s), input_jacobian(cell, x, s)
    discs, radius, exponent = gersgorin_discs(A), spectral_radius(A), float(finite_time_exponent(A))
    reach = (discs.centers.abs() + discs.radii).amax(-1)
    return {
        "radius": float(radius.mean()),
        "bulk": float(A.diagonal(dim1=-2, dim2=-1).mean()),
        "exponent": exponent,
        "half_life": math.inf if exponent == 0 else -math.log(2) / exponent,
        "input_gain": float(torch.linalg.matrix_norm(B, 2).mean()),
        "looseness": float((reach / radius).median()),
    }


def _number(name: str, value):
    """A value from JSON, which has null for what is not finite: the exponent of a product that is 0, a gradient that keeps its norm."""
    return {"exponent": -math.inf}.get(name, math.inf) if value is None else value
