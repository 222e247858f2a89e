"""Where a network is predicted to learn at all: the learning rate at which leaving the plateau takes as many epochs as there are.

    escape(learning rate) = epochs

`escape` is asked of whoever can tell it for a model. A border is a table, one line a point, that can be kept and read again: finding it
costs minutes.
"""

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np

from optim_study.protocol import OF_ONE_SIZE, Settings, StudyConfig
from rhn.errors import DataError
from rhn.utils.io import MOST_TEXT, atomic_path, require_file

POINTS = 9  # standard deviations of a line, at most
EXACT = 0.05  # relative error of the time at a border
TRIES = 12
Escape = Callable[[float], float]
"""Epochs until a network leaves the plateau, infinite where it never does, at a learning rate."""


@dataclass(frozen=True, kw_only=True)
class BorderPoint:
    """A border's learning rate at one standard deviation."""

    arch: str
    depth: int
    init_scheme: str
    transform_bias: float | None
    """None for cells that have no such gates."""
    init_std: float
    learning_rate: float | None
    """None where no learning rate of the study's range leaves in time; the lowest of the range where all do."""


def border_rate(escape: Escape, epochs: int, low: float, high: float) -> float | None:
    """The learning rate between low and high with escape(rate) = epochs; `low` where all leave sooner, None where none does.

    The time goes about as 1 / rate. The search begins in the middle, or where the time is finite: far below the border it may be too
    long to be found, far above it training may not settle.

    >>> round(border_rate(lambda rate: 2 / rate, 400, 1e-4, 1), 6), border_rate(lambda rate: 2000 / rate, 400, 1e-4, 1)
    (0.005, None)
    """
    rates = np.geomspace(low, high, 5).tolist()
    times = ((rate, escape(rate)) for rate in (rates[k] for k in (2, 3, 4, 1, 0)))
    rate, time = next(((rate, time) for rate, time in times if math.isfinite(time)), (high, math.inf))
    slow, fast = 0.0, math.inf  # the border is between them
    for _ in range(TRIES):
        slow, fast = (max(slow, rate), fast) if time > epochs else (slow, min(fast, rate))
        if abs(time / epochs - 1) <= EXACT or fast / max(slow, low) <= 1 + EXACT:
            break
        guess = min(max(rate * time / epochs, low), high)
        if not slow < guess < fast:
            guess = math.sqrt(slow * fast) if slow and fast < math.inf else guess
        if guess == rate:  # an end of the range
            return rate if time < epochs else None
        known = escape(guess)
        if math.isinf(known) and not (slow and fast < math.inf):
            return guess if guess < high else None
        rate, time = guess, known
    return rate


def border_points(
    config: StudyConfig,
    escape_of: Callable[[object, StudyConfig], Escape],
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[BorderPoint]:
    """The border of one study, for each of its schemes and, where its cell has gates, the least and the greatest transform bias.

    A line goes from the largest standard deviation down, and ends where no learning rate of the range leaves in time any more.

    escape_of: from a model and the study to its escape.
    report: called with the numbers of lines done and of all.
    """
    from optim_study.trainer import build_models, hidden_size
    from rhn.cells import resolve_cell
    from rhn.models import accepts

    gated = accepts(resolve_cell(config.arch), "transform_bias")
    biases = sorted({min(config.transform_bias), max(config.transform_bias)}) if gated else [None]
    units, lines = hidden_size(config), [(scheme, bias) for scheme in config.init_schemes for bias in biases]

    def rate_at(scheme: str, bias: float | None, std: float) -> float | None:
        settings = Settings(learning_rate=1.0, init_std=std, transform_bias=bias or 0.0, init_scheme=scheme)
        (model,) = build_models(config, {0: settings}).values()
        return border_rate(escape_of(model, config), config.epochs, *config.learning_rate)

    points = []
    for k, (scheme, bias) in enumerate(lines):
        found = False
        for std in _deviations(config, scheme, units):
            rate = rate_at(scheme, bias, std)
            where = {"init_scheme": scheme, "transform_bias": bias, "init_std": std, "learning_rate": rate}
            points.append(BorderPoint(arch=config.label, depth=config.depth, **where))
            if found and rate is None:
                break
            found = found or rate is not None
        report(k + 1, len(lines))
    return points


def write_border(points: Iterable[BorderPoint], path: Path) -> None:
    """Writes a table with a header, as a whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(BorderPoint)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, points))


def read_border(path: Path) -> list[BorderPoint]:
    """What `write_border` wrote; raises DataError where the file is no such table."""
    hints = get_type_hints(BorderPoint)
    try:
        with require_file(path, MOST_TEXT).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
        if missing := [name for name in hints if name not in (reader.fieldnames or ())]:
            raise ValueError(f"it lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}")
        return [BorderPoint(**{name: _value(row[name], hint) for name, hint in hints.items()}) for row in rows]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise DataError(f"{path} is no table of a border ({error}): remove it, and it is computed anew") from error


def _deviations(config: StudyConfig, scheme: str, units: int) -> Sequence[float]:
    if scheme in OF_ONE_SIZE:
        return [units**-0.5]
    return np.geomspace(*config.init_std, POINTS)[::-1].tolist()


def _value(text: str, hint):
    kind, *rest = get_args(hint) or (hint,)
    if rest and not text:
        return None
    value = kind(text)
    if kind is float and not math.isfinite(value):
        raise ValueError(f"{text} is not finite")
    return value
