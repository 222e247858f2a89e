"""Entry points of the commands."""

from rhn.cli.entry import enter


def main() -> int:
    """`gersgorin`."""
    return enter("gersgorin.cli.main")


def main_of_plot() -> int:
    """`gersgorin-plot`."""
    return enter("gersgorin.cli.analysis")


def main_of_check() -> int:
    """`gersgorin-check`."""
    return enter("gersgorin.cli.check")
