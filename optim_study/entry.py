"""Entry point of `optim-study`."""

from rhn.cli.entry import enter


def study() -> int:
    """Run `optim-study`."""
    return enter("optim_study.cli")
