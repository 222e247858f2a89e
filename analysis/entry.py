"""Entry point of `rhn-analyze`."""

from rhn.cli.entry import enter


def analyze() -> int:
    """Run `rhn-analyze`."""
    return enter("analysis.cli")
