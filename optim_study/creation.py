"""One Optuna study for each (architecture, depth): created, compared with its protocol, filled with its trials.

All N trials are added up front as WAITING with their parameters, so their numbers 0..N-1 are the settings' index,
dashboards show "12 of 60", and nothing left to claim is the stop rule: asking until a count is reached overshoots with
several workers.
"""

import math
from dataclasses import asdict
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from rhn.errors import DataError, InvalidInputError

from .config import StudyConfig, config_from_protocol, require_same_protocol
from .space import Settings, Space
from .states import StudyFolder
from .storage import Storage, clear_storage_errors
from .study import Study

_PROTOCOL, _TRIALS = "protocol", "trials"  # user attributes of the study


def open_study(config: StudyConfig, out: Path, storage: Storage) -> Study:
    """The study of this configuration: created where it is missing, filled up to `config.trials`.

    Raises:
        InvalidInputError: the study there has another protocol, or more trials than asked for.
        DataError: the study there was not made by this toolkit, or is damaged.
        OutputError: the storage or the folder cannot be written.
    """
    locks = storage.locks(config.name)
    try:
        with clear_storage_errors(), locks.mutex():
            study = _load_or_create(config.name, storage)
            _require_ours(study, config)
            _fill(study, config)
        return Study(config, study, storage.backend, locks, StudyFolder(out / config.name, config.fingerprint))
    except BaseException:
        locks.close()
        raise


def stored_config(name: str, storage: Storage) -> StudyConfig:
    """The configuration of a study in the storage, for a worker that joins it.

    Raises:
        InvalidInputError: there is no such study.
        DataError: it was not made by this version of the toolkit.
        OutputError: the storage cannot be used.
    """
    with clear_storage_errors():
        try:
            attributes = optuna.load_study(study_name=name, storage=storage.backend).user_attrs
        except KeyError:
            known = ", ".join(sorted(optuna.get_all_study_names(storage.backend))) or "none"
            raise InvalidInputError(f"there is no study {name!r} in the storage, only: {known}") from None
    if _PROTOCOL not in attributes or _TRIALS not in attributes:
        raise DataError(f"study {name} was not made by optim-study")
    return config_from_protocol(attributes[_PROTOCOL], trials=attributes[_TRIALS])


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """The space in Optuna's words."""
    return {
        "learning_rate": FloatDistribution(*space.learning_rate, log=True),
        "init_std": FloatDistribution(*space.init_std, log=True),
        "transform_bias": CategoricalDistribution(space.transform_bias),
    }


def _load_or_create(name: str, storage: Storage) -> optuna.Study:
    roles = {"sampler": optuna.samplers.RandomSampler(), "pruner": optuna.pruners.NopPruner()}  # neither is ever asked
    try:
        return optuna.load_study(study_name=name, storage=storage.backend, **roles)
    except KeyError:
        return optuna.create_study(study_name=name, storage=storage.backend, direction="minimize", **roles)


def _require_ours(study: optuna.Study, config: StudyConfig) -> None:
    """Compares the protocol, or stores it in a study just created."""
    attributes = study.user_attrs
    if _PROTOCOL in attributes:
        require_same_protocol(config, attributes[_PROTOCOL])
    elif study.get_trials(deepcopy=False):
        raise DataError(f"study {config.name} in this storage was not made by optim-study: give another storage")
    else:
        study.set_user_attr(_PROTOCOL, config.protocol())
    if attributes.get(_TRIALS, 0) > config.trials:
        raise InvalidInputError(
            f"study {config.name} has {attributes[_TRIALS]} trials already, {config.trials} were asked: "
            "give that total or a larger one"
        )


def _fill(study: optuna.Study, config: StudyConfig) -> None:
    """Checks the trials that are there and adds those that are missing."""
    trials = study.get_trials(deepcopy=False)
    for trial in trials:
        if not _is_setting(trial, config.settings(trial.number)):
            raise DataError(
                f"trial {trial.number} of study {config.name} does not have the settings of its number: "
                "something else than optim-study added it; give another storage"
            )
    if study.user_attrs.get(_TRIALS) != config.trials:
        study.set_user_attr(_TRIALS, config.trials)
    for number in range(len(trials), config.trials):
        study.add_trial(
            create_trial(
                state=TrialState.WAITING,
                params=asdict(config.settings(number)),
                distributions=distributions(config.space),
            )
        )


def _is_setting(trial: FrozenTrial, settings: Settings) -> bool:
    expected = asdict(settings)
    return trial.params.keys() == expected.keys() and all(
        math.isclose(trial.params[name], value, rel_tol=1e-12)  # another machine's exp may differ in the last digit
        for name, value in expected.items()
    )
