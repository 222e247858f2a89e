"""Entry point of the command."""

from rhn.cli.entry import enter


def trainability() -> int:
    """Run the command `trainability`; return its exit code."""
    return enter("trainability.cli")
