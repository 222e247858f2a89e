"""Whether a network is like those that the calibration was made of and judged by; where it is not, a check knows no probability."""

import math

from torch import nn

from gersgorin.calibration import Calibration, load_calibration
from gersgorin.objective import Objective
from gersgorin.preflight.record import Training
from rhn.cells import CELLS, Cell
from rhn.engine.curves import LEFT
from rhn.models import PolyphonicModel

KEYS = 88
COSTS = 4.0, 16.0
"""Nats a frame that the best constant output costs on music for four voices: 11.2 on all chorales, less on a few."""
USUAL = {"coupled": True, "activation": "tanh", "gate_constant": 0.0, "skip": "all"}


def unlike(objective: Objective, training: Training, first_loss: float, constant_loss: float) -> str | None:
    """What sets a network or its training apart from all that is known, as the end of "it ..."; None where nothing does."""
    return _other_task(objective, constant_loss) or _other_network(objective.model, training, first_loss, constant_loss)


def kind_of(model: nn.Module) -> str:
    """A cell of the registry with the scheme of its weights, "dt-rnn scaled", as the calibration's table of judged networks has it."""
    cell = next((name for name, factory in CELLS.items() if type(model.cells[0]) is factory), model.cell)
    return f"{cell} {model.init.scheme}" + " open" * ((getattr(model.cells[0], "transform_bias", 0) or 0) > 0)


def weight_scale(model: nn.Module) -> float | None:
    """Root mean square of the recurrent weights of all cells, as far as they say which these are; None where none does."""
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
    if type(cell) not in CELLS.values() or len(model.cells) > 1:
        return "is a cell of your own" if len(model.cells) == 1 else "stacks several cells, and the study none"
    other = [f"{name} {getattr(cell, name)}" for name, usual in USUAL.items() if getattr(cell, name, usual) != usual]
    if other:
        return f"has {other[0]}, and no network of the study had"
    if first_loss < LEFT * constant_loss:
        return f"has left the plateau already, with a loss of {first_loss:.4g} nats a frame"
    if not known.judged.get(kind, {"trusted": kind in known.kinds})["trusted"]:
        tried = "the prediction was wrong when it was tried" if kind in known.judged else "none was tried"
        return f"is of the kind {kind}, of which {tried}"
    gain = (weight_scale(model) or 0) * math.sqrt(cell.hidden_size)
    return _beyond(known, training, {"depth": cell.depth, "hidden_size": cell.hidden_size, "weight_gain": gain})


def _beyond(known: Calibration, training: Training, sizes: dict[str, float]) -> str | None:
    """The first quantity that is outside the range of all that was fitted or judged."""
    values = sizes | {name: getattr(training, name) for name in ("learning_rate", "momentum", "epochs")}
    for name, (low, high) in known.limits.items():
        if name in values and not low <= values[name] <= high:
            what = name.replace("_", " ")
            return f"has a {what} of {values[name]:g}, and the networks of the study had {low:g} to {high:g}"
    return None
