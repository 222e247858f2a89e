"""Reports about a file or a folder: a checkpoint, a training with its curves, a study with its trials."""

import os
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from analysis.report.network import (
    ABOUT,
    Progress,
    Question,
    checkpoint_section,
    network_sections,
    values_table,
    weights_section,
)
from analysis.report.page import Page, Section, Table, picture, section_of
from gersgorin.options import DataOptions, NetworkOptions
from gersgorin.recording import Recording
from optim_study.cli_results import Stored
from optim_study.map_plot import plot_map
from optim_study.protocol import SharedSettings, StudyConfig
from optim_study.results import Row, by_network, protocol_words
from optim_study.shares import BELOW, summary, training_shares
from optim_study.swarm_plot import draw_swarm
from rhn.cells.registry import with_depth
from rhn.checkpoints import BEST
from rhn.errors import CheckpointError, DataError, InvalidInputError
from rhn.plotting.curves import LABELS, draw_curves
from rhn.plotting.runs import Curves, read_curves, require_one_measure
from rhn.training.state import Objective
from rhn.utils.io import read_json
from rhn.utils.options import flag
from rhn.utils.wording import counted, first_line

BEST_TRIALS = 5  # of each network
SETTINGS = ("optimizer", "learning_rate", "init_scheme", "init_std", "transform_bias")
FEW = 30  # trials of a network: with fewer, the shares are uncertain


def page_about(question: Question, *, storage: str | None, made: str, progress: Progress) -> Page:
    """The page about the checkpoint of a question: a file, or the folder of a training or study. Raises RhnError for anything else."""
    path, module = question.network.checkpoint, question.network.module
    if module is not None:
        sections, about = (
            [weights_section(module, path), *network_sections(question, progress)],
            "A module with its weights.",
        )
    elif not os.path.isdir(path) and storage is None:  # noqa: PTH112 (Path.is_dir raises for a name too long)
        sections, about = _checkpoint(question, progress), "A network, from its file of weights."
    elif _is_training(path):
        sections, about = _training(question, progress), "A training and its best network."
    elif storage is not None or (path / "journal.log").exists():
        sections, about = _study(question, storage, progress), "A study and its best network."
    elif (path / BEST).is_file():
        sections, about = _checkpoint(_of(question, path / BEST), progress), "A network."
    else:
        raise InvalidInputError(
            f"{path} holds no training (metrics.jsonl), no study (journal.log) and no {BEST}: expected one of them"
        )
    return Page(title=f"Report: {path.resolve().name}", subtitle=about, sections=sections, made=made)


def _of(question: Question, path: Path) -> Question:
    return replace(question, network=replace(question.network, checkpoint=path))


def _checkpoint(question: Question, progress: Progress) -> list[Section]:
    return [checkpoint_section(question.network.checkpoint), *network_sections(question, progress)]


def _measured(question: Question, progress: Progress) -> list[Section]:
    """The sections of a network; without options about it, one sentence if its data cannot be read."""
    try:
        return network_sections(question, progress)
    except (DataError, InvalidInputError) as error:
        if question != Question(network=NetworkOptions(checkpoint=question.network.checkpoint), data=DataOptions()):
            raise
        return [_missing(error)]


def _missing(error: Exception) -> Section:
    return Section(title="The network", text=[f"Not measured: {error}."])


def _is_training(path: Path) -> bool:
    return (path / "metrics.jsonl").is_file() or any(path.glob("seed-*/metrics.jsonl"))


def _training(question: Question, progress: Progress) -> list[Section]:
    run = question.network.checkpoint
    curves = read_curves(run)
    try:
        config = read_json(run / "config.json")
    except (OSError, ValueError) as error:
        raise DataError(f"{run / 'config.json'} holds no settings of a training ({first_line(error)})") from error
    again = shlex.join(["rhn", "train", "--config", str(run / "config.json"), "--out", "runs/again"])
    settings = values_table({"folder": str(run), "configuration": config}, "Settings of the training")
    sections = [_curves(curves), *_recorded(run)]
    try:
        best = best_seed(run, curves) / BEST
        about = checkpoint_section(best)
        measured = _measured(_of(question, best), progress)
    except CheckpointError as error:  # before the end of the first epoch
        about, measured = Section(title=ABOUT), [_missing(error)]
    about = replace(about, text=[*about.text, f"Train it again: {again}"], tables=[settings, *about.tables])
    return [about, *sections, *measured]


def _curves(curves: Sequence[Curves]) -> Section:
    measure = LABELS[require_one_measure(curves)]
    text = [
        f"{c.name}: {c.best[1]:.5g} {measure} on validation, its best, at epoch {c.best[0]} of {c.epochs[-1]}."
        for c in curves
    ]
    trained = [float(c.train[list(c.epochs).index(c.best[0])]) for c in curves]
    rows = [[c.name, int(c.epochs[-1]), c.best[0], loss, c.best[1]] for c, loss in zip(curves, trained, strict=True)]
    columns = ["training", "epochs", "best epoch", "training loss", "validation loss"]
    best = min(curves, key=lambda c: c.best[1])
    return Section(
        title="Training",
        verdict=f"Validation: {best.best[1]:.4g} {measure} at epoch {best.best[0]} of {best.epochs[-1]}.",
        text=text,
        pictures=[picture(lambda: draw_curves(curves))],
        tables=[Table(caption=f"The best epoch, in {measure}", columns=columns, rows=rows)],
    )


def _recorded(run: Path) -> list[Section]:
    """One section for each recording of `rhn train --record`."""
    files = sorted(run.glob("record.npz")) + sorted(run.glob("seed-*/record.npz"))
    return [section_of(Recording.load(f), f"Recorded during the training: {f.parent.name}") for f in files]


def best_seed(run: Path, curves: Sequence[Curves]) -> Path:
    """The folder of the seed with the best validation loss; for a training with one seed the folder itself."""
    if (run / "metrics.jsonl").is_file():
        return run
    return run / min(curves, key=lambda c: c.best[1]).name.rpartition(", ")[2]


def _study(question: Question, storage: str | None, progress: Progress) -> list[Section]:
    found = Stored(out=question.network.checkpoint, storage=storage)
    configs, rows = [config for config, _ in found.studies()], found.rows()
    sections = study_sections(configs, rows)
    best = min(rows, key=lambda row: (row.loss(configs[0].objective), row.arch, row.depth, row.trial))
    name = next(config.name for config in configs if (config.label, config.depth) == (best.arch, best.depth))
    file = question.network.checkpoint / name / BEST
    if not file.is_file():  # it is on the machine that trained it
        return sections
    about = replace(checkpoint_section(file), title=f"The best network: {name}")
    return [*sections, about, *_measured(_of(question, file), progress)]


def study_sections(configs: Sequence[StudyConfig], rows: Sequence[Row]) -> list[Section]:
    """The finished trials of a study. Raises DataError if there is none."""
    if not rows:
        raise DataError("no trial of this study is finished yet: `optim-study status` shows its progress")
    loss, about = configs[0].objective, protocol_words(configs)
    several = len({row.arch for row in rows}) > 1 and len({row.depth for row in rows}) > 1
    swarms = [
        picture(lambda by=by: draw_swarm(rows, loss=loss, by=by, about=about))
        for by in ("arch", "depth")[: 1 + several]
    ]
    return [
        _protocol(configs, rows),
        _shares(rows, loss),
        Section(title="Swarm", text=["Point at a trial to see its loss and its settings."], pictures=swarms),
        Section(title="Map", pictures=[picture(lambda: plot_map(rows, loss=loss, about=about))]),
        _best_trials(rows, loss),
    ]


def study_command(configs: Sequence[StudyConfig]) -> str:
    """The command that repeats studies of one protocol in another folder."""
    first, usual, words = configs[0], SharedSettings(), []
    for f in fields(SharedSettings):
        value = getattr(first, f.name)
        if value != getattr(usual, f.name):
            words += [flag(f.name), *map(str, value if isinstance(value, tuple) else (value,))]
    options = [word for name, value in first.options.items() for word in ("--cell-option", f"{name}={value}")]
    archs, depths = (dict.fromkeys(str(getattr(c, name)) for c in configs) for name in ("arch", "depth"))
    return shlex.join(
        ["optim-study", "run", "--arch", *archs, "--depth", *depths, *options, *words, "--out", "runs/again"]
    )


def _protocol(configs: Sequence[StudyConfig], rows: Sequence[Row]) -> Section:
    done = Counter((row.arch, row.depth) for row in rows)
    counts = ", ".join(f"{c.name} {done[c.label, c.depth]} of {c.trials}" for c in configs)
    epochs = counted(configs[0].epochs, "epoch")
    optimizers = " and ".join(dict.fromkeys(c.optimizer for c in configs))
    text = [
        f"Random search with {optimizers}: {protocol_words(configs)}; at most {epochs} a trial.",
        f"Finished trials: {counts}.",
        f"Run it again: {study_command(configs)}",
    ]
    values = {c.name: c.protocol() | {"trials": c.trials, "fingerprint": c.fingerprint} for c in configs}
    return Section(title=ABOUT, text=text, tables=[values_table(values, "The protocol of every study")])


def _shares(rows: Sequence[Row], loss: Objective) -> Section:
    found = training_shares(rows, loss)
    below = f"below {BELOW:g}"
    columns = [
        "network",
        "optimizer",
        "units",
        "trials",
        "diverged",
        "best",
        "median",
        below,
        "share (%)",
        "95 % from",
        "to",
        "p (Holm)",
    ]
    table = [
        [with_depth(s.arch, s.depth), s.optimizer, s.hidden_size, s.trials, s.diverged, s.best, s.median, s.below]
        + [100 * share for share in (s.share, *s.interval)]
        + [s.p_holm]
        for s in found
    ]
    text = summary(found).splitlines()
    if (least := min(s.trials for s in found)) < FEW:
        text.append(f"Only {least} trials of a network: the intervals of these shares are wide.")
    trained, trials = sum(s.below for s in found), sum(s.trials for s in found)
    caption = "Settings that train, with exact intervals; p: Fisher's exact test against the RHN of the depth, by Holm's method"
    return Section(
        title="How many settings train",
        verdict=f"{trained} of {counted(trials, 'trial')} of {counted(len(found), 'network')} train.",
        text=text,
        tables=[Table(caption=caption, columns=columns, rows=table)],
    )


def _best_trials(rows: Sequence[Row], loss: Objective) -> Section:
    table = []
    for network, trials in by_network(rows).items():
        for row in sorted(trials, key=lambda row: (row.loss(loss), row.trial))[:BEST_TRIALS]:
            losses = [row.best_train_nll, row.best_valid_nll, row.test_nll]
            settings = ["" if (value := getattr(row, name)) is None else value for name in SETTINGS]
            table.append([network.title, row.trial, *losses, *settings, row.epochs])
    columns = [
        "network",
        "trial",
        "train",
        "valid",
        "test",
        "optimizer",
        "learning rate",
        "scheme",
        "std",
        "bias",
        "epochs",
    ]
    caption = f"The best {BEST_TRIALS} of each network, losses in nats a frame"
    return Section(title="The best trials", tables=[Table(caption=caption, columns=columns, rows=table)])
