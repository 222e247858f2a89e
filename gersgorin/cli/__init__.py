"""The command line `gersgorin`, and its entry points."""

import sys

from rhn.cli.entry import enter


def gersgorin() -> int:
    """Run the command `gersgorin`; return its exit code."""
    return enter("gersgorin.cli.commands")


def gersgorin_plot() -> int:
    """Run the command `gersgorin-plot`, which is `gersgorin plot`; return its exit code."""
    sys.argv.insert(1, "plot")
    return enter("gersgorin.cli.commands")
