"""Train several trials as one program, evaluate each trial at its end, and write its best weights.

A trial is a `PolyphonicModel` as large as the parameter budget of its study allows. Its initial
weights are drawn on the CPU from a generator seeded with (seed, architecture, depth, trial). Tests
of workers use a backend in NumPy.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from optim_study.config import Settings, StudyConfig
from optim_study.plan import meta_model, optimizer_of_study
from optim_study.results import LEFT, TrialRow, row_of
from rhn.checkpoints import save
from rhn.data import Corpus, chorales
from rhn.errors import DataError
from rhn.models import PolyphonicModel
from rhn.training.batches import constant_output_nll, evaluation_batches
from rhn.training.chorales import ChoraleTask, mean_nll
from rhn.training.ensemble import Ensemble, part_size
from rhn.training.state import TrialState, best_epoch
from rhn.training.trainer import Trainer
from rhn.utils.resources import tune_malloc
from rhn.utils.seeds import weights_generator
from rhn.utils.threads import deterministic
from rhn.version import __version__

SILENT_NLL = 88 * math.log(2)  # nats per frame of an output of zeros

chorales_of_study = functools.cache(chorales)
"""Load the chorales of a file, or of music21, once for each process."""


def finished_row(
    config: StudyConfig, number: int, curve: np.ndarray, size: int, test_nll: float, constant: float
) -> TrialRow:
    """Return the row of a trial from its curve of losses, its number of units, the test loss of its
    best weights and the loss of the constant predictor. If even the first weights overflow, all
    losses in the row are `SILENT_NLL`.
    """
    finite = curve[np.isfinite(curve).all(axis=1)]
    overflowed = len(finite) < len(curve)
    if not len(finite):
        curve = finite = np.full((1, 2), SILENT_NLL)
        test_nll = SILENT_NLL
    best = best_epoch(curve, config.objective)
    left = curve[:, 0] < LEFT * constant
    results = {
        "hidden_size": size,
        "best_train_nll": float(finite[:, 0].min()),
        "best_valid_nll": float(finite[:, 1].min()),
        "best_epoch": best,
        "train_nll": float(curve[best, 0]),
        "valid_nll": float(curve[best, 1]),
        # only longer pieces may overflow
        "test_nll": test_nll if math.isfinite(test_nll) else None,
        "constant_nll": constant,
        "epochs": len(curve) - 1,
        "diverged": overflowed,
        "left_epoch": int(left.argmax()) if left.any() else None,
    }
    versions = {"toolkit_version": __version__, "torch_version": torch.__version__}
    return row_of(config, number, config.trial(number)["settings"], results, versions)


@dataclass(frozen=True)
class TorchBackend:
    """Train networks on the chorales in a file, or on those of music21's scores. data: absolute."""

    data: Path | None = None
    device: str = "cpu"

    def start(
        self, config: StudyConfig, settings: Mapping[int, Settings], saved: Mapping[int, TrialState]
    ) -> Trainer:
        """Start trials with these settings, by trial number, or continue all from saved states of
        one epoch. Raises DataError if `data` is not the data set of the study.
        """
        tune_malloc()
        if self.device != "cpu":
            torch.cuda.set_device(self.device)  # streams and graphs go to the current device
        corpus = chorales_of_study(self.data)
        if corpus.checksum != config.data:
            raise DataError(f"data is {corpus.checksum:.12}: expected {config.data:.12}")
        return start_training(config, settings, saved, corpus, self.device)

    def row(self, config: StudyConfig, fused: Trainer, number: int) -> TrialRow:
        """Return the row of a trial that has ended."""
        corpus, model = chorales_of_study(self.data), fused.best_model(number)
        batches = evaluation_batches(corpus.test, device=self.device, dtype=torch.float32)
        with deterministic():
            test = mean_nll(Ensemble.of([model], self.device), batches).item()
        curve, constant = fused.curve(number), constant_output_nll(corpus.train)
        return finished_row(config, number, curve, model.hidden_size, test, constant)

    def write_best(self, path: Path, fused: Trainer, number: int, **about) -> None:
        """Write the best weights of a trial that has ended, with its data and other metadata."""
        corpus = chorales_of_study(self.data)
        file = None if self.data is None else str(self.data)
        data = {"source": corpus.source, "checksum": corpus.checksum, "path": file}
        save(path, fused.best_model(number), **about, data=data)


def start_training(
    config: StudyConfig, settings: Mapping[int, Settings], saved, corpus: Corpus, device="cpu"
) -> Trainer:
    """Start these trials on a corpus, or continue from the saved states."""
    task, models = ChoraleTask(config, corpus, device), models_of_trials(config, settings)
    rates = {number: s.learning_rate for number, s in settings.items()}
    positions = max(batch.mask.numel() for batch in task.batches(1))
    part = part_size(next(iter(models.values())), positions, task.device)
    optimizer = optimizer_of_study(config)
    return Trainer(task, models, rates, optimizer=optimizer, saved=saved or None, part_size=part)


def models_of_trials(
    config: StudyConfig, settings: Mapping[int, Settings]
) -> dict[int, PolyphonicModel]:
    """Build the untrained models of these trials, by trial number."""
    shared: dict = {"hidden_size": meta_model(config).hidden_size, "depth": config.depth}
    models = {}
    for number, s in settings.items():
        generator = weights_generator(config.seed, config.arch, config.depth, number)
        own = {"init": s.init, "generator": generator}
        if config.gated:
            own["transform_bias"] = s.transform_bias
        models[number] = PolyphonicModel(config.arch, **{**shared, **own, **config.options})
    return models
