"""Published results: tables 1 to 3 and figure 5(a) of Zilly et al. (2017).

Word models are measured in perplexity, character models in bits a character. WT: the output layer has the embedding's weights.
"""

from typing import NamedTuple

from rhn.data.datasets import TEXT_SETS

PTB_WORDS = TEXT_SETS["ptb"].counts["vocabulary"]


class TableRow(NamedTuple):
    """A row of a table: the paper's name of the model, millions of parameters, validation (where printed) and test, and our preset."""

    model: str
    millions: float
    valid: float | None
    test: float
    preset: str | None = None


class DepthRow(NamedTuple):
    """A depth of figure 5(a): hidden units, and perplexity without and with tied weights."""

    depth: int
    units: int
    valid: float
    test: float
    valid_tied: float
    test_tied: float


TABLES = {
    "ptb": (  # table 1
        TableRow("RNN-LDA + KN-5 + cache (Mikolov & Zweig 2012)", 9, None, 92.0),
        TableRow("Conv. + Highway + LSTM + dropout (Kim et al. 2015)", 19, None, 78.9),
        TableRow("LSTM + dropout (Zaremba et al. 2014)", 66, 82.2, 78.4),
        TableRow("Variational LSTM (Gal 2015)", 66, 77.3, 75.0),
        TableRow("Variational LSTM + WT (Press & Wolf 2016)", 51, 75.8, 73.2, "ptb-variational-lstm-tied"),
        TableRow("Pointer Sentinel-LSTM (Merity et al. 2016)", 21, 72.4, 70.9),
        TableRow("Variational LSTM + WT + augmented loss (Inan et al. 2016)", 51, 71.1, 68.5),
        TableRow("Variational RHN", 32, 71.2, 68.5, "ptb-depth-8"),
        TableRow("Variational RHN + WT", 23, 67.9, 65.4, "ptb-sota"),
        TableRow("Architecture search with base 8 (Zoph & Le 2016)", 32, None, 67.9),
        TableRow("Architecture search with base 8 + WT (Zoph & Le 2016)", 25, None, 64.0),
        TableRow("Architecture search with base 8 + WT, large (Zoph & Le 2016)", 54, None, 62.4),
    ),
    "enwik8": (  # table 2
        TableRow("Grid-LSTM (Kalchbrenner et al. 2015)", 17, None, 1.47),
        TableRow("MI-LSTM (Wu et al. 2016)", 17, None, 1.44),
        TableRow("mLSTM (Krause et al. 2016)", 21, None, 1.42),
        TableRow("LN HyperNetworks (Ha et al. 2016)", 27, None, 1.34),
        TableRow("LN HM-LSTM (Chung et al. 2016)", 35, None, 1.32),
        TableRow("RHN, depth 5", 23, None, 1.31, "enwik8-5x1500"),
        TableRow("RHN, depth 10", 21, None, 1.30, "enwik8-10x1000"),
        TableRow("Large RHN, depth 10", 46, 1.26, 1.27, "enwik8-sota"),
    ),
    "text8": (  # table 3
        TableRow("MI-LSTM (Wu et al. 2016)", 17, None, 1.44),
        TableRow("mLSTM (Krause et al. 2016)", 10, None, 1.40),
        TableRow("BN LSTM (Cooijmans et al. 2016)", 16, None, 1.36),
        TableRow("HM-LSTM (Chung et al. 2016)", 35, None, 1.32),
        TableRow("LN HM-LSTM (Chung et al. 2016)", 35, None, 1.29),
        TableRow("RHN, depth 10", 20, None, 1.29, "text8-10x1000"),
        TableRow("Large RHN, depth 10", 45, 1.19, 1.27, "text8-sota"),
    ),
}
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
    return (by_depth | {row.preset: row.test for rows in TABLES.values() for row in rows}).get(preset)
