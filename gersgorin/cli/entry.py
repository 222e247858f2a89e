"""Entry points of the commands."""

from rhn.cli.entry import enter


def main() -> int:
    """`gersgorin`."""
    return enter("gersgorin.cli.main")


def plot() -> int:
    """`gersgorin-plot`."""
    return enter("gersgorin.cli.plot")


def check() -> int:
    """`gersgorin-check`."""
    return enter("gersgorin.cli.check")
