"""Entry points of `rhn-analyze` and `gersgorin-report`."""

from rhn.cli.entry import enter


def analyze() -> int:
    """`rhn-analyze`."""
    return enter("analysis.cli")


def report() -> int:
    """`gersgorin-report`."""
    return enter("analysis.report.cli")
