"""`rhn train --record N`: measure a training run with the recorder of gersgorin, and write
record.npz beside the metrics.jsonl of each seed. The probe is the first validation piece, or the
first window of the validation text, read from the zero state and without dropout.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rhn.data import Corpus, TextCorpus
from rhn.presets import ChoraleConfig, LanguageConfig
from rhn.training.chorales import constant_output_nll
from rhn.training.run import Callback, homes
from rhn.training.trainer import Trainer

NAME = "record.npz"


def recorded_every(folder: Path) -> int | None:
    """Return the number of optimiser steps between two measurements of the training run in a
    folder; None if it has no record. Raises DataError for a damaged record.
    """
    from gersgorin.recording import Recording

    paths = sorted([*folder.glob(NAME), *folder.glob(f"seed-*/{NAME}")])
    return Recording.load(paths[0]).every if paths else None


def recorders(
    every: int,
    config: ChoraleConfig | LanguageConfig,
    folder: Path,
    corpus: Corpus | TextCorpus,
    seeds: Sequence[int],
) -> "list[ProbeRecorder]":
    """Return the callbacks that record a training run, one for each seed."""
    how: dict[str, Any]
    if isinstance(config, LanguageConfig):
        ids = torch.from_numpy(corpus.valid[: config.window + 1]).long()
        x, targets, how = ids[:-1], ids[1:, None], {"data": corpus.name}
    else:
        x, targets = torch.as_tensor(np.asarray(corpus.valid[0])).float(), None
        constant = constant_output_nll(corpus, corpus.valid[:1])
        how = {"data": corpus.valid[0].label, "constant": constant}
    paths = {seed: home / NAME for seed, home in homes(folder, seeds).items()}
    return [ProbeRecorder(every, seed, x, targets, how | {"path": paths[seed]}) for seed in seeds]


class ProbeRecorder(Callback):
    """A callback that records one seed of a training run on the probe `x`; chorales, which have no
    `targets`, are measured at the end of an epoch. `how`: more arguments of `Recorder`.
    """

    def __init__(self, every: int, seed: int, x: Tensor, targets: Tensor | None, how: dict):
        self._every, self._seed, self._x, self._targets = every, seed, x, targets
        self._how, self._steps = how, 0
        self._recorder: Any = None

    def step(self, trainer: Trainer) -> None:
        """Measure if a measurement is due."""
        before, self._steps = self._steps, trainer.steps
        if self._targets is None:
            self._steps -= trainer.position[0]
        begun = self._recorder is not None
        due = not begun or self._steps // self._every != before // self._every
        if not due or self._seed not in trainer.numbers:  # or it has ended
            return
        network = trainer.model(self._seed)
        self._model = self._model if begun else network
        self._model.load_state_dict(network.state_dict())
        self._model.zero_grad()
        loss = self._loss(self._model)
        loss.backward()
        if begun:
            self._recorder.measure(self._steps, loss)
            return
        from gersgorin.recorder import Recorder

        self._how |= {"start": trainer.steps, "loss": loss}
        self._recorder = Recorder(network, self._x, self._every, **self._how)

    def save(self) -> None:
        """Write the record."""
        if self._recorder:
            self._recorder.save()

    close = save

    def _loss(self, model: Any) -> Tensor:
        if self._targets is None:
            return model.nll(self._x).mean()
        return model(self._x[:, None], targets=self._targets).nll.mean()
