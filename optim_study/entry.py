"""Entry point of `optim-study`."""

from rhn.cli.entry import enter


def study() -> int:
    """Run the command `optim-study`; return its exit code."""
    return enter("optim_study.cli")
