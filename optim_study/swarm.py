"""The trials of a study trained with torch: what stands between the study and `rhn.chorales`.

    work(study, TorchTrainer(data=None, device="cpu"), options)

A trial is a `PolyphonicModel` as large as its budget allows, started at the trial's standard deviation and transform bias (where the
cell has one), and trained at its learning rate. Its initial weights are drawn on the CPU from a generator named by (seed,
architecture, depth, trial).
"""

import functools
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rhn.errors import DataError

from .config import StudyConfig
from .space import Settings, parameter_budget
from .swarm_protocol import Outcome, SavedState


@dataclass(frozen=True)
class TorchTrainer:
    """Makes swarms (`MakeSwarm`); can be sent to a spawned process.

    Raises, when it makes one: DataError where the data set is not the study's.
    """

    data: Path | None = None
    """A file of original chorales; None: those rebuilt from music21's scores."""
    device: str = "cpu"

    def __call__(
        self, config: StudyConfig, settings: Mapping[int, Settings], saved: Mapping[int, SavedState]
    ) -> "TorchSwarm":
        from rhn.engine.numerics import keep_memory

        keep_memory()
        corpus = _corpus(self.data)
        if corpus.checksum != config.data:
            raise DataError(
                f"study {config.name} is about a data set with checksum {config.data:.12}, "
                f"but {self.data or 'the rebuilt chorales'} has {corpus.checksum:.12}: give the study's own (--data FILE)"
            )
        return TorchSwarm(config, settings, saved, corpus, self.device)


class TorchSwarm:
    """Implements `Swarm` with one `rhn.chorales.loop.Training`."""

    def __init__(
        self,
        config: StudyConfig,
        settings: Mapping[int, Settings],
        saved: Mapping[int, SavedState],
        corpus,
        device: str = "cpu",
    ):
        from rhn.chorales.loop import Plan, Training

        self._config, self._settings, self._corpus, self._device = config, settings, corpus, device
        shared = ("arch", "depth", "seed", "epochs", "patience", "objective", "batch_size", "momentum")
        self._training = Training(
            build_models(config, settings),
            {number: s.learning_rate for number, s in settings.items()},
            corpus,
            Plan(**{name: getattr(config, name) for name in shared}),
            device=device,
            saved=saved,
        )
        self._outcomes: dict[int, Outcome] = {}

    @property
    def epoch(self) -> int:
        return self._training.epoch

    def live(self) -> list[int]:
        return self._training.live()

    def run_epoch(self) -> None:
        self._training.run_epoch()

    def curve(self, number: int) -> np.ndarray:
        return self._training.curve(number)

    def state(self, number: int) -> Mapping[str, np.ndarray]:
        return self._training.state(number).arrays

    def outcome(self, number: int) -> Outcome | None:
        if number in self.live():
            return None
        if number not in self._outcomes:
            self._outcomes[number] = self._measured(number)
        return self._outcomes[number]

    def write_best(self, number: int, path: Path, metadata: Mapping[str, str]) -> None:
        from rhn.checkpoints import save_checkpoint

        save_checkpoint(
            path,
            self._training.best_model(number),
            study=self._config.protocol(),
            trial=number,
            settings=vars(self._settings[number]),
            outcome=vars(self.outcome(number)),
        )
        _add_metadata(path, metadata)

    def _measured(self, number: int) -> Outcome:
        from rhn.chorales.evaluation import evaluate

        model, curve = self._training.best_model(number), self.curve(number)
        finite = curve[np.isfinite(curve).all(axis=1)]
        train, valid = finite.min(axis=0).tolist()
        test = evaluate(model, self._corpus.test, device=self._device).nll
        return Outcome(
            hidden_size=model.hidden_size,
            best_train_nll=train,
            best_valid_nll=valid,
            test_nll=test
            if math.isfinite(test)
            else sys.float_info.max,  # longer pieces may overflow where others did not
            epochs=len(curve) - 1,
            diverged=len(finite) < len(curve),
        )


def hidden_size(config: StudyConfig) -> int:
    """Units of the study's networks: as many as the budget of this depth buys."""
    from rhn.cells import hidden_size_for_budget

    budget = parameter_budget(config.depth, config.budget_scale)
    return hidden_size_for_budget(config.arch, budget, config.depth, **config.options)


def build_models(config: StudyConfig, settings: Mapping[int, Settings]) -> dict:
    """The models of these trials, before training, by number."""
    from rhn.cells import resolve_cell
    from rhn.engine.seeds import weights_generator
    from rhn.models import PolyphonicModel, accepts

    units, gated = hidden_size(config), accepts(resolve_cell(config.arch), "transform_bias")
    return {
        number: PolyphonicModel(
            config.arch,
            hidden_size=units,
            depth=config.depth,
            init=f"gaussian:{s.init_std!r}",
            generator=weights_generator(config.seed, config.arch, config.depth, number),
            **({"transform_bias": s.transform_bias} if gated else {}),
            **config.options,
        )
        for number, s in settings.items()
    }


@functools.cache
def _corpus(data: Path | None):
    from rhn.data import chorales

    return chorales(data, progress=False)


def _add_metadata(path: Path, metadata: Mapping[str, str]) -> None:
    """Put entries beside a checkpoint's own in the header of its file."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save

    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    path.write_bytes(save(load_file(path), header | dict(metadata)))
