"""Finished trials as rows of a table: read them from the storage, write and read them as CSV, group
them by network, and describe them for figures. Needs neither torch nor Optuna.
"""

import csv
import io
import logging
import math
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NamedTuple, get_type_hints

from optim_study.protocol import HIGHEST, OF_ONE_SIZE, OptimizerName, Scheme, StudyConfig
from rhn.errors import DataError, InvalidInputError
from rhn.training.state import Objective
from rhn.utils.io import atomic_path, check_file
from rhn.utils.old import check_fields, convert, counted, kinds_of, lacking, rows_table
from rhn.utils.validation import in_short

_logger = logging.getLogger(__name__)
By = Literal["arch", "depth"]

LEFT = 0.98
"""A training run has left its plateau if its loss is below this factor times the loss of the best
constant output.
"""


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """One complete trial, as a row of a table whose columns are the fields. Losses are negative
    log-likelihoods in nats per frame.

    >>> settings = {"learning_rate": 0.1, "init_std": 0.01, "transform_bias": -2.0}
    >>> losses = {"best_train_nll": 9.0, "best_valid_nll": 9.3, "test_nll": 9.4}
    >>> network = {"arch": "rhn", "depth": 2, "hidden_size": 8}
    >>> row = TrialRow(trial=0, epochs=50, diverged=False, **network, **settings, **losses)
    >>> row.loss("train"), row.optimizer
    (9.0, 'sgd')
    """

    arch: str
    """Architecture, with the options of its cell, such as `rhn` or `dts-rnn-skip-last`."""
    depth: int
    trial: int
    optimizer: OptimizerName = "sgd"
    learning_rate: float
    init_scheme: Scheme = "gaussian"
    init_std: float
    """Standard deviation of the initial recurrent weights; 1 / sqrt(hidden_size) for the schemes
    `scaled` and `orthogonal`.
    """
    transform_bias: float | None
    """Initial bias of the transform gates; None for cells without these gates."""
    hidden_size: int
    best_train_nll: float
    """The lowest training loss of all epochs."""
    best_valid_nll: float
    """The lowest validation loss of all epochs, usually not at the epoch of the lowest training
    loss.
    """
    best_epoch: int | None = None
    """The epoch of the best weights, by the objective of the study; 0 for the initial weights."""
    train_nll: float | None = None
    """Training loss of the best weights. `valid_nll` and `test_nll` are the validation and test
    loss of the same weights.
    """
    valid_nll: float | None = None
    test_nll: float
    constant_nll: float | None = None
    """The training loss of the constant predictor on the same data."""
    epochs: int
    """Number of epochs of training."""
    left_epoch: int | None = None
    """The first epoch whose training loss is below `LEFT` times the loss of the
    constant predictor; None if there is no such epoch, or if it is not known.
    """
    diverged: bool
    """True if a loss or a weight overflowed. If so, all losses are from earlier epochs. Without an
    earlier epoch, they are `optim_study.backend.SILENT_NLL`.
    """
    learning_rate_range: str | None = None
    """Lowest and highest learning rate of the study, written as for --learning-rate. The columns
    from this one to `seed` are `PROTOCOL`.
    """
    init_std_range: str | None = None
    transform_biases: str | None = None
    batch_size: int | None = None
    momentum: float | None = None
    """None for optimizers without momentum."""
    max_epochs: int | None = None
    patience: int | None = None
    seed: int | None = None
    fingerprint: str | None = None
    """Hash of the whole protocol of the study. Trials with the same number and fingerprint are
    copies of one trial.
    """

    def __post_init__(self):
        if "transform_bias" in lacking(self.arch):  # drawn for every trial, but not used
            object.__setattr__(self, "transform_bias", None)

    def to_dict(self) -> dict:
        """Return the columns by name; settings that the cell lacks are None."""
        return asdict(self) | dict.fromkeys(set(lacking(self.arch)) - {"depth"})

    @property
    def results(self) -> dict:
        """The numbers of a trial that a storage holds in addition to its settings."""
        return {name: getattr(self, name) for name in RESULTS}

    @property
    def network(self) -> "StudyNetwork":
        return StudyNetwork(self.arch, self.depth, self.optimizer)

    def loss(self, which: Objective) -> float:
        """Return the lowest training or validation loss of all epochs."""
        return self.best_train_nll if which == "train" else self.best_valid_nll


class StudyNetwork(NamedTuple):
    """A network of a study: architecture, depth and optimizer. Its trials differ only in their
    settings.
    """

    arch: str
    depth: int
    optimizer: str = "sgd"

    @property
    def title(self) -> str:
        """Name of the network, such as `rhn, depth 4`, with the optimizer if it is not that of the
        paper.
        """
        depth = "" if "depth" in lacking(self.arch) else f", depth {self.depth}"
        return self.arch + depth + (f", {self.optimizer}" if self.optimizer != "sgd" else "")


TRIAL_COLUMNS = tuple(field.name for field in fields(TrialRow))
_FIRST = TRIAL_COLUMNS.index("learning_rate_range")
PROTOCOL = TRIAL_COLUMNS[_FIRST : TRIAL_COLUMNS.index("fingerprint")]
_ALIKE = ("hidden_size", *(name for name in PROTOCOL if name != "seed"))
"""Columns that are equal in all trials of one network that are put together."""
RESULTS = TRIAL_COLUMNS[TRIAL_COLUMNS.index("hidden_size") : _FIRST]
_SETTINGS = tuple(name for name in TRIAL_COLUMNS if name not in RESULTS)


def protocol_columns(config: StudyConfig) -> dict[str, Any]:
    """Return the protocol of a study as columns of a table: first the ranges, written as options,
    then all further settings of its training runs.
    """
    values = {
        "learning_rate_range": _numbers(config.learning_rate),
        "init_std_range": _numbers(config.init_std),
        "transform_biases": None if config.without_gates else _numbers(config.transform_bias),
        "batch_size": config.batch_size,
        "momentum": config.protocol().get("momentum"),
        "max_epochs": config.epochs,
        "patience": config.patience,
        "seed": config.seed,
    }
    return {name: values[name] for name in PROTOCOL}


def _numbers(values: Iterable[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


def best_row(rows: Iterable[TrialRow], loss: Objective) -> TrialRow:
    """Return the trial with the lowest loss; the first such trial if several losses are equal."""
    return min(rows, key=lambda row: (row.loss(loss), row.trial))


def best_checkpoint(out: Path, study: str) -> Path:
    """Return the file of a study's best model."""
    return out / study / "best.safetensors"


def distinct_trials(rows: Iterable[TrialRow]) -> list[TrialRow]:
    """Return every trial once, because a copy of a study, or a second run of it, adds no evidence.
    A log message states how many copies are left out, and how many of these have other losses than
    the first.

    Two trials are copies if they have the same protocol and number. In a table without fingerprints
    they are copies if their settings are equal. The first of several copies is returned. Raises
    InvalidInputError if a row is not a trial.
    """
    rows, first = list(rows), dict[Hashable, TrialRow]()
    if others := [row for row in rows if not isinstance(row, TrialRow)]:
        raise InvalidInputError(
            f"{in_short(others[0])} is no trial: expected a list of TrialRow, as `read_csv` and "
            "`run(...).rows` give"
        )
    for row in rows:
        first.setdefault(_identity(row), row)
    if repeated := len(rows) - len(first):
        words = (
            f"{counted(repeated, 'repeated trial')} left out, equal to others in all settings, "
            "seed and number"
        )
        other = sum(_losses(row) != _losses(first[_identity(row)]) for row in rows)
        if other:
            words += f"; the losses differ in {other:,}, and the first ones count"
        _logger.warning(words)
    return [*first.values()]


def _identity(row: TrialRow) -> Hashable:
    """Return fingerprint and number of a trial, or its settings if its table has no
    fingerprints.
    """
    if row.fingerprint:
        return row.fingerprint, row.trial
    return tuple(getattr(row, name) for name in ("hidden_size", *_SETTINGS))


def _losses(row: TrialRow) -> tuple[float | None, ...]:
    """Return the losses of a trial, with None for NaN, because NaN is not equal to itself."""
    losses = row.best_train_nll, row.best_valid_nll, row.test_nll
    return tuple(None if math.isnan(loss) else loss for loss in losses)


def by_network(rows: Iterable[TrialRow], by: By = "arch") -> dict[StudyNetwork, list[TrialRow]]:
    """Group rows by network. Optimizers and architectures keep the order in which they appear;
    depths and trials ascend.

    by: "arch" sorts the networks of an optimizer by architecture, then depth; "depth" by depth,
    then architecture.

    Raises InvalidInputError if the trials of a network have different protocols. Only the seed and
    the number of trials may differ.
    """
    rows = list(rows)
    archs, optimizers = (
        list(dict.fromkeys(getattr(row, name) for row in rows)) for name in ("arch", "optimizer")
    )

    def place(row: TrialRow) -> tuple[int, ...]:
        arch = archs.index(row.arch)
        return (
            optimizers.index(row.optimizer),
            *((arch, row.depth) if by == "arch" else (row.depth, arch)),
            row.trial,
        )

    groups = {
        network: list(trials)
        for network, trials in groupby(sorted(rows, key=place), lambda row: row.network)
    }
    for network, trials in groups.items():
        if different := _different(trials):
            raise InvalidInputError(
                f"the trials of {network.title} differ in {different}: draw their studies in "
                "separate figures"
            )
    return groups


def _different(trials: Sequence[TrialRow]) -> str:
    """Describe the differences between the protocols of trials; "" if there are none."""
    found = {name: list(dict.fromkeys(getattr(row, name) for row in trials)) for name in _ALIKE}
    words = [
        f"{name.replace('_', ' ')} ({' and '.join(map(str, values))})"
        for name, values in found.items()
        if len(values) > 1
    ]
    protocols = {(row.seed, row.fingerprint) for row in trials}
    if not words and len(protocols) > len({seed for seed, _ in protocols}):
        return "the objective, the initialisation schemes or the data"  # they have no columns
    return ", ".join(words)


def csv_text(rows: Iterable[TrialRow]) -> str:
    """Return the rows as CSV with a header. Numbers have full precision; `diverged` is True or
    False.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, TRIAL_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.to_dict() for row in rows)
    return text.getvalue()


def write_csv(rows: Iterable[TrialRow], path: str | Path) -> None:
    """Write trials to a CSV file, atomically. Raises OSError if the file cannot be written.

    >>> import tempfile
    >>> settings = {"learning_rate": 0.1, "init_std": 0.01, "transform_bias": -2.0}
    >>> losses = {"best_train_nll": 9.0, "best_valid_nll": 9.3, "test_nll": 9.4}
    >>> network = {"arch": "rhn", "depth": 2, "hidden_size": 8}
    >>> row = TrialRow(trial=0, epochs=50, diverged=False, **network, **settings, **losses)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_csv([row], f"{folder}/trials.csv")
    ...     read_csv(f"{folder}/trials.csv") == [row]
    True
    """
    with atomic_path(path) as temporary:
        temporary.write_text(csv_text(rows), encoding="utf-8")


def read_csv(path: str | Path) -> list[TrialRow]:
    """Read the trials in a CSV file of `write_csv` or `optim-study export`; ignores other columns.

    Raises DataError if the file is missing or is not such a table; the message names the line.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_csv([], f"{folder}/trials.csv")
    ...     read_csv(f"{folder}/trials.csv")
    []
    """
    try:
        check_file(Path(path))
        with Path(path).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in TRIAL_COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(
                    f"{path} is not a table of trials: it lacks the columns {', '.join(missing)}"
                )
            return [_row(values, f"{path}, line {reader.line_num}") for values in reader]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a table of trials: {error}") from error


def stored_row(config: StudyConfig, number: int, values: Mapping[str, Any]) -> TrialRow:
    """Return the row of a complete trial from its parameters and results in a storage. Raises
    DataError for values that no study writes.
    """
    own = {name: value for name, value in values.items() if name != "trial"}
    try:
        if own.get("init_scheme") in OF_ONE_SIZE:
            own["init_std"] = own["hidden_size"] ** -0.5
        row = TrialRow(
            arch=config.label,
            depth=config.depth,
            optimizer=config.optimizer,
            trial=number,
            **own,
            **protocol_columns(config),
            fingerprint=config.fingerprint,
        )
        check_fields(row)
    except (KeyError, TypeError, InvalidInputError) as error:
        raise DataError(
            f"trial {number} of study {config.name} is damaged or was not made by optim-study "
            f"({error}): restore the journal or "
            "database from a copy"
        ) from None
    return row


def _row(values: Mapping[str, str | None], place: str) -> TrialRow:
    """Return the row in a line of a table. place: the file and the line, for messages."""
    parsed: dict = {}
    for name, hint in get_type_hints(TrialRow).items():
        text = (values.get(name) or "").strip()
        empty = not text and NoneType in kinds_of(hint)
        parsed[name] = None if empty else _parsed(name, text, hint, place)
    return TrialRow(**parsed)


def _parsed(name: str, text: str, hint: Any, place: str) -> Any:
    """Return the value of a column. Raises DataError for a wrong type, or a number that no trial
    has.
    """
    try:
        value = convert(text, hint)
    except ValueError as error:
        raise DataError(f"{place}: {name}: {error}") from None
    least, expected = -math.inf, "a finite number"
    if name in HIGHEST:
        least, expected = 0.0, "a finite number above 0"
    if isinstance(value, float) and not least < value < math.inf:
        raise DataError(f"{place}: {name} is {text}, expected {expected}")
    return value


def columns_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Format rows as a table with one column for each of these keys."""
    names = {name: name.replace("_", " ") for name in columns}
    named = [{words: row[name] for name, words in names.items()} for row in rows]
    return rows_table(named, [*names.values()])


def constant_of(rows: Sequence[TrialRow], loss: Objective) -> float | None:
    """Return the training loss of the constant predictor if it is the same in all rows, otherwise
    None. Always returns None if `loss` is not "train".
    """
    constants = {row.constant_nll for row in rows}
    return constants.pop() if loss == "train" and len(constants) == 1 else None


def study_about(rows: Sequence[TrialRow], more: str = "") -> str:
    """Make the second line of a figure: optimizers, hidden sizes, numbers of epochs and initial
    weights of the rows, and `more` about their origin.
    """
    words = [
        ", ".join(dict.fromkeys(row.optimizer for row in rows)),
        f"{range_words([row.hidden_size for row in rows])} units",
        f"at most {counted(max(row.epochs for row in rows), 'epoch')}",
        f"{', '.join(dict.fromkeys(row.init_scheme for row in rows))} initial weights",
        more,
    ]
    return "; ".join(filter(None, words))


def protocol_words(configs: Sequence[StudyConfig]) -> str:
    """Describe the ranges, budget, seed and data that all these studies share."""
    if not configs:
        return ""
    gated = not all(config.without_gates for config in configs)

    def words(config: StudyConfig) -> list[str]:
        deviation = "standard deviation {:g} to {:g}".format(*config.init_std)
        of_one_size = [scheme for scheme in config.init_schemes if scheme in OF_ONE_SIZE]
        if of_one_size:
            deviation += f" (1/sqrt(units) of {' and '.join(of_one_size)} weights)"
        return [
            "learning rate {:g} to {:g}".format(*config.learning_rate),
            deviation,
            f"transform bias {range_words(config.transform_bias)}" if gated else "",
            f"{config.budget_scale:g} times the paper's parameters",
            f"seed {config.seed}",
            f"chorales {config.data[:12]}",
        ]

    of_each = [words(config) for config in configs]
    shared = [word for word in of_each[0] if all(word in each for each in of_each)]
    return "; ".join(filter(None, shared))


def range_words(values: Collection[float]) -> str:
    """Format numbers for a figure: one or two different numbers, or the smallest and the largest.

    >>> range_words([4, 2, 3]), range_words([20, 29, 20]), range_words([-0.0])
    ('2 to 4', '20 and 29', '0')
    """
    every = sorted({value + 0.0 for value in values})
    if len(every) == 1:
        return f"{every[0]:g}"
    between = "and" if len(every) == 2 else "to"
    return f"{every[0]:g} {between} {every[-1]:g}"
