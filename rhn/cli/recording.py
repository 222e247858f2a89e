"""`rhn train --record N`: measure a training with the recorder of gersgorin, into record.npz beside the metrics.jsonl of each seed.

The probe is the first validation piece, or the first window of the validation text, read from the zero state and without dropout. Loss
and gradients in the record are those of the probe, so measurements differ only by the weights.
"""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rhn.presets import ChoraleConfig, LanguageConfig
from rhn.training.run import Callback, homes
from rhn.utils.lazy import plugin

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rhn.data import Corpus
    from rhn.data.text import TextCorpus
    from rhn.training.trainer import Trainer

NAME = "record.npz"


def recorded_every(folder: Path) -> int | None:
    """Number of steps between two measurements of the run in a folder; None without a record. Raises DataError for a damaged record."""
    paths = sorted([*folder.glob(NAME), *folder.glob(f"seed-*/{NAME}")])
    return plugin("recording").load(paths[0]).every if paths else None


def recorders(
    every: int,
    config: ChoraleConfig | LanguageConfig,
    folder: Path,
    corpus: "Corpus | TextCorpus",
    seeds: Sequence[int],
) -> "Recorders":
    """The recorders of a training as a callback, one for each seed."""
    import numpy as np
    import torch

    from rhn.plotting.provenance import words_of_new

    paths = {seed: home / NAME for seed, home in homes(folder, seeds).items()}
    if text := isinstance(config, LanguageConfig):
        ids = torch.from_numpy(corpus.valid[: config.window + 1]).long().unsqueeze(1)
        probe, words = ids[:-1], f"{corpus.name}, its validation text as the probe"
    else:
        probe, words = torch.as_tensor(np.asarray(corpus.valid[0])).float(), probed(corpus)

    def loss(model: "nn.Module") -> "Tensor":
        return (model(probe, targets=ids[1:]).nll if text else model.nll(probe)).mean()

    def about(seed: int, model: "nn.Module") -> str:
        return f"{words_of_new(model.cells[0], seed)}; {words}"

    return Recorders(every, probe, paths.get, loss=loss, about=about, within=text)


def probed(corpus: "Corpus") -> str:
    """The data of a training and its probe, in words."""
    return f"{corpus.source}; probe {corpus.valid[0].label}"


class Recorders(Callback):
    """A recorder for each seed of a training, made when the training begins.

    Args:
        every: steps of the optimizer between two measurements.
        probe: input of the networks.
        path: the file of a seed.
        loss: of a network on the probe.
        about: origin of the network of a seed, for figures.
        within: measure within epochs; otherwise at the end of the epoch in which the step falls.
    """

    def __init__(
        self,
        every: int,
        probe: "Tensor",
        path: Callable[[int], Path],
        *,
        loss: Callable[["nn.Module"], "Tensor"],
        about: Callable[[int, "nn.Module"], str],
        within: bool = False,
    ):
        self._within = within
        self._every, self._probe, self._path = every, probe, path
        self._loss, self._about = loss, about
        self._recorders: dict[int, Any] = {}
        self._models, self._steps = {}, 0

    def step(self, trainer: "Trainer") -> None:
        """Measure if a measurement is due; call it at the start of a training and after every step."""
        if self._recorders and trainer.position[0] and not self._within:
            return
        before, self._steps = self._steps, trainer.steps - (0 if self._within else trainer.position[0])
        if self._recorders and self._steps // self._every == before // self._every:
            return
        for seed in trainer.numbers:
            network = trainer.model(seed)
            if seed in self._recorders:
                self._recorders[seed].measure(self._steps, self._load(seed, network))
            else:
                self._begin(seed, network, trainer.steps)

    def save(self) -> None:
        """Write the records; call it before a training saves its state, so that they are never behind it."""
        for recorder in self._recorders.values():
            recorder.save()

    def close(self) -> None:
        """Write the records a last time and print their cost."""
        for recorder in self._recorders.values():
            recorder.close()

    def _begin(self, seed: int, network: "nn.Module", start: int) -> None:
        self._models[seed] = copy.deepcopy(network)
        options = {"path": self._path(seed), "start": start, "loss": self._load(seed, network)}
        options["about"] = self._about(seed, network)
        self._recorders[seed] = plugin("recorder")(self._models[seed], self._probe, self._every, **options)

    def _load(self, seed: int, network: "nn.Module") -> float:
        """Load the weights of the network, and the gradients of the probe's loss, into the measured model; returns the loss."""
        import torch

        model = self._models[seed]
        model.load_state_dict(network.state_dict())
        model.zero_grad()
        with torch.enable_grad():
            loss = self._loss(model)
            loss.backward()
        return loss.item()
