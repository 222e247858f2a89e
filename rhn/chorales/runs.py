"""A training in a folder: killed at any moment, the same call goes on and ends as if nothing had happened.

    config.json          what is trained, and on which data
    metrics.jsonl        a line an epoch: {"epoch", "train_nll", "valid_nll"}, nats a frame; epoch 0 is before training
    best.safetensors     the checkpoint of the best epoch so far
    state.safetensors    the last saved state: curve, weights, velocity, best weights

The state is the truth: lines of epochs after it are dropped and written again, with the same numbers (on a CPU, the same bits).
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from rhn.checkpoints import save_checkpoint
from rhn.chorales.config import ChoraleConfig
from rhn.chorales.evaluation import evaluate
from rhn.chorales.loop import Plan, Training
from rhn.data import Corpus
from rhn.engine.curves import best_epoch, diverged
from rhn.engine.folder import held, metrics_file, require_same_training
from rhn.engine.seeds import weights_generator
from rhn.engine.state import TrialState, read_state, write_state
from rhn.files import finite_json
from rhn.interrupts import Interrupted, deferred_interrupt
from rhn.models import PolyphonicModel

SAVE_SHARE = 0.02  # of the time may go into saving: a kill costs as much as is trained meanwhile


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a training came to. Losses are those of the kept weights, in nats a frame."""

    checkpoint: str
    best_epoch: int
    train_nll: float
    valid_nll: float
    test_nll: float
    epochs: int
    diverged: bool


def train(
    config: ChoraleConfig,
    corpus: Corpus,
    out: str | Path,
    *,
    device: str = "cpu",
    about: Mapping[str, str | None] = MappingProxyType({}),
    on_epoch: Callable[[np.ndarray], None] = lambda curve: None,
) -> Result:
    """Train, or go on where the folder says; `on_epoch(curve)` is called after every epoch, see `rhn.engine.curves`.

    about: entries that config.json keeps beside the configuration, and that may change.

    Raises:
        InvalidInputError: the folder holds another training; the message names what differs.
        DataError: the saved state is damaged.
        OutputError: the folder cannot be written to, or another process trains in it.
        Interrupted: Ctrl-C; everything is saved.
    """
    folder, model = Path(out), build_model(config)  # what cannot be built leaves no folder behind
    with held(folder), deferred_interrupt() as interrupt:
        told = asdict(config) | {"data": corpus.checksum, **about}
        require_same_training(folder / "config.json", told, free=tuple(about))
        training = Training(
            {0: model},
            {0: config.learning_rate},
            corpus,
            _plan(config),
            device=device,
            saved=_load_state(folder / "state.safetensors"),
        )
        lines = [_line(epoch, losses) for epoch, losses in enumerate(training.curve(0).tolist())]
        with metrics_file(folder / "metrics.jsonl", lines) as write_metrics:
            on_epoch(training.curve(0))
            next_save = 0.0
            while training.live():
                training.run_epoch()
                write_metrics(_line(training.epoch, training.curve(0)[-1].tolist()))
                on_epoch(training.curve(0))
                started = time.monotonic()
                if interrupt.pending or started > next_save:
                    _save(folder, training, config, corpus)
                    next_save = time.monotonic() + (time.monotonic() - started) / SAVE_SHARE
                if interrupt.pending:
                    raise Interrupted(
                        f"stopped after epoch {training.epoch}, saved in {folder}; the same command goes on"
                    )
        return _finish(folder, training, config, corpus, device)


def build_model(config: ChoraleConfig) -> PolyphonicModel:
    """The model of a configuration, before training."""
    return PolyphonicModel(
        config.cell,
        hidden_size=config.hidden_size,
        depth=config.depth,
        init=f"gaussian:{config.init_std!r}",
        generator=weights_generator(config.seed, config.cell, config.depth),
        **config.cell_options,
    )


def _plan(config: ChoraleConfig) -> Plan:
    shared = ("depth", "seed", "epochs", "patience", "objective", "batch_size", "momentum")
    return Plan(arch=config.cell, **{name: getattr(config, name) for name in shared})


def _load_state(path: Path) -> dict[int, TrialState] | None:
    if (saved := read_state(path)) is None:
        return None
    arrays, _ = saved
    return {0: TrialState(arrays.pop("curve"), arrays)}


def _save(folder: Path, training: Training, config: ChoraleConfig, corpus: Corpus, **metrics) -> None:
    """The best checkpoint first, then the state: a kill between them leaves nothing that is not written again."""
    curve, state = training.curve(0), training.state(0)
    best = best_epoch(curve, config.objective)
    train_nll, valid_nll = curve[best].tolist()
    save_checkpoint(
        folder / "best.safetensors",
        training.best_model(0),
        train=asdict(config),
        data={"source": corpus.source, "checksum": corpus.checksum},
        metrics={"epoch": best, "train_nll": train_nll, "valid_nll": valid_nll, **metrics},
    )
    write_state(folder / "state.safetensors", {**state.arrays, "curve": state.curve})


def _finish(folder: Path, training: Training, config: ChoraleConfig, corpus: Corpus, device: str) -> Result:
    curve, test = training.curve(0), evaluate(training.best_model(0), corpus.test, device=device).nll
    _save(folder, training, config, corpus, test_nll=finite_json(test))
    best = best_epoch(curve, config.objective)
    train_nll, valid_nll = curve[best].tolist()
    return Result(
        checkpoint=str(folder / "best.safetensors"),
        best_epoch=best,
        train_nll=train_nll,
        valid_nll=valid_nll,
        test_nll=test,
        epochs=training.epoch,
        diverged=diverged(curve),
    )


def _line(epoch: int, losses: list[float]) -> dict:
    train_nll, valid_nll = losses
    return {"epoch": epoch, "train_nll": train_nll, "valid_nll": valid_nll}
