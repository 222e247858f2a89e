"""Trainings of the polyphonic model on the chorales: jsb-depth-L."""

import functools
from collections.abc import Callable

from rhn.chorales.config import ChoraleConfig

PARAMETERS_PER_LAYER = 150_000  # the paper's budgets: 150,000 at depth 1, 900,000 at depth 6


def jsb_depth(depth: int, cell: str = "rhn") -> ChoraleConfig:
    """JSB Chorales with as many units as 150,000 parameters a layer buy, the networks of the paper's optimisation study.

    A cell that has no recurrence depth gets all of them at depth 1.

    >>> jsb_depth(6).hidden_size, jsb_depth(6, "dt-rnn").hidden_size
    (262, 372)
    """
    from rhn.cells import hidden_size_for_budget, learning_rate, resolve_cell
    from rhn.models import accepts

    factory = resolve_cell(cell)
    layers = depth if getattr(factory, "deep", True) else 1
    return ChoraleConfig(
        cell=cell,
        depth=layers,
        hidden_size=hidden_size_for_budget(cell, PARAMETERS_PER_LAYER * depth, layers),
        learning_rate=learning_rate(cell),
        init_std=None if hasattr(factory, "own_init") else 0.05,
        transform_bias=-1.0 if accepts(factory, "transform_bias") else None,
    )


CHORALE_PRESETS: dict[str, Callable[..., ChoraleConfig]] = {
    f"jsb-depth-{depth}": functools.partial(jsb_depth, depth) for depth in range(1, 11)
}
