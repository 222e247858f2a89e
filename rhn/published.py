"""Published results of our presets: tables 1 to 3 and figure 5(a) of Zilly et al. (2017).

Word models are measured in perplexity, character models in bits a character.
"""

from typing import NamedTuple

from rhn.data.datasets import TEXT_SETS

PTB_WORDS = TEXT_SETS["ptb"].counts["vocabulary"]


class TableRow(NamedTuple):
    """A network of the tables that we have a preset of: the preset, millions of parameters, and the test result."""

    preset: str
    millions: float
    test: float


class DepthRow(NamedTuple):
    """A depth of figure 5(a): hidden units, and perplexity without and with tied weights."""

    depth: int
    units: int
    valid: float
    test: float
    valid_tied: float
    test_tied: float


TABLES = (
    TableRow("ptb-variational-lstm-tied", 51, 73.2),  # table 1, Penn Treebank
    TableRow("ptb-depth-8", 32, 68.5),
    TableRow("ptb-sota", 23, 65.4),
    TableRow("enwik8-5x1500", 23, 1.31),  # table 2
    TableRow("enwik8-10x1000", 21, 1.30),
    TableRow("enwik8-sota", 46, 1.27),
    TableRow("text8-10x1000", 20, 1.29),  # table 3
    TableRow("text8-sota", 45, 1.27),
)
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


def published_test(preset: str) -> float | None:
    """The test result that the paper prints for the network of a preset, or None.

    >>> published_test("ptb-sota"), published_test("ptb-depth-1-tied"), published_test("jsb-depth-1")
    (65.4, 90.6, None)
    """
    by_depth = {f"ptb-depth-{row.depth}": row.test for row in PTB_BY_DEPTH}
    by_depth |= {f"ptb-depth-{row.depth}-tied": row.test_tied for row in PTB_BY_DEPTH}
    return (by_depth | {row.preset: row.test for row in TABLES}).get(preset)
