"""Entry point of the command."""

from rhn.cli.entry import enter


def trainability() -> int:
    """`trainability`."""
    return enter("trainability.cli")
