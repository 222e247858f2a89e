"""Predicted against observed: the epoch at which each trial of a study leaves the plateau.

Observed: the first epoch whose training loss is below 0.98 of the constant output's. Predicted: from the network as it was before its
training, drawn anew from its seed, on a probe of 32 training chorales; see `gersgorin.analyses.escape`.
"""

import csv
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from gersgorin import plateau
from optim_study.backend import build_models, left_epoch
from optim_study.presets import small
from optim_study.protocol import StudyConfig
from rhn.data import chorales
from rhn.data.corpus import Corpus
from rhn.errors import DataError
from rhn.plotting.figures import BLUE, GREEN, ORANGE
from rhn.training.batches import training_batches
from rhn.utils.io import atomic_path

ARCHITECTURES = {"rhn": BLUE, "dt-rnn": ORANGE, "dts-rnn": GREEN}
PIECES, FRAMES = 32, 16
HORIZON = 2  # predictions are followed for so many times the epochs of the study


@dataclass(frozen=True)
class Prediction:
    """One trial; the field names are the columns."""

    arch: str
    depth: int
    trial: int
    learning_rate: float
    init_std: float
    transform_bias: float
    hidden_size: int
    epochs: int
    observed_epoch: int | None
    """First epoch below 0.98 of the constant output's loss; None: not within `epochs`."""
    predicted_epoch: float
    """Infinity where it does not leave within twice the epochs of the study, or ever."""
    ended: str
    order: float
    rate: float
    """Of the fastest matrix."""


@cache
def corpus() -> Corpus:
    """The chorales of the study."""
    return chorales(progress=False)


@cache
def probe() -> list[np.ndarray]:
    """The beginnings of 32 training chorales, from the shortest to the longest."""
    pieces = sorted(corpus().train, key=len)
    return [np.asarray(piece)[:FRAMES] for piece in pieces[:: len(pieces) // PIECES][:PIECES]]


def studies() -> list[StudyConfig]:
    """The small preset's."""
    return small(arch=("rhn", "dt-rnn", "dts-rnn")).studies(corpus().checksum)


def predict(config: StudyConfig, number: int, file: Path) -> Prediction:
    """One trial, from its file in the study's folder; raises DataError for a file of another study."""
    stored, settings = json.loads(file.read_text()), config.settings(number)
    model = build_models(config, {number: settings})[number]
    outcome, curve = stored["outcome"], np.array(stored["curve"], dtype=float)
    if outcome["hidden_size"] != model.hidden_size:
        raise DataError(
            f"{file} has {outcome['hidden_size']} units, expected {model.hidden_size}: it is another preset's study"
        )
    batches = len(training_batches(corpus().train, config.batch_size, device="cpu", dtype=torch.float32))
    record = plateau(model, probe())
    way = record.escape(settings.learning_rate, config.momentum, until=HORIZON * config.epochs * batches)
    return Prediction(
        config.arch,
        config.depth,
        number,
        settings.learning_rate,
        settings.init_std,
        settings.transform_bias,
        model.hidden_size,
        len(curve) - 1,
        left_epoch(curve, outcome["constant_nll"]),
        way.leaves_after / batches,
        way.ended,
        record.order,
        record.rates[record.fastest],
    )


def predict_all(study: Path, table: Path, jobs: int) -> None:
    """Add what is missing to a table of predictions, a row a trial that has ended."""
    known = {(row.arch, row.depth, row.trial) for row in read(table)} if table.exists() else set()
    work = [
        (config, number, file)
        for config in studies()
        for number in range(config.trials)
        if (config.arch, config.depth, number) not in known
        and (file := study / config.name / "trials" / f"{number:04d}.json").exists()
    ]
    with table.open("a", newline="") as file, get_context("spawn").Pool(jobs, initializer=_one_thread) as pool:
        writer = _writer(file)
        if not known:
            writer.writeheader()
        for done, row in enumerate(pool.imap_unordered(_predict, work), 1):
            writer.writerow(_texts(row))
            file.flush()
            if done % 20 == 0:
                print(f"{done} of {len(work)} trials", file=sys.stderr, flush=True)


def write(table: Path, rows: list[Prediction]) -> None:
    """A whole table, in the order of the rows."""
    with atomic_path(table) as temporary, temporary.open("w", newline="") as file:
        writer = _writer(file)
        writer.writeheader()
        writer.writerows(map(_texts, rows))


def read(table: Path) -> list[Prediction]:
    """The rows of a table, in the order of the studies."""
    with table.open(newline="") as file:
        rows = [_row(row) for row in csv.DictReader(file)]
    return sorted(rows, key=lambda row: (list(ARCHITECTURES).index(row.arch), row.depth, row.trial))


def groups(rows: list[Prediction]) -> Iterator[tuple[str, int, list[Prediction]]]:
    """(architecture, depth, trials)."""
    for arch, depth in dict.fromkeys((row.arch, row.depth) for row in rows):
        yield arch, depth, [row for row in rows if (row.arch, row.depth) == (arch, depth)]


def _predict(work: tuple[StudyConfig, int, Path]) -> Prediction:
    return predict(*work)


def _one_thread() -> None:
    torch.set_num_threads(1)


def _row(row: dict[str, str]) -> Prediction:
    whole, words = {"depth", "trial", "hidden_size", "epochs"}, {"arch", "ended"}
    values = {k: v if k in words else int(v) if k in whole else float(v or math.inf) for k, v in row.items()}
    return Prediction(**values | {"observed_epoch": int(row["observed_epoch"]) if row["observed_epoch"] else None})


def _writer(file) -> csv.DictWriter:
    return csv.DictWriter(file, [field.name for field in fields(Prediction)], lineterminator="\n")


def _texts(row: Prediction) -> dict[str, str]:
    return {name: _number(value) for name, value in asdict(row).items()}


def _number(value) -> str:
    """Numbers to four digits, nothing for None and what is not finite."""
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else ""
    return "" if value is None else str(value)
