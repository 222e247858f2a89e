"""From a checkpoint, a training's folder or a study's to the page about it."""

import os
import shlex
from dataclasses import replace
from pathlib import Path

from analysis.report.network import (
    ABOUT,
    Asked,
    Progress,
    checkpoint_section,
    network_sections,
    values_table,
    weights_section,
)
from analysis.report.page import Page, Section
from analysis.report.study import best_study, study_sections
from analysis.report.training import best_seed, training_section
from optim_study.stored import Stored
from rhn.checkpoints import BEST
from rhn.errors import CheckpointError, DataError, InvalidInputError
from rhn.reading import read_json
from rhn.wording import first_line


def page_about(asked: Asked, *, storage: str | None, lesions: bool, made: str, progress: Progress) -> Page:
    """The page about what the user named, `asked.checkpoint`; raises an `RhnError` where it is none of the three."""
    path = asked.checkpoint
    if asked.module is not None:
        about = {
            "title": f"Report: {path.name}",
            "subtitle": f"{asked.module}, with weights from a file.",
            "made": made,
        }
        return Page(sections=[weights_section(asked), *network_sections(asked, lesions, progress)], **about)
    if not os.path.isdir(path) and storage is None:  # noqa: PTH112 (Path.is_dir raises for a name too long)
        about = {"title": f"Report: {path.name}", "subtitle": "A network, from its file of weights.", "made": made}
        return Page(sections=_checkpoint(asked, lesions, progress), **about)
    name = path.resolve().name
    if _is_training(path):
        sections, subtitle = _training(asked, lesions, progress), "A training and its best network."
    elif storage is not None or (path / "journal.log").exists():
        sections, subtitle = _study(asked, storage, lesions, progress), "A study and its best network."
    elif (path / BEST).is_file():
        sections, subtitle = _checkpoint(replace(asked, checkpoint=path / BEST), lesions, progress), "A network."
    else:
        raise InvalidInputError(
            f"{path} holds no training (metrics.jsonl), no study (journal.log) and no {BEST}: expected one of them"
        )
    return Page(title=f"Report: {name}", subtitle=subtitle, sections=sections, made=made)


def _checkpoint(asked: Asked, lesions: bool, progress: Progress) -> list[Section]:
    return [checkpoint_section(asked.checkpoint), *network_sections(asked, lesions, progress)]


def _training(asked: Asked, lesions: bool, progress: Progress) -> list[Section]:
    run = asked.checkpoint
    training = training_section(run)
    try:
        config = read_json(run / "config.json")
    except (OSError, ValueError) as error:
        raise DataError(f"{run / 'config.json'} does not say what was trained ({first_line(error)})") from error
    again = (
        f"Train it again: {shlex.join(['rhn', 'train', '--config', str(run / 'config.json'), '--out', 'runs/again'])}"
    )
    told = values_table({"folder": str(run), "configuration": config}, "As the training's folder says")
    try:
        best = best_seed(run) / BEST
        about = checkpoint_section(best)
        measured = _measured(replace(asked, checkpoint=best), lesions, progress)
    except CheckpointError as error:  # a training that has just begun
        return [Section(title=ABOUT, words=[again], tables=[told]), training, _missing(error)]
    return [replace(about, words=[*about.words, again], tables=[told, *about.tables]), training, *measured]


def _study(asked: Asked, storage: str | None, lesions: bool, progress: Progress) -> list[Section]:
    found = Stored(out=asked.checkpoint, storage=storage)
    configs, rows = [config for config, _ in found.studies()], found.rows()
    sections = study_sections(configs, rows)
    name = best_study(rows, configs).name
    best = asked.checkpoint / name / BEST
    if not best.is_file():  # on the machine that trained it
        return sections
    about, *measured = [checkpoint_section(best), *_measured(replace(asked, checkpoint=best), lesions, progress)]
    return [*sections, replace(about, title=f"The best network: {name}"), *measured]


def _measured(asked: Asked, lesions: bool, progress: Progress) -> list[Section]:
    """The network's sections; a sentence where what it reads is not known or not there, unless the user named it."""
    try:
        return network_sections(asked, lesions, progress)
    except (DataError, InvalidInputError) as error:
        if replace(asked, checkpoint=None) != Asked(checkpoint=None):
            raise
        return [_missing(error)]


def _missing(error: Exception) -> Section:
    return Section(title="The network", words=[f"Not measured: {error}."])


def _is_training(path: Path) -> bool:
    return (path / "metrics.jsonl").is_file() or any(path.glob("seed-*/metrics.jsonl"))
