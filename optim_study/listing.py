"""What a storage holds: its studies, how far each is, and the rows of their complete trials."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from rhn.errors import DataError, InvalidInputError

from .config import StudyConfig
from .creation import stored_config
from .records import Row
from .storage import Storage, clear_storage_errors, open_storage


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How far a study is."""

    trials: int
    complete: int
    running: int
    """Begun and not complete; those of workers that died count until another takes them over."""
    diverged: int
    best: float | None
    """The least value so far, nats a frame."""


def open_existing(url: str | None, out: Path) -> Storage:
    """The storage of a run that was started; raises InvalidInputError where OUT has no journal."""
    if url is None and not (out / "journal.log").is_file():
        raise InvalidInputError(
            f"there is no study in {out}: {out / 'journal.log'} is missing; give the folder of a run (--out DIR) "
            "or its database (--storage URL)"
        )
    return open_storage(url, out)


def study_names(storage: Storage) -> list[str]:
    """Names of the studies that optim-study made, in the order of their making."""
    with clear_storage_errors():
        found = storage.backend.get_all_studies()
    return [s.study_name for s in sorted(found, key=lambda s: s._study_id) if "protocol" in s.user_attrs]


def configs(storage: Storage) -> list[StudyConfig]:
    """Their configurations."""
    return [stored_config(name, storage) for name in study_names(storage)]


def counts(config: StudyConfig, storage: Storage) -> Counts:
    """How far a study is; nothing done where it does not exist yet."""
    trials = _trials(config.name, storage)
    complete = [t for t in trials if t.state == TrialState.COMPLETE]
    return Counts(
        trials=config.trials,
        complete=len(complete),
        running=sum(t.state == TrialState.RUNNING for t in trials),
        diverged=sum(bool(t.user_attrs.get("diverged")) for t in complete),
        best=min((t.value for t in complete), default=None),
    )


def rows(studies: Iterable[StudyConfig], storage: Storage) -> list[Row]:
    """The complete trials of these studies."""
    return [
        _row(config, trial)
        for config in studies
        for trial in _trials(config.name, storage)
        if trial.state == TrialState.COMPLETE
    ]


def _trials(name: str, storage: Storage) -> list[FrozenTrial]:
    with clear_storage_errors():
        try:
            study = storage.backend.get_study_id_from_name(name)
        except KeyError:
            return []
        return storage.backend.get_all_trials(study, deepcopy=False)


def _row(config: StudyConfig, trial: FrozenTrial) -> Row:
    try:
        return Row(arch=config.arch, depth=config.depth, trial=trial.number, **trial.params, **trial.user_attrs)
    except TypeError:
        raise DataError(
            f"trial {trial.number} of study {config.name} was not made by optim-study: it lacks results or has others"
        ) from None


optuna.logging.set_verbosity(optuna.logging.WARNING)
