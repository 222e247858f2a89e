"""A trainer without models: K noisy quadratic bowls, descended by SGD with momentum.

Each has 8 weights and the loss 0.5 sum(h w^2); the noise of an epoch is a function of (seed, epoch), as the order of
batches is. Learning rates above 0.1 or so diverge, as in the real study.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from optim_study.config import StudyConfig
from optim_study.space import Settings
from optim_study.swarm_protocol import Outcome, SavedState

CURVATURE = np.linspace(0.1, 40, 8, dtype=np.float32)


class NumpySwarm:
    """Implements `optim_study.swarm_protocol.Swarm`."""

    def __init__(self, config: StudyConfig, settings: Mapping[int, Settings], saved: Mapping[int, SavedState]):
        assert not saved or saved.keys() == settings.keys()
        assert len({state.epoch for state in saved.values()}) <= 1
        self.config = config
        self._settings = settings
        self._arrays = {n: dict(saved[n].arrays) if saved else self._start(n) for n in settings}
        self._curves = {n: saved[n].curve if saved else np.array([self._losses(n)]) for n in settings}
        self.epoch = len(next(iter(self._curves.values()))) - 1

    def live(self) -> list[int]:
        return [n for n in self._settings if not self._has_ended(n)]

    def run_epoch(self) -> None:
        live = self.live()
        self.epoch += 1
        noise = np.random.default_rng([self.config.seed, self.epoch]).normal(size=8).astype(np.float32)
        for n in live:
            self._descend(n, noise)

    def state(self, number: int) -> Mapping[str, np.ndarray]:
        return self._arrays[number]

    def curve(self, number: int) -> np.ndarray:
        return self._curves[number]

    def outcome(self, number: int) -> Outcome | None:
        if not self._has_ended(number):
            return None
        curve = self._curves[number]
        finite = curve[np.isfinite(curve).all(axis=1)]
        train, valid = finite.min(axis=0).tolist()
        return Outcome(
            hidden_size=8,
            best_train_nll=train,
            best_valid_nll=valid,
            test_nll=float(np.square(self._arrays[number]["best"]).sum()),
            epochs=len(curve) - 1,
            diverged=len(finite) < len(curve),
        )

    def write_best(self, number: int, path: Path, metadata: Mapping[str, str]) -> None:
        save_file({"weights": self._arrays[number]["best"]}, path, dict(metadata))

    def _start(self, number: int) -> dict[str, np.ndarray]:
        weights = np.random.default_rng([self.config.seed, number]).normal(size=8).astype(np.float32)
        return {"weights": weights, "momentum": np.zeros_like(weights), "best": weights, "since": np.array(0)}

    def _losses(self, number: int) -> tuple[float, float]:
        weights = self._arrays[number]["weights"]
        with np.errstate(over="ignore", invalid="ignore"):
            train = 0.5 * float((CURVATURE * weights * weights).sum())
            return train, train + 0.1 * abs(float(weights[0]))

    def _descend(self, number: int, noise: np.ndarray) -> None:
        arrays, rate = self._arrays[number], np.float32(self._settings[number].learning_rate)
        with np.errstate(over="ignore", invalid="ignore"):
            momentum = np.float32(self.config.momentum) * arrays["momentum"]
            momentum = momentum - rate * (CURVATURE * arrays["weights"] + noise)
            weights = arrays["weights"] + momentum
        self._arrays[number] = arrays = {**arrays, "weights": weights, "momentum": momentum}
        curve = self._curves[number]
        self._curves[number] = np.vstack([curve, self._losses(number)])
        if self._curves[number][-1, 0] < np.nanmin(curve[:, 0]):
            arrays |= {"best": weights, "since": np.array(0)}
        else:
            arrays["since"] = arrays["since"] + 1

    def _has_ended(self, number: int) -> bool:
        curve = self._curves[number]
        return (
            len(curve) > self.config.epochs
            or not np.isfinite(curve[-1]).all()
            or int(self._arrays[number]["since"]) >= self.config.patience
        )
