"""The sections of a report about a file or a folder: a checkpoint, a training run with its curves,
or a study with its trials.
"""

import os
import shlex
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path

from analysis.report.network import (
    ABOUT,
    NamedProgress,
    checkpoint_section,
    network_sections,
    values_table,
    weights_section,
)
from analysis.report.options import ReportOptions
from analysis.report.page import Section, Table, section_of
from gersgorin.cli.load import own_weights_named
from gersgorin.cli.options import DataOptions
from gersgorin.recording import Recording
from optim_study.cli_results import Stored
from optim_study.map_plot import plot_map
from optim_study.protocol import StudyConfig
from optim_study.results import TrialRow, protocol_words
from optim_study.shares import Share, share_rows, training_shares
from optim_study.swarm_plot import plot_swarm
from rhn.cells.registry import TORCH_CELLS
from rhn.checkpoints import BEST, lacks_network
from rhn.data import chorales
from rhn.errors import CheckpointError, DataError, InvalidInputError, RhnError
from rhn.plotting.curves import CURVE_LABELS, Curves, draw_curves, read_curves, require_one_measure
from rhn.presets import load_corpus, starting_point
from rhn.training.chorales import constant_output_nll
from rhn.training.trained import config_file, data_of_config, stored_data
from rhn.utils.shared_options import given_flags
from rhn.utils.wording import counted

MOST_TRIALS = 1000
ON = {"valid": "on validation", "train": "on the training data"}
FEW = 30  # trials of a network: with fewer, the shares are uncertain


def sections_about(options: ReportOptions, progress: NamedProgress) -> list[Section]:
    """Return the sections about a file, or about the folder of a training run or study. Raises
    RhnError for anything else.
    """
    path = options.about
    folder = os.path.isdir(path)  # noqa: PTH112 (Path.is_dir raises for a name too long)
    if options.cell in TORCH_CELLS and not folder and lacks_network(path):
        options = replace(options, module=options.cell, cell=None)
    if options.module is not None:
        sections = [
            weights_section(options.module, path),
            *network_sections(options, path, progress),
        ]
    elif options.storage is not None or (folder and (path / "journal.log").exists()):
        sections = _study(options, progress)
    elif folder and ((path / "metrics.jsonl").is_file() or any(path.glob("seed-*/metrics.jsonl"))):
        sections = _training(options, progress)
    elif not folder or (path / BEST).is_file():
        file = path / BEST if folder else path
        with own_weights_named():
            about = checkpoint_section(file)
        sections = [about, *network_sections(options, file, progress)]
    else:
        raise InvalidInputError(
            f"{path} holds no training (metrics.jsonl), no study (journal.log) and no {BEST}: "
            "expected one of them"
        )
    return sections


def _measured(options: ReportOptions, path: Path, progress: NamedProgress) -> list[Section]:
    """Return the sections of a network. If its data cannot be read, and no option asks for them,
    return one sentence instead.
    """
    try:
        return network_sections(options, path, progress)
    except (DataError, InvalidInputError) as error:
        if given_flags(
            options, ("cell", "lesions", "also", *(f.name for f in fields(DataOptions)))
        ):
            raise
        return [Section(title="The network", text=[f"Not measured: {error}."])]


def _training(options: ReportOptions, progress: NamedProgress) -> list[Section]:
    run = options.about
    curves = read_curves(run)
    # of rhn train --record
    files = sorted(run.glob("record.npz")) + sorted(run.glob("seed-*/record.npz"))
    recordings = [
        (Recording.load(f), f"Recorded during the training: {f.parent.name}") for f in files
    ]
    recorded = [section_of(*each) for each in recordings]
    again = _again(options, recordings[0][0].every if recordings else None)
    try:
        seed = "" if (run / "metrics.jsonl").is_file() else _best(curves).name.rpartition(", ")[2]
        best = run / seed / BEST
        about, measured = checkpoint_section(best), _measured(options, best, progress)
    except CheckpointError as error:  # before the end of the first epoch
        about, measured = Section(title=ABOUT, text=[f"Not measured: {error}."]), []
    about = replace(about, text=[*about.text, again])
    return [
        about,
        _curves(curves, _beside_constant(_best(curves), best, options)),
        *recorded,
        *measured,
    ]


def _again(options: ReportOptions, every: int | None) -> str:
    """Return a sentence with the command that trains the run again. Its paths are relative to the
    current folder, or, if the user named a folder elsewhere by an absolute path, to the folder
    above it.

    every: number of optimiser steps between two measurements of its record.
    """
    run = options.about
    file = config_file(run)
    typed, where = _from_here(file), ""
    if typed is None:
        typed, where = Path(file.parent.name, file.name), f", in the folder of {file.parent.name}"
    words = ["rhn", "train", "--config", str(typed)]
    if file.parent != run:
        words += ["--seed", run.name.removeprefix("seed-")]
    if data := None if where else _own_data(options, file):
        words += ["--data", str(data)]
    if options.cell is not None:
        words += ["--cell", options.cell]
    if every is not None:
        words += ["--record", str(every)]
    return f"Train it again{where}: {shlex.join([*words, '--out', 'runs/again'])}"


def _from_here(path: Path) -> Path | None:
    """Return a path relative to the current folder; None for an absolute path outside it."""
    if not path.is_absolute():
        return path
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else None


def _own_data(options: ReportOptions, config: Path) -> Path | None:
    """Return the path of --data relative to the current folder, if it holds the data of the
    training run; else None.
    """
    if options.data is None:
        return None
    with suppress(RhnError):
        changes = {} if options.cell is None else {"cell": options.cell}
        corpus = load_corpus(starting_point(None, config, changes), options.data)
        if not data_of_config(config).difference(options.data, corpus):
            return _from_here(options.data)
    return None


def _curves(curves: Sequence[Curves], beside: Sequence[tuple[str, str]]) -> Section:
    measure, best = CURVE_LABELS[require_one_measure(curves)], _best(curves)
    text = [
        f"{c.name}: {c.best[1]:.5g} {measure} {ON[c.objective]} at its best, in epoch "
        f"{c.best[0]} of {c.epochs[-1]}."
        for c in curves
    ]
    numbers = [(f"{measure} {ON[best.objective]}", f"{best.best[1]:.4g}"), *beside]
    draw = partial(draw_curves, curves)
    return Section(title="Training", text=text, numbers=numbers, figures=[draw])


def _beside_constant(best: Curves, file: Path, options: ReportOptions) -> list[tuple[str, str]]:
    """Return the training loss on chorales, and that of the constant predictor if the chorales of
    the training run can be read. Returns nothing for texts.
    """
    if best.measure != "nll":
        return []
    own = ("on the training chorales", f"{best.train[best.place]:.4g}")
    with suppress(RhnError):
        stored = stored_data(file)
        path = options.data or stored.path
        corpus = chorales(path)
        stored.require(path, corpus)
        constant = constant_output_nll(corpus)
        return [own, ("constant predictor on the training chorales", f"{constant:.4g}")]
    return [own]


def _best(curves: Sequence[Curves]) -> Curves:
    """Return the curves of the seed with the best loss of the objective."""
    return min(curves, key=lambda c: c.best[1])


def _study(options: ReportOptions, progress: NamedProgress) -> list[Section]:
    found = Stored(out=options.about, storage=options.storage)
    configs, rows = [config for config, _ in found.studies()], found.rows()
    sections = study_sections(configs, rows)
    best = min(
        rows, key=lambda row: (row.loss(configs[0].objective), row.arch, row.depth, row.trial)
    )
    name = next(
        config.name for config in configs if (config.label, config.depth) == (best.arch, best.depth)
    )
    file = options.about / name / BEST
    if not file.is_file():  # it is on the machine that trained it
        return sections
    about = replace(checkpoint_section(file), title=f"The best network: {name}")
    return [*sections, about, *_measured(options, file, progress)]


def study_sections(configs: Sequence[StudyConfig], rows: Sequence[TrialRow]) -> list[Section]:
    """Return the sections about the finished trials of a study. Raises DataError if there are
    none.
    """
    if not rows:
        raise DataError(
            "no trial of this study is finished yet: `optim-study status` shows its progress"
        )
    loss, about = configs[0].objective, protocol_words(configs)
    several = len({row.arch for row in rows}) > 1 and len({row.depth for row in rows}) > 1
    swarms = [
        lambda by=by: plot_swarm(rows, loss=loss, by=by, about=about)
        for by in ("arch", "depth")[: 1 + several]
    ]
    best = [asdict(row) for row in sorted(rows, key=lambda row: row.loss(loss))]
    trials = Table(caption="Best first, in nats per frame", rows=best, most=MOST_TRIALS)
    return [
        _protocol(configs, rows, about),
        _shares(training_shares(rows, loss)),
        Section(title="Swarm", figures=swarms),
        Section(title="Map", figures=[lambda: plot_map(rows, loss=loss, about=about)]),
        Section(title="The trials", tables=[trials]),
    ]


def _protocol(configs: Sequence[StudyConfig], rows: Sequence[TrialRow], about: str) -> Section:
    done = Counter((row.arch, row.depth) for row in rows)
    counts = ", ".join(f"{c.name} {done[c.label, c.depth]} of {c.trials}" for c in configs)
    optimizers = " and ".join(dict.fromkeys(c.optimizer for c in configs))
    search = (
        f"Random search with {optimizers}: {about}; at most "
        f"{counted(configs[0].epochs, 'epoch')} a trial."
    )
    values = {
        c.name: c.protocol() | {"trials": c.trials, "fingerprint": c.fingerprint} for c in configs
    }
    table = values_table(values, "The protocol of every study")
    return Section(title=ABOUT, text=[search, f"Finished trials: {counts}."], tables=[table])


def _shares(found: Sequence[Share]) -> Section:
    text = list[str]()
    if (least := min(s.trials for s in found)) < FEW:
        text.append(f"A network has only {least} trials: the intervals of these shares are wide.")
    caption = "Shares of the trials that trained, with exact 95 % intervals"
    table = Table(caption=caption, rows=share_rows(found))
    numbers = [
        ("finished trials", f"{sum(s.trials for s in found):,}"),
        ("trained", f"{sum(s.below for s in found):,}"),
        ("lowest loss, nats per frame", f"{min(s.best for s in found):.4g}"),
    ]
    return Section(title="How many settings train", numbers=numbers, text=text, tables=[table])
