"""The studies of the small preset that a comparison stands on, one a cell, read from the folders of `optim-study run`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from optim_study.backend import left_epoch
from optim_study.cli_results import Stored
from optim_study.presets import small
from optim_study.protocol import StudyConfig, require_same_protocol
from optim_study.results import Row, stored_rows
from optim_study.study import StudyFolder
from rhn.cells import CELLS
from rhn.errors import DataError
from rhn.utils.binomial import exact_interval


@dataclass(frozen=True)
class Study:
    """One cell's study: its trials, all complete."""

    config: StudyConfig
    rows: list[Row]

    @property
    def best(self) -> Row:
        """The trial with the least training loss."""
        return min(self.rows, key=lambda row: (row.best_train_nll, row.trial))

    @property
    def left(self) -> int:
        """How many settings left the plateau: their training loss came 2 % below that of the best constant output."""
        return sum(row.left_epoch is not None for row in self.rows)

    @property
    def share(self) -> tuple[float, float, float]:
        """Share of the settings that left the plateau, and its exact interval of 95 %."""
        return self.left / len(self.rows), *exact_interval(self.left, len(self.rows))


def configs(data: str) -> dict[str, StudyConfig]:
    """What the study of each cell of the registry is today, at recurrence depth 1; `data` is the checksum of the chorales."""
    return {config.arch: config for config in small(arch=tuple(CELLS), depth=(1,)).studies(data)}


def find_studies(folders: Sequence[Path], data: str) -> dict[str, Study]:
    """Cell -> its study, from the first folder that holds it whole.

    Raises InvalidInputError for a study of another protocol, DataError where a cell has none.
    """
    wanted, found = configs(data), {}
    for folder in folders:
        for config, storage in Stored(out=folder).studies():
            today = wanted.get(config.arch)
            if today is None or config.name != today.name or config.arch in found:
                continue
            require_same_protocol(today, config.protocol())
            rows = stored_rows([config], storage)
            if len(rows) == today.trials:
                kept = StudyFolder(folder / config.name, config.fingerprint)
                found[config.arch] = Study(today, [_with_left_epoch(row, kept) for row in rows])
    if missing := [cell for cell in wanted if cell not in found]:
        raise DataError(
            f"no whole study of {', '.join(missing)} in {', '.join(map(str, folders))}: "
            f"run optim-study run --preset small --depth 1 --arch {' '.join(missing)} --out {folders[0]}"
        )
    return {cell: found[cell] for cell in wanted}


def _with_left_epoch(row: Row, kept: StudyFolder) -> Row:
    """The row with the epoch at which it left the plateau, from its curve: older studies did not tell it."""
    record = kept.load_record(row.trial)
    if record is None:
        raise DataError(f"{kept.folder} lacks the curve of trial {row.trial}: run the study again")
    return replace(row, left_epoch=left_epoch(record.curve, record.outcome.constant_nll))
