"""Entry point of `rhn-analyze`."""

from rhn.cli.entry import enter


def analyze() -> int:
    """`rhn-analyze`."""
    return enter("analysis.cli")
