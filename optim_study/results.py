"""Finished trials as rows of a table: write and read them as CSV, and group them by network. Needs
neither torch nor Optuna.
"""

import csv
import io
import logging
import sys
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from optim_study.config import OF_ONE_SIZE, OptimizerName, Scheme, StudyConfig
from rhn.errors import DataError, InvalidInputError, first_line
from rhn.training.state import Objective
from rhn.utils.io import as_path, atomic_path, check_file
from rhn.utils.validation import Count, Natural, Positive, check_values, in_short, unexpected

_logger = logging.getLogger(__name__)

OVERFLOWED = sys.float_info.max
PROTOCOL, SETTING = {"part": "protocol"}, {"part": "setting"}
RESULT, VERSION = {"part": "result"}, {"part": "version"}
"""Metadata of columns: of the study, drawn for a trial, in its outcome, of the programs."""
LEFT = 0.98  # of the constant predictor's loss: below, a trial has left its plateau


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """One complete trial, as a row of a table whose columns are the fields. Losses are in nats per
    frame. docs/guides/study.md explains the columns.

    >>> losses = {"best_train_nll": 9.0, "best_valid_nll": 9.3, "test_nll": 9.4}
    >>> settings = {"learning_rate": 0.1, "init_std": 0.01, "hidden_size": 8}
    >>> row = TrialRow(arch="rnn", depth=1, trial=0, epochs=5, diverged=False, **losses, **settings)
    >>> row.loss("train"), row.optimizer
    (9.0, 'sgd')
    """

    arch: str = field(metadata=PROTOCOL)
    depth: Count = field(metadata=PROTOCOL)
    trial: Natural = field(metadata=SETTING)
    optimizer: OptimizerName = field(default="sgd", metadata=PROTOCOL)
    learning_rate: Positive = field(metadata=SETTING)
    init_scheme: Scheme = field(default="gaussian", metadata=SETTING)
    init_std: Positive = field(metadata=SETTING)
    transform_bias: float | None = field(default=None, metadata=SETTING)
    """None for cells that declare none."""
    hidden_size: Count = field(metadata=RESULT)
    best_train_nll: float = field(metadata=RESULT)
    best_valid_nll: float = field(metadata=RESULT)
    best_epoch: Natural | None = field(default=None, metadata=RESULT)
    train_nll: float | None = field(default=None, metadata=RESULT)
    valid_nll: float | None = field(default=None, metadata=RESULT)
    test_nll: float | None = field(default=None, metadata=RESULT)
    """None if the loss overflows; 0.7.0 wrote `OVERFLOWED`."""
    constant_nll: float | None = field(default=None, metadata=RESULT)
    epochs: Natural = field(metadata=RESULT)
    left_epoch: Natural | None = field(default=None, metadata=RESULT)
    """The first epoch whose training loss is below `LEFT` times `constant_nll`."""
    diverged: bool = field(metadata=RESULT)
    """True if a loss or a weight overflowed. All losses are then from earlier epochs, or without
    one `optim_study.backend.SILENT_NLL`.
    """
    learning_rate_range: str | None = field(default=None, metadata=PROTOCOL)
    init_std_range: str | None = field(default=None, metadata=PROTOCOL)
    transform_biases: str | None = field(default=None, metadata=PROTOCOL)
    init_schemes: str | None = field(default=None, metadata=PROTOCOL)
    objective: Objective | None = field(default=None, metadata=PROTOCOL)
    batch_size: Count | None = field(default=None, metadata=PROTOCOL)
    momentum: float | None = field(default=None, metadata=PROTOCOL)
    max_epochs: Count | None = field(default=None, metadata=PROTOCOL)
    patience: Count | None = field(default=None, metadata=PROTOCOL)
    budget_scale: Positive | None = field(default=None, metadata=PROTOCOL)
    data: str | None = field(default=None, metadata=PROTOCOL)
    seed: Natural | None = field(default=None, metadata=PROTOCOL)
    fingerprint: str | None = field(default=None, metadata=PROTOCOL)
    toolkit_version: str | None = field(default=None, metadata=VERSION)
    """The version that ended the trial; None in records of 0.7.0 and before."""
    torch_version: str | None = field(default=None, metadata=VERSION)

    def __post_init__(self):
        check_values(self)
        if self.test_nll == OVERFLOWED:
            object.__setattr__(self, "test_nll", None)

    @property
    def results(self) -> dict:
        """The numbers of a trial that are not its settings or its protocol."""
        return {name: getattr(self, name) for name in RESULTS}

    def loss(self, which: Objective) -> float:
        """Return the lowest training or validation loss of all epochs. Raises InvalidInputError."""
        if which not in get_args(Objective):
            raise unexpected("loss", which, "train or valid")
        return self.best_train_nll if which == "train" else self.best_valid_nll


def _columns(*parts: dict[str, str]) -> tuple[str, ...]:
    """Return the names of the columns of these parts, in the order of the table."""
    return tuple(f.name for f in fields(TrialRow) if f.metadata in parts)


TRIAL_COLUMNS = tuple(f.name for f in fields(TrialRow))
RESULTS, VERSIONS = _columns(RESULT), _columns(VERSION)
NAMES = ("arch", "depth", "optimizer")
"""The columns whose values are in the name of every network."""
ALIKE = ("hidden_size", *(n for n in _columns(PROTOCOL) if n not in ("seed", "fingerprint")))
"""The columns that are equal in all trials of one network."""
_SETTINGS = ("hidden_size", *_columns(PROTOCOL, SETTING))


def row_of(
    config: StudyConfig,
    number: int,
    settings: Mapping[str, Any],
    results: Mapping[str, Any],
    versions: Mapping[str, Any],
) -> TrialRow:
    """Return the row of a complete trial. Raises DataError for values that no study writes."""
    rates: Any = config.learning_rate  # no longer None
    biases = config.transform_bias if "transform_bias" in settings else ()
    own = {**settings, **results}
    try:
        if own.get("init_scheme") in OF_ONE_SIZE:
            own["init_std"] = own["hidden_size"] ** -0.5
        return TrialRow(
            arch=config.label,
            depth=config.depth,
            trial=number,
            optimizer=config.optimizer,
            **own,
            learning_rate_range=_joined(rates),
            init_std_range=_joined(config.init_std),
            transform_biases=_joined(biases) or None,
            init_schemes=" ".join(config.init_schemes),
            objective=config.objective,
            batch_size=config.batch_size,
            momentum=config.protocol().get("momentum"),
            max_epochs=config.epochs,
            patience=config.patience,
            budget_scale=config.budget_scale,
            data=config.data[:12],
            seed=config.seed,
            fingerprint=config.fingerprint,
            **versions,
        )
    except (KeyError, TypeError, InvalidInputError) as error:
        raise DataError(f"trial {number} of {config.name} is damaged: {error}") from None


def _joined(values: Iterable[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


def distinct_trials(rows: Iterable[TrialRow]) -> list[TrialRow]:
    """Return every trial once: the first with its fingerprint and number or, in a table without
    fingerprints, with its settings. Raises InvalidInputError if there is none.
    """
    rows, first = list(rows), dict[Hashable, TrialRow]()
    for row in rows:
        if not isinstance(row, TrialRow):
            raise InvalidInputError(f"a row is {in_short(row)}: expected a TrialRow")
        settings = values_of(row, _SETTINGS)
        first.setdefault((row.fingerprint, row.trial) if row.fingerprint else settings, row)
    if not first:
        raise InvalidInputError("there are 0 trials: expected one or more")
    if repeated := len(rows) - len(first):
        _logger.warning("repeated trials left out: %d", repeated)
    return [*first.values()]


def by_network(rows: Iterable[TrialRow]) -> dict[str, list[TrialRow]]:
    """Group trials by network, by its name. Trials whose studies differ in anything but the seed
    are of two networks, whose names have what differs. Optimizers and architectures keep the order
    in which they appear; depths and trials ascend.
    """
    rows = list(rows)
    optimizers = list(dict.fromkeys(row.optimizer for row in rows))
    archs = list(dict.fromkeys(row.arch for row in rows))
    rows.sort(key=lambda r: (optimizers.index(r.optimizer), archs.index(r.arch), r.depth, r.trial))
    groups: dict[tuple, list[TrialRow]] = {}
    for row in rows:
        groups.setdefault(values_of(row, ALIKE), []).append(row)
    firsts = [trials[0] for trials in groups.values()]
    named = {}
    for first, trials in zip(firsts, groups.values(), strict=True):
        others = [other for other in firsts if values_of(other, NAMES) == values_of(first, NAMES)]
        named[_name_among(first, others)] = trials
    return named


def _name_among(row: TrialRow, others: Sequence[TrialRow]) -> str:
    """Return the name of the network of a trial, with the columns in which others differ."""
    words = [row.arch, f"depth {row.depth}"]
    if row.optimizer != "sgd":
        words.append(row.optimizer)
    for name in ALIKE:
        if len({getattr(other, name) for other in others}) > 1:
            words.append(f"{name.replace('_', ' ')} {getattr(row, name)}")
    return ", ".join(words)


def values_of(row: TrialRow, columns: Iterable[str]) -> tuple:
    """Return the values of a trial in these columns."""
    return tuple(getattr(row, name) for name in columns)


def constant_of(rows: Iterable[TrialRow], loss: Objective) -> float | None:
    """Return the training loss of the constant predictor if all rows have the same, else None."""
    constants = {row.constant_nll for row in rows}
    return constants.pop() if loss == "train" and len(constants) == 1 else None


def csv_text(rows: Iterable[TrialRow]) -> str:
    """Return the rows as CSV with a header. Numbers have full precision."""
    text = io.StringIO()
    writer = csv.DictWriter(text, TRIAL_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def write_csv(rows: Iterable[TrialRow], path: str | Path) -> None:
    """Write trials to a CSV file, atomically, with full precision. Raises OutputError.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_csv([], f"{folder}/trials.csv")
    ...     read_csv(f"{folder}/trials.csv")
    []
    """
    with atomic_path(path) as temporary:
        temporary.write_text(csv_text(rows), encoding="utf-8")


def read_csv(path: str | Path) -> list[TrialRow]:
    """Read the trials in a table of `write_csv` or `optim-study export`. Raises DataError.

    >>> read_csv("docs/results/small-study.csv")[0].arch  # doctest: +SKIP
    'rhn'
    """
    path = as_path(path)
    try:
        check_file(path)
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = [_row(values, f"{path}, line {reader.line_num}") for values in reader]
            if "arch" not in (reader.fieldnames or ()):
                raise DataError(f"{path} is no table of trials: expected a column arch")
            return rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no table of trials: {first_line(error)}") from error


def _row(values: Mapping[str, str | None], place: str) -> TrialRow:
    """Return the row in a line of a table, at this place for messages."""
    hints = get_type_hints(TrialRow, include_extras=True)
    try:
        given = {name: text for name, text in values.items() if name in hints and text}
        return TrialRow(**{name: _value(text, hints[name]) for name, text in given.items()})
    except (TypeError, ValueError) as error:
        raise DataError(f"{place}: {error}") from None


def _value(text: str, hint: Any) -> Any:
    """Return the value of a column of this type, of a union or Annotated its first."""
    if get_origin(hint) is not Literal and get_args(hint):
        return _value(text, get_args(hint)[0])
    if hint is bool:
        return {"True": True, "False": False}.get(text, text)
    return hint(text) if hint in (int, float) else text
