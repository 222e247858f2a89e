"""Predict the border of the learnable area: the learning rate at which a network leaves the plateau in its last epoch.

    escape(learning rate) = epochs

The time to escape comes from `gersgorin.plateau`. A border costs minutes, so it is saved as a table with one line for each point.
"""

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np

from optim_study.protocol import OF_ONE_SIZE, Settings, StudyConfig
from rhn.errors import DataError, InvalidInputError
from rhn.utils.io import atomic_path

POINTS = 9  # most standard deviations of a line
PROBES, FRAMES = 64, 16  # of chorales for the plateau: many and short, because a few are too easy to tell apart
EXACT = 0.05  # relative error of the time at a border
TRIES = 12
Escape = Callable[[float], float]
"""From a learning rate to the epochs until a network leaves the plateau, or infinity."""


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
    """None if no learning rate of the study's range leaves in time; the lowest of the range if all do."""


def border_rate(escape: Escape, epochs: int, low: float, high: float) -> float | None:
    """The learning rate between low and high with escape(rate) = epochs; `low` if all leave sooner, None if none does.

    The time is about proportional to 1 / rate. The search begins in the middle, or at a rate with a finite time: far below the border
    the plateau is too long to compute, far above it training may not settle.

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
    """The border of one study, a line for each of its schemes and, for gated cells, the least and the greatest transform bias.

    A line goes from the largest standard deviation down to the last one with a learning rate that leaves in time.

    escape_of: from a model and the study to its escape time, such as `predicted_escape`.
    report: called with (lines done, lines in all).
    """
    from optim_study.backend import build_models, hidden_size
    from rhn.cells import accepts, resolve_cell

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


def predicted_escape(model, config: StudyConfig) -> Escape:
    """The time that a study's model stays on its plateau on the rebuilt chorales. Raises InvalidInputError for other data."""
    import torch

    import gersgorin
    from optim_study.backend import load_corpus

    torch.set_num_threads(1)  # the products are too small for several threads
    if config.optimizer != "sgd":
        raise InvalidInputError(
            f"--border is predicted for SGD, and study {config.name} was trained with {config.optimizer}: leave it out"
        )
    corpus = load_corpus(None)
    if corpus.checksum != config.data:
        raise InvalidInputError(
            f"--border is computed on the rebuilt chorales, and study {config.name} is about other data"
        )
    pieces = [piece[:FRAMES].astype(float) for piece in corpus.train[:: len(corpus.train) // PROBES]]
    measured = gersgorin.plateau(model, pieces, "bernoulli")
    batches = -(-len(corpus.train) // config.batch_size)
    return lambda rate: measured.escape(rate, config.momentum) / batches


def write_border(points: Iterable[BorderPoint], path: Path) -> None:
    """Write a table with a header, atomically."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(BorderPoint)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(asdict, points))


def read_border(path: Path) -> list[BorderPoint]:
    """Read a file of `write_border`. Raises DataError for any other file."""
    hints = get_type_hints(BorderPoint)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
        if missing := [name for name in hints if name not in (reader.fieldnames or ())]:
            raise ValueError(f"it lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}")
        return [BorderPoint(**{name: _value(row[name], hint) for name, hint in hints.items()}) for row in rows]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise DataError(f"{path} is no table of a border ({error}): remove it to compute it again") from error


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
