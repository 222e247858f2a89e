"""Published perplexities by recurrence depth: figure 5(a) of Zilly et al. (2017). Those of tables 1 to 3 are in `rhn.presets`."""

from typing import NamedTuple

from rhn.data.datasets import TEXT_SETS

PTB_WORDS = TEXT_SETS["ptb"].counts["vocabulary"]


class DepthRow(NamedTuple):
    """A depth of figure 5(a): hidden units, and perplexity without and with tied weights."""

    depth: int
    units: int
    valid: float
    test: float
    valid_tied: float
    test_tied: float


PTB_BY_DEPTH = (  # figure 5(a): untied of 32 million parameters each, tied growing from 19 to 23 million
    DepthRow(1, 1275, 92.4, 89.2, 93.2, 90.6),
    DepthRow(2, 1180, 79.0, 76.3, 76.9, 75.1),
    DepthRow(3, 1110, 75.0, 72.6, 72.7, 70.6),
    DepthRow(4, 1050, 73.3, 70.9, 70.8, 68.6),
    DepthRow(5, 1000, 72.0, 69.8, 69.7, 67.7),
    DepthRow(6, 960, 71.9, 69.3, 69.1, 66.6),
    DepthRow(7, 920, 71.7, 68.7, 68.7, 66.4),
    DepthRow(8, 890, 71.2, 68.5, 68.2, 66.1),
    DepthRow(9, 860, 71.3, 68.5, 68.1, 66.0),
    DepthRow(10, 830, 71.3, 68.3, 68.3, 66.0),
)
