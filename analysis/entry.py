"""Where `rhn-analyze` begins."""

from rhn.entry import enter


def analyze() -> int:
    """`rhn-analyze`."""
    return enter("analysis.cli")
