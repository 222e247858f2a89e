"""A backend without models: K noisy quadratic bowls, descended by SGD with momentum.

Each has 8 weights and the loss 0.5 sum(h w^2); the noise of an epoch is a function of (seed,
epoch), as the order of batches is. Learning rates above 0.1 or so diverge, as in the real study.
"""

import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save

from optim_study.backend import finished_row
from optim_study.config import StudyConfig
from optim_study.results import TrialRow
from rhn.training.state import TrialState, has_ended
from rhn.utils.io import atomic_path

PAUSE = float(os.environ.get("STUDY_PAUSE", "0"))  # seconds an epoch, for tests that kill
CURVATURE = np.linspace(0.1, 40, 8, dtype=np.float32)


def drawn(*numbers: int) -> np.ndarray:
    return np.random.default_rng(numbers).normal(size=8).astype(np.float32)


class NumpyTrials:
    """Implements what a study needs of `rhn.training.trainer.Trainer`."""

    def __init__(self, config: StudyConfig, settings, saved):
        assert not saved or saved.keys() == settings.keys()
        assert len({len(state.curve) for state in saved.values()}) <= 1
        self.config, self._settings, self._states = config, settings, dict(saved)
        for number in settings.keys() - saved.keys():
            weights = drawn(config.seed, number)
            arrays = {"weights": weights, "momentum": np.zeros_like(weights), "best": weights}
            self._states[number] = TrialState(np.array([self._losses(weights)]), arrays)
        self.epoch = len(next(iter(self._states.values())).curve) - 1

    def live(self) -> list[int]:
        c = self.config
        how = c.objective, c.epochs, c.patience
        return [n for n in self._settings if not has_ended(self.curve(n), *how)]

    def run_epoch(self) -> None:
        time.sleep(PAUSE)
        live = self.live()
        self.epoch += 1
        for number in live:
            self._states[number] = self._descended(number)

    def state(self, number: int) -> TrialState:
        return self._states[number]

    def curve(self, number: int) -> np.ndarray:
        return self._states[number].curve

    def best(self, number: int) -> np.ndarray:
        return self._states[number].arrays["best"]

    def _losses(self, weights: np.ndarray) -> tuple[float, float]:
        train = 0.5 * float((CURVATURE * weights * weights).sum())
        return train, train + 0.1 * abs(float(weights[0]))

    @np.errstate(over="ignore", invalid="ignore")
    def _descended(self, number: int) -> TrialState:
        before, arrays = self.curve(number), self._states[number].arrays
        rate = np.float32(self._settings[number].learning_rate)
        gradient = CURVATURE * arrays["weights"] + drawn(self.config.seed, self.epoch)
        momentum = np.float32(self.config.momentum) * arrays["momentum"] - rate * gradient
        weights = arrays["weights"] + momentum
        after = np.vstack([before, self._losses(weights)])
        column = 0 if self.config.objective == "train" else 1
        better = np.isfinite(after[-1]).all() and after[-1, column] < np.nanmin(before[:, column])
        best = weights if better else arrays["best"]
        return TrialState(after, {"weights": weights, "momentum": momentum, "best": best})


class NumpyBackend:
    """Implements `optim_study.backend.TorchBackend`."""

    fused = NumpyTrials

    def start(self, config: StudyConfig, settings, saved) -> NumpyTrials:
        return self.fused(config, settings, saved)

    def row(self, config: StudyConfig, fused: NumpyTrials, number: int) -> TrialRow:
        test = float(np.square(fused.best(number)).sum())
        return finished_row(config, number, fused.curve(number), 8, test, 1.0)

    def write_best(self, path: Path, fused: NumpyTrials, number: int, **about) -> None:
        header = {"rhn": json.dumps({"metadata": about})}
        with atomic_path(path) as temporary:
            temporary.write_bytes(save({"weights": fused.best(number)}, header))


class OneThread(NumpyBackend):
    """For a process that computes with one thread."""

    def start(self, config: StudyConfig, settings, saved) -> NumpyTrials:
        assert torch.get_num_threads() == 1
        return super().start(config, settings, saved)
