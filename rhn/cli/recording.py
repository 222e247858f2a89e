"""`rhn train --record N`: measure a training run with the recorder of gersgorin, and write
record.npz beside the metrics.jsonl of each seed.

All measurements use the same data, the probe: the first validation piece, or the first window of
the validation text. The network reads the probe from the zero state and without dropout. Loss and
gradients in the record are measured on the probe, so measurements differ only by the weights.
"""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

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
    """Make the callbacks that record a training run every `every` optimiser steps, one for each
    seed.
    """
    if text := isinstance(config, LanguageConfig):
        ids = torch.from_numpy(corpus.valid[: config.window + 1]).long()
        probe, named, constant = ids[:-1], corpus.name, None
    else:
        probe = torch.as_tensor(np.asarray(corpus.valid[0])).float()
        named, constant = corpus.valid[0].label, constant_output_nll(corpus, corpus.valid[:1])

    def loss(model: Any) -> Tensor:
        if text:
            return model(probe[:, None], targets=ids[1:, None]).nll.mean()
        return model.nll(probe).mean()

    paths = {seed: home / NAME for seed, home in homes(folder, seeds).items()}
    own: dict = {"data": named, "loss": loss, "constant": constant, "within": text}
    return [ProbeRecorder(every, seed, probe, paths[seed], **own) for seed in seeds]


class ProbeRecorder(Callback):
    """A callback that records one seed of a training run, from its beginning.

    Args:
        every: optimiser steps between two measurements.
        probe: the input on which every measurement is made.
        path: the file of the record.
        data: name of the probe.
        loss: function that computes the loss of a network on the probe.
        constant: loss of the constant predictor on the probe; None if it is not known.
        within: True to measure within epochs; False to measure at the end of the epoch in which the
            step falls.
    """

    def __init__(
        self,
        every: int,
        seed: int,
        probe: Tensor,
        path: Path,
        *,
        data: str,
        loss: Callable[[Any], Tensor],
        constant: float | None = None,
        within: bool = False,
    ):
        self._every, self._seed, self._probe = every, seed, probe
        self._loss, self._within = loss, within
        self._how: dict[str, Any] = {"path": path, "data": data, "constant": constant}
        self._recorder: Any = None
        self._model: Any = None
        self._steps = 0

    def step(self, trainer: Trainer) -> None:
        """Measure if a measurement is due. Called at the start of a training run and after every
        step.
        """
        of_epoch = 0 if self._within else trainer.position[0]
        before, self._steps = self._steps, trainer.steps - of_epoch
        due = self._recorder is None or self._steps // self._every != before // self._every
        if not due or self._seed not in trainer.numbers:  # or it has ended
            return
        network = trainer.model(self._seed)
        if self._recorder is not None:
            self._recorder.measure(self._steps, self._load(network))
            return
        from gersgorin.recorder import Recorder

        self._model = copy.deepcopy(network)
        now: dict[str, Any] = {"start": trainer.steps, "loss": self._load(network)}
        self._recorder = Recorder(self._model, self._probe, self._every, **now, **self._how)

    def save(self) -> None:
        """Write the record. Called before a training run saves its state, so that the record is not
        older than the state.
        """
        if self._recorder:
            self._recorder.save()

    def close(self) -> None:
        """Write the record a last time."""
        if self._recorder:
            self._recorder.close()

    def _load(self, network: nn.Module) -> float:
        """Load the weights of the network, and the gradients of the probe's loss, into the measured
        model. Returns the loss.
        """
        self._model.load_state_dict(network.state_dict())
        self._model.zero_grad()
        with torch.enable_grad():
            loss = self._loss(self._model)
            loss.backward()
        return loss.item()
