"""Entry points of the commands."""

from rhn.cli.entry import enter


def main() -> int:
    """`gersgorin`."""
    return enter("gersgorin.cli.main")


def main_of_plot() -> int:
    """`gersgorin-plot`."""
    return enter("gersgorin.cli.analysis")
