"""Entry point of `optim-study`."""

from functools import partial

from rhn.cli.entry import enter

study = partial(enter, "optim_study.cli")
"""Run `optim-study`, and return its exit code."""
