"""What the engine asks of a trainer: K trials of one study, trained as one program.

The engine (claims, saves, reports) knows nothing of models; a trainer knows nothing of storages. Between them stand
`Swarm`, what a resume needs (`SavedState`) and what a trial came to (`Outcome`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from .config import StudyConfig
from .space import Settings


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a finished trial came to. Losses are negative log-likelihoods in nats a frame, all finite: epoch 0,
    before training, counts. The field names are the columns of the export."""

    hidden_size: int
    """Units of the network."""
    best_train_nll: float
    best_valid_nll: float
    test_nll: float
    epochs: int
    """Epochs of training done."""
    diverged: bool
    """The loss overflowed; the best losses are those from before."""

    def value(self, objective: Literal["train", "valid"]) -> float:
        """What the study minimises."""
        return self.best_train_nll if objective == "train" else self.best_valid_nll


@dataclass(frozen=True)
class SavedState:
    """A trial at the end of an epoch."""

    curve: np.ndarray
    """Float64, (epochs done + 1, 2): the training and the validation loss after 0, 1, 2, ... epochs of training."""
    arrays: Mapping[str, np.ndarray]
    """Whatever the trainer needs to go on: weights, momentum, best weights, counters, generator state."""

    @property
    def epoch(self) -> int:
        """Epochs of training done."""
        return len(self.curve) - 1


class Swarm(Protocol):
    """K trials of one study trained as one program, all at the same epoch.

    The curve of a trial must not depend on which others are in the swarm, nor on where its training was cut and
    resumed. A swarm starts at epoch 0 with the losses before training already in its curves, so that every trial
    has a finite loss.
    """

    epoch: int
    """Epochs of training done by the live trials."""

    def live(self) -> list[int]:
        """The trials still training: not stopped early, not diverged, not at the last epoch."""

    def run_epoch(self) -> None:
        """One epoch of training for every live trial."""

    def state(self, number: int) -> Mapping[str, np.ndarray]:
        """What a live trial needs to go on, its curve apart. Asked for between epochs only."""

    def curve(self, number: int) -> np.ndarray:
        """The losses so far, as in `SavedState`; those of a diverged trial may end in inf or NaN."""

    def outcome(self, number: int) -> Outcome | None:
        """What a trial came to; None while it is live."""

    def write_best(self, number: int, path: Path, metadata: Mapping[str, str]) -> None:
        """Writes the best weights of a finished trial to `path`: a safetensors file with these entries in its
        metadata."""


class MakeSwarm(Protocol):
    """How the engine gets a swarm."""

    def __call__(self, config: StudyConfig, settings: Mapping[int, Settings], saved: Mapping[int, SavedState]) -> Swarm:
        """A swarm of the trials in `settings` (number -> hyperparameters). `saved` is empty (they start at epoch
        0), or holds a state for each of them, all at one epoch."""
