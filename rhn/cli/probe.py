"""`rhn train --record N`: measure a training run with the recorder of gersgorin, and write
record.npz beside the metrics.jsonl of each seed. The probe is the first validation piece, or the
first window of the validation text, read from the zero state and without dropout.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from rhn.data import Corpus, TextCorpus
from rhn.training.batches import constant_output_nll
from rhn.training.trainer import Trainer

NAME = "record.npz"


def recorded_every(folder: Path) -> int | None:
    """Return the optimiser steps between two measurements in the record of a folder, if any."""
    from gersgorin.recording import Recording

    paths = sorted([*folder.glob(NAME), *folder.glob(f"seed-*/{NAME}")])
    return Recording.load(paths[0]).every if paths else None


class ProbeRecorder:
    """A callback that records a seed of a training run; chorales at the end of an epoch."""

    def __init__(self, every: int, config: Any, corpus: Corpus | TextCorpus, seed: int, home: Path):
        self._every, self._seed, self._steps = every, seed, 0
        self._recorder: Any = None
        self._model: Any = None
        self._text = isinstance(corpus, TextCorpus)
        self._how: dict[str, Any] = {"path": home / NAME}
        if isinstance(corpus, TextCorpus):
            self._probe = torch.from_numpy(corpus.valid[: config.window + 1]).long()
            self._how |= {"data": corpus.name}
        else:
            self._probe = torch.as_tensor(np.asarray(corpus.valid[0])).float()
            constant = constant_output_nll(corpus.valid[:1], corpus.train)
            self._how |= {"data": corpus.valid[0].label, "constant": constant}

    def __call__(self, trainer: Trainer) -> None:
        """Measure if a measurement is due, and write the record: it is not older than the state."""
        before = self._steps
        self._steps = trainer.steps - (0 if self._text else trainer.position[0])
        due = self._recorder is None or self._steps // self._every != before // self._every
        if not due or self._seed not in trainer.numbers:  # or it has ended
            return
        network, x = trainer.model(self._seed), self._probe
        self._model = self._model or network
        self._model.load_state_dict(network.state_dict())
        self._model.zero_grad()
        if self._text:
            loss = self._model(x[:-1, None], targets=x[1:, None]).nll.mean()
        else:
            loss = self._model.nll(x).mean()
        loss.backward()
        if self._recorder is None:
            from gersgorin.recorder import Recorder

            how = {"start": trainer.steps, "loss": loss, **self._how}
            x = x[:-1] if self._text else x
            self._recorder = Recorder(self._model, x, self._every, **how)
        else:
            self._recorder.measure(self._steps, loss)
        self._recorder.save()
