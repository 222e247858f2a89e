"""A training on the chorales in a folder, as `rhn.training.driver` has it.

A line of metrics.jsonl is {"epoch", "train_nll", "valid_nll"}, nats a frame; epoch 0 is before training.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from rhn.checkpoints import save_checkpoint
from rhn.data import Corpus
from rhn.training.build import build_model
from rhn.training.chorales import Training
from rhn.training.config import ChoraleConfig
from rhn.training.curves import diverged, kept
from rhn.training.driver import drive
from rhn.training.evaluation import evaluate
from rhn.training.run_folder import homes
from rhn.training.state import TrialState
from rhn.utils.io import finite_json


@dataclass(frozen=True)
class Result:
    """What a training came to. Losses are those of the kept weights, in nats a frame."""

    checkpoint: str
    best_epoch: int
    train_nll: float
    valid_nll: float
    test_nll: float
    epochs: int
    finished: bool
    """False where time ran out first."""
    diverged: bool


def train(
    config: ChoraleConfig,
    corpus: Corpus,
    out: str | Path,
    *,
    device: str = "cpu",
    about: Mapping[str, str | None] = MappingProxyType({}),
    **how,
) -> Result:
    """Train, or go on where the folder says.

    about: entries that config.json keeps beside the configuration, and that may change.
    how: max_minutes, on_unit, on_epoch and on_save; they and the errors are those of `rhn.training.driver.drive`.
    """
    run = _Run(Path(out), config, corpus, device)  # what cannot be built leaves no folder behind
    drive(run, run.folder, config, fixed={"data": corpus.checksum}, free=about, **how)
    return run.result()


class _Run:
    """Implements `rhn.training.driver.Run`: a unit is an epoch."""

    unit, saves_every_epoch = "epoch", False  # the training itself keeps the best weights

    def __init__(self, folder: Path, config: ChoraleConfig, corpus: Corpus, device: str):
        self.folder, self.homes = folder, homes(folder, [config.seed])
        self._config, self._corpus, self._device = config, corpus, device
        self._model = build_model(config)

    def begin(self, saved: Mapping[str, np.ndarray] | None) -> None:
        state = None if saved is None else {0: TrialState(saved["curve"], saved)}
        models, rates = {0: self._model}, {0: self._config.learning_rate}
        self.training = Training(models, rates, self._corpus, self._config, device=self._device, saved=state)

    @property
    def epochs(self) -> int:
        return self.training.epoch

    @property
    def finished(self) -> bool:
        return not self.training.live()

    def advance(self) -> bool:
        self.training.run_epoch()
        return True

    def lines(self, seed: int) -> list[dict]:
        curve = self.training.curve(0).tolist()
        return [{"epoch": epoch, "train_nll": t, "valid_nll": v} for epoch, (t, v) in enumerate(curve)]

    def keep(self, ended: bool) -> None:
        metrics = kept(self.training.curve(0), self._config.objective)._asdict()
        save_checkpoint(
            self.folder / "best.safetensors",
            self.training.best_model(0),
            train=asdict(self._config),
            data={"source": self._corpus.source, "checksum": self._corpus.checksum},
            metrics=metrics | ({"test_nll": finite_json(self._test_nll())} if self.finished else {}),
        )

    def leave(self) -> None:
        """Nothing: there is a best epoch from the start, the one before training."""

    def arrays(self) -> Mapping[str, object]:
        state = self.training.state(0)
        return {**state.arrays, "curve": state.curve}

    def result(self) -> Result:
        path, curve = str(self.folder / "best.safetensors"), self.training.curve(0)
        best = kept(curve, self._config.objective)
        return Result(path, *best, self._test_nll(), self.epochs, self.finished, diverged(curve))

    def _test_nll(self) -> float:
        return evaluate(self.training.best_model(0), self._corpus.test, device=self._device).nll
