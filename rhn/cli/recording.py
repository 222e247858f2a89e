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
from rhn.plotting.provenance import words_of_new
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
        ids = torch.from_numpy(corpus.valid[: config.window + 1]).long().unsqueeze(1)
        probe, words = ids[:-1], f"{corpus.name}, its validation text as the probe"
        constant = None
    else:
        probe = torch.as_tensor(np.asarray(corpus.valid[0])).float()
        words = f"{corpus.source}; probe {corpus.valid[0].label}"
        constant = constant_output_nll(corpus, corpus.valid[:1])

    def loss(model: Any) -> Tensor:
        return (model(probe, targets=ids[1:]).nll if text else model.nll(probe)).mean()

    def about(seed: int) -> Callable[[Any], str]:
        return lambda model: f"{words_of_new(model.cells[0], seed)}; {words}"

    paths = {seed: home / NAME for seed, home in homes(folder, seeds).items()}
    own: dict = {"loss": loss, "constant": constant, "within": text}
    return [
        ProbeRecorder(every, seed, probe, paths[seed], about=about(seed), **own) for seed in seeds
    ]


class ProbeRecorder(Callback):
    """A callback that records one seed of a training run, from its beginning.

    Args:
        every: optimiser steps between two measurements.
        probe: the input on which every measurement is made.
        path: the file of the record.
        loss: function that computes the loss of a network on the probe.
        about: function that describes the origin of a network, for figures.
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
        loss: Callable[[Any], Tensor],
        about: Callable[[Any], str],
        constant: float | None = None,
        within: bool = False,
    ):
        self._every, self._seed, self._probe, self._path = every, seed, probe, path
        self._loss, self._about, self._within = loss, about, within
        self._constant = constant
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
        about, loss = self._about(network), self._load(network)
        origin: dict[str, Any] = {"path": self._path, "start": trainer.steps, "about": about}
        origin |= {"loss": loss, "loss_of": "the probe", "constant": self._constant}
        self._recorder = Recorder(self._model, self._probe, self._every, **origin)

    def save(self) -> None:
        """Write the record. Called before a training run saves its state, so that the record is not
        older than the state.
        """
        if self._recorder:
            self._recorder.save()

    def close(self) -> None:
        """Write the record a last time, and print how much time recording took."""
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
