"""What a study's figures say of themselves: what they show, and how the trials were made, as far as rows and protocols tell."""

from collections.abc import Sequence

from optim_study.protocol import StudyConfig
from optim_study.results import Row
from rhn.cells.registry import with_depth
from rhn.training.curves import Objective


def study_title(rows: Sequence[Row], shows: str) -> str:
    """One line: what was searched, and what the figure shows of it.

    >>> study_title([], "the losses")
    'Random search, 0 trials of 0 networks: the losses'
    """
    networks = len({(row.arch, row.depth) for row in rows})
    return f"Random search, {_count(len(rows), 'trial')} of {_count(networks, 'network')}: {shows}"


def study_about(rows: Sequence[Row], told: str = "") -> str:
    """Sizes and lengths that the rows tell, and what else is told of them."""
    units, epochs = [row.hidden_size for row in rows], max((row.epochs for row in rows), default=0)
    return "; ".join(
        filter(None, (f"{_range(units)} units", f"at most {_count(epochs, 'epoch')}", _starts(rows), told))
    )


def trial_words(row: Row, loss: Objective) -> str:
    """One trial in a tooltip: what it was, its loss and its settings."""
    ended = ", diverged" if row.diverged else ""
    bias = "" if row.transform_bias is None else f", transform bias {row.transform_bias:g}"
    return (
        f"{with_depth(row.arch, row.depth)}, trial {row.trial}: loss {row.loss(loss):.4g}, {_count(row.epochs, 'epoch')}{ended}\n"
        f"learning rate {row.learning_rate:.3g}{bias}\n{row.init_scheme}, standard deviation {row.init_std:.3g}"
    )


def protocol_words(configs: Sequence[StudyConfig]) -> str:
    """What all these studies share of settings, budget, seed and data."""
    told = [_protocol(config) for config in configs]
    return "; ".join(words for words in told[0] if all(words in other for other in told)) if told else ""


def _protocol(config: StudyConfig) -> list[str]:
    spans = (("learning rate", config.learning_rate), ("standard deviation", config.init_std))
    ranges = [f"{name} {low:g} to {high:g}" for name, (low, high) in spans]
    budget = f"{config.budget_scale:g} times the paper's parameters"
    return [*ranges, budget, f"seed {config.seed}", f"chorales {config.data[:12]}"]


def _starts(rows: Sequence[Row]) -> str:
    schemes = list(dict.fromkeys(row.init_scheme for row in rows))
    biases = [row.transform_bias for row in rows if row.transform_bias is not None]
    gates = f", transform bias {_range(biases)}" if biases else ""
    return f"{', '.join(schemes)} starts{gates}" if rows else ""


def _range(values: Sequence[float]) -> str:
    ends = [f"{value + 0.0:g}" for value in sorted({min(values, default=0), max(values, default=0)})]
    return " to ".join(ends)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
