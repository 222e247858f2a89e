"""`rhn train --record N`: what `gersgorin.Recorder` measures of a training, in record.npz beside each seed's metrics.jsonl.

The probe is the first validation piece, or the first window of the validation text, read from the zero state and without dropout. Loss
and gradients in the record are the probe's too, so that measurements differ by the weights alone.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rhn.presets import ChoraleConfig, LanguageConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rhn.data import Corpus
    from rhn.data.text import TextCorpus

NAME = "record.npz"


def recorded_every(folder: Path) -> int | None:
    """After how many steps the training in a folder was measured; None where it was not. Raises DataError for a damaged record."""
    from rhn.utils.lazy import plugin

    paths = sorted([*folder.glob(NAME), *folder.glob(f"seed-*/{NAME}")])
    return plugin("recording").load(paths[0]).every if paths else None


@contextlib.contextmanager
def chorale_recorders(
    every: int | None, config: ChoraleConfig, folder: Path, corpus: "Corpus"
) -> Iterator["Recorders | None"]:
    """What to tell of every epoch and every save of a training on the chorales; None where `every` is."""
    import numpy as np
    import torch

    from rhn.plotting.provenance import words_of_new

    if every is None:
        yield None
        return
    probe = torch.as_tensor(np.asarray(corpus.valid[0])).float()
    with contextlib.closing(
        Recorders(
            every,
            probe,
            lambda seed: folder / NAME,
            networks=lambda training: {config.seed: training.model(0)},
            loss=lambda model: model.nll(probe).mean(),
            about=lambda seed, model: f"{words_of_new(model.cells[0], seed)}; {probed(corpus)}",
        )
    ) as recorders:
        yield recorders


def probed(corpus: "Corpus") -> str:
    """What networks are trained on, and what the probe is, in words."""
    return f"{corpus.source}; probe {corpus.valid[0].label}"


@contextlib.contextmanager
def text_recorders(
    every: int | None,
    config: LanguageConfig,
    folder: Path,
    corpus: "TextCorpus",
    seeds: Sequence[int],
    tensorboard: Path | None,
) -> Iterator["Recorders | None"]:
    """What to tell of every window and every save of a language model's training; None where `every` is."""
    import torch

    from rhn.plotting.provenance import words_of_new
    from rhn.training.run_folder import homes

    if every is None:
        yield None
        return
    ids = torch.from_numpy(corpus.valid[: config.window + 1]).unsqueeze(1)
    with contextlib.closing(
        Recorders(
            every,
            ids[:-1],
            lambda seed: homes(folder, seeds)[seed] / NAME,
            networks=lambda training: {seed: training.model(seed) for seed in training.live},
            loss=lambda model: model(ids[:-1], targets=ids[1:]).nll.mean(),
            about=lambda seed, model: (
                f"{words_of_new(model.cells[0], seed)}; {corpus.name}, its validation text as the probe"
            ),
            tensorboard=tensorboard,
        )
    ) as recorders:
        yield recorders


class Recorders:
    """A recorder for each seed of a training, made when the training begins.

    Args:
        every: steps of the optimiser from one measurement to the next. What is looked at only after epochs is measured at the end of
            the epoch in which the step falls.
        probe: what the networks read.
        path: of a seed, the file that is written.
        networks: of a training its live networks as they are now, by seed.
        loss: of a network on the probe.
        about: of a seed and its network, how they came to be, for figures.
        tensorboard: a folder for scalars, or None.
    """

    def __init__(
        self,
        every: int,
        probe: "Tensor",
        path: Callable[[int], Path],
        *,
        networks: Callable[[Any], Mapping[int, "nn.Module"]],
        loss: Callable[["nn.Module"], "Tensor"],
        about: Callable[[int, "nn.Module"], str],
        tensorboard: Path | None = None,
    ):
        self._every, self._probe, self._path = every, probe, path
        self._networks, self._loss, self._about, self._tensorboard = networks, loss, about, tensorboard
        self._recorders, self._models, self._steps = {}, {}, 0

    def unit(self, training: Any) -> None:
        """Measure where that is due; to be called at the start of a training and after every unit of it."""
        before, self._steps = self._steps, training.steps
        if self._recorders and self._steps // self._every == before // self._every:
            return
        for seed, network in self._networks(training).items():
            if seed in self._recorders:
                self._recorders[seed].measure(self._steps, self._look(seed, network))
            else:
                self._begin(seed, network)

    def save(self) -> None:
        """Write the records; to be called before a training saves its state, so that they are never behind it."""
        for recorder in self._recorders.values():
            recorder.save()

    def close(self) -> None:
        """Write the records a last time and say what they cost."""
        for recorder in self._recorders.values():
            recorder.close()

    def _begin(self, seed: int, network: "nn.Module") -> None:
        from rhn.utils.lazy import plugin

        self._models[seed] = copy.deepcopy(network)
        loss, board = self._look(seed, network), self._tensorboard and self._tensorboard / f"record-{seed}"
        options = {"path": self._path(seed), "start": self._steps, "loss": loss, "tensorboard": board}
        options["about"] = self._about(seed, network)
        self._recorders[seed] = plugin("recorder")(self._models[seed], self._probe, self._every, **options)

    def _look(self, seed: int, network: "nn.Module") -> float:
        """Bring the network's weights, and the gradients of the probe's loss, into the model that is measured; that loss."""
        import torch

        model = self._models[seed]
        model.load_state_dict(network.state_dict())
        model.zero_grad()
        with torch.enable_grad():
            loss = self._loss(model)
            loss.backward()
        return loss.item()
