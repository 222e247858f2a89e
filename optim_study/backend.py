"""Backends: train several trials as one program, evaluate each trial at its end, and write its best
weights.

A trial is a `PolyphonicModel` as large as the parameter budget of its study allows. The settings of
the trial are the scheme and standard deviation of the initial weights, the transform bias (if the
cell has one) and the learning rate. The initial weights are drawn on the CPU from a generator
seeded with (seed, architecture, depth, trial). Tests of workers use a backend in NumPy.
"""

import functools
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from optim_study.protocol import Settings, StudyConfig
from optim_study.results import LEFT, TrialRow, row_of
from rhn.cells import hidden_size_for_budget
from rhn.checkpoints import save
from rhn.data import Corpus, chorales
from rhn.errors import DataError
from rhn.models import PolyphonicModel
from rhn.training.chorales import ChoraleTask, constant_output_nll
from rhn.training.ensemble import tune_malloc, weights_generator
from rhn.training.evaluation import evaluate_chorales
from rhn.training.optimizers import OPTIMIZERS, Optimizer
from rhn.training.state import TrialState, best_epoch
from rhn.training.trainer import Trainer

# nats per frame of an output of zeros, for which every key is as likely to sound as not
SILENT_NLL = 88 * math.log(2)


def finished_row(
    config: StudyConfig,
    number: int,
    curve: np.ndarray,
    *,
    hidden_size: int,
    test_nll: float,
    constant_nll: float,
) -> TrialRow:
    """Return the results of a trial from its curve of losses; `test_nll` is the test loss of its
    best weights.

    If even the first weights overflow, no loss is finite: all losses in the row are `SILENT_NLL`.
    """
    finite = curve[np.isfinite(curve).all(axis=1)]
    overflowed = len(finite) < len(curve)
    if not len(finite):
        curve = finite = np.full((1, 2), SILENT_NLL)
        test_nll = SILENT_NLL
    least_train, least_valid = finite.min(axis=0).tolist()
    best = best_epoch(curve, config.objective)
    train_nll, valid_nll = curve[best].tolist()  # of the weights that are kept
    left = curve[:, 0] < LEFT * constant_nll
    results = {
        "hidden_size": hidden_size,
        "best_train_nll": least_train,
        "best_valid_nll": least_valid,
        "best_epoch": best,
        "train_nll": train_nll,
        "valid_nll": valid_nll,
        # only longer pieces may overflow
        "test_nll": test_nll if math.isfinite(test_nll) else sys.float_info.max,
        "constant_nll": constant_nll,
        "epochs": len(curve) - 1,
        "diverged": overflowed,
        "left_epoch": int(left.argmax()) if left.any() else None,
    }
    return row_of(config, number, config.trial(number)["settings"], results)


@dataclass(frozen=True)
class TorchBackend:
    """Train networks on the chorales with PyTorch; a backend can be pickled and sent to another
    process.
    """

    data: Path | None = None
    """A file of the original chorales; None: the chorales rebuilt from music21's scores."""
    device: str = "cpu"
    """`cpu`, or one GPU: `cuda:0`."""

    def start(
        self, config: StudyConfig, settings: Mapping[int, Settings], saved: Mapping[int, TrialState]
    ) -> Trainer:
        """Start or continue trials. `settings` has the settings of each trial, by trial number.

        saved: empty for new trials; otherwise the saved state of every trial, all states from the
        same epoch.

        Raises DataError if `data` is not the data set of the study.
        """
        tune_malloc()
        if self.device != "cpu":
            torch.cuda.set_device(self.device)  # streams and graphs go to the current device
        corpus = chorales_of_study(self.data)
        if corpus.checksum != config.data:
            raise DataError(f"data is {corpus.checksum:.12}: expected {config.data:.12}")
        return start_training(config, settings, saved, corpus, self.device)

    def row(self, config: StudyConfig, fused: Trainer, number: int) -> TrialRow:
        """The results of a trial that has ended."""
        corpus, model = chorales_of_study(self.data), fused.best_model(number)
        return finished_row(
            config,
            number,
            fused.curve(number),
            hidden_size=model.hidden_size,
            test_nll=evaluate_chorales(model, corpus.test, device=self.device).nll,
            constant_nll=constant_output_nll(corpus),
        )

    def write_best(self, path: Path, fused: Trainer, number: int, **about) -> None:
        """Write the best weights of a trial that has ended to a file, atomically, with the data on
        which they were trained.

        about: the other metadata of the checkpoint, ready for JSON.
        """
        corpus = chorales_of_study(self.data)
        data = {"source": corpus.source, "checksum": corpus.checksum}
        data |= {"path": None if self.data is None else str(self.data.absolute())}
        save(path, fused.best_model(number), **about, data=data)


def start_training(
    config: StudyConfig,
    settings: Mapping[int, Settings],
    saved,
    corpus: Corpus,
    device: str = "cpu",
) -> Trainer:
    """Start these trials on a corpus, or continue from the saved states."""
    task, models = ChoraleTask(config, corpus, device), models_of_trials(config, settings)
    rates = {number: s.learning_rate for number, s in settings.items()}
    part_size = task.part_size(next(iter(models.values())))
    return Trainer(
        task,
        models,
        rates,
        optimizer=optimizer_of_study(config),
        saved=saved or None,
        part_size=part_size,
    )


def optimizer_of_study(config: StudyConfig) -> Optimizer:
    """Make SGD with the study's momentum, or another optimizer with the defaults of torch.optim."""
    return OPTIMIZERS[config.optimizer](
        **({"momentum": config.momentum} if config.optimizer == "sgd" else {})
    )


def models_of_trials(
    config: StudyConfig, settings: Mapping[int, Settings]
) -> dict[int, PolyphonicModel]:
    """Build the untrained models of these trials, by trial number."""
    options: dict = {"hidden_size": hidden_size(config), "depth": config.depth, **config.options}
    models, gated = {}, config.gated
    for number, s in settings.items():
        bias = {"transform_bias": s.transform_bias} if gated else {}
        generator = weights_generator(config.seed, config.arch, config.depth, number)
        models[number] = PolyphonicModel(
            config.arch, init=s.init, generator=generator, **bias | options
        )
    return models


def hidden_size(config: StudyConfig) -> int:
    """Return the largest number of units that the parameter budget at this depth allows. Raises
    InvalidInputError if it allows none.
    """
    return hidden_size_for_budget(config.arch, config.budget, config.depth, **config.options)


@functools.cache
def chorales_of_study(data: Path | None) -> Corpus:
    """Load the chorales that the study trains on, once for each process."""
    return chorales(data)
