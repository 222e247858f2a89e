"""What could be changed in a network or its training so that it learns: candidates only, each is to be measured."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from gersgorin.preflight.record import Training
from rhn.models import LanguageModel, PolyphonicModel

FASTER = 3.0  # factor on the learning rate
SLOWER = 3.0, 10.0  # what it is divided by where the network diverged
HIGHEST_RATE = 0.5
GATED = "rhn"
WITHOUT_GATES = ("rnn", "irnn", "dt-rnn", "dts-rnn")
MOSTLY_CLOSED = -2.0


@dataclass(frozen=True)
class Change:
    """One change: what it is in words, what to give instead, and the changed network and training."""

    words: str
    option: dict[str, Any]
    model: nn.Module
    training: Training


def changes(model: nn.Module, training: Training, *, diverged: bool = False) -> Iterator[Change]:
    """Ways to help a network off its plateau, one thing each; a module of the user's own can only be trained otherwise.

    diverged: whether it did when it was followed; then no larger learning rate is tried, whatever chance would make of it, but smaller.
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
