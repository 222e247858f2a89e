"""A backend without models: K noisy quadratic bowls, descended by SGD with momentum.

Each has 8 weights and the loss 0.5 sum(h w^2); the noise of an epoch is a function of (seed,
epoch), as the order of batches is. Learning rates above 0.1 or so diverge, as in the real study.
"""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from optim_study.backend import finished_row
from optim_study.config import Settings, StudyConfig
from optim_study.results import TrialRow
from rhn.training.state import TrialState, has_ended
from rhn.utils.io import atomic_path

PAUSE = float(os.environ.get("STUDY_PAUSE", "0"))  # seconds an epoch, for tests that kill
CURVATURE = np.linspace(0.1, 40, 8, dtype=np.float32)


class NumpyTrials:
    """Implements what a study needs of `rhn.training.trainer.Trainer`."""

    def __init__(
        self, config: StudyConfig, settings: Mapping[int, Settings], saved: Mapping[int, TrialState]
    ):
        assert not saved or saved.keys() == settings.keys()
        assert len({state.epoch for state in saved.values()}) <= 1
        self.config = config
        self._settings = settings
        self._arrays = {n: dict(saved[n].arrays) if saved else self._start(n) for n in settings}
        self._curves = {
            n: saved[n].curve if saved else np.array([self._losses(n)]) for n in settings
        }
        self.epoch = len(next(iter(self._curves.values()))) - 1

    def live(self) -> list[int]:
        c = self.config
        ends = {"epochs": c.epochs, "patience": c.patience}
        return [n for n, curve in self._curves.items() if not has_ended(curve, c.objective, **ends)]

    def run_epoch(self) -> None:
        time.sleep(PAUSE)
        live = self.live()
        self.epoch += 1
        noise = (
            np.random.default_rng([self.config.seed, self.epoch]).normal(size=8).astype(np.float32)
        )
        for n in live:
            self._descend(n, noise)

    def state(self, number: int) -> TrialState:
        return TrialState(self._curves[number], self._arrays[number])

    def curve(self, number: int) -> np.ndarray:
        return self._curves[number]

    def best(self, number: int) -> np.ndarray:
        return self._arrays[number]["best"]

    def _start(self, number: int) -> dict[str, np.ndarray]:
        weights = (
            np.random.default_rng([self.config.seed, number]).normal(size=8).astype(np.float32)
        )
        return {"weights": weights, "momentum": np.zeros_like(weights), "best": weights}

    def _losses(self, number: int) -> tuple[float, float]:
        weights = self._arrays[number]["weights"]
        train = 0.5 * float((CURVATURE * weights * weights).sum())
        return train, train + 0.1 * abs(float(weights[0]))

    @np.errstate(over="ignore", invalid="ignore")
    def _descend(self, number: int, noise: np.ndarray) -> None:
        arrays, rate = self._arrays[number], np.float32(self._settings[number].learning_rate)
        momentum = np.float32(self.config.momentum) * arrays["momentum"]
        momentum = momentum - rate * (CURVATURE * arrays["weights"] + noise)
        weights = arrays["weights"] + momentum
        self._arrays[number] = {**arrays, "weights": weights, "momentum": momentum}
        column = 0 if self.config.objective == "train" else 1
        before = self._curves[number]
        after = self._curves[number] = np.vstack([before, self._losses(number)])
        if np.isfinite(after[-1]).all() and after[-1, column] < np.nanmin(before[:, column]):
            self._arrays[number]["best"] = weights


class NumpyBackend:
    """Implements `optim_study.backend.TorchBackend`."""

    fused = NumpyTrials

    def start(
        self, config: StudyConfig, settings: Mapping[int, Settings], saved: Mapping[int, TrialState]
    ) -> NumpyTrials:
        return self.fused(config, settings, saved)

    def row(self, config: StudyConfig, fused: NumpyTrials, number: int) -> TrialRow:
        test = float(np.square(fused.best(number)).sum())
        return finished_row(config, number, fused.curve(number), 8, test, 1.0)

    def write_best(self, path: Path, fused: NumpyTrials, number: int, **about) -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(
                save({"weights": fused.best(number)}, {"rhn": json.dumps({"metadata": about})})
            )
