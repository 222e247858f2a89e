"""Where the three commands begin."""

from rhn.entry import enter


def plot() -> int:
    """`gersgorin-plot`."""
    return enter("gersgorin.cli")


def check() -> int:
    """`gersgorin-check`."""
    return enter("gersgorin.check_cli")


def report() -> int:
    """`gersgorin-report`."""
    return enter("gersgorin.report_cli")
