"""Entry point of `rhn-analyze`."""

from functools import partial

from rhn.cli.entry import enter

analyze = partial(enter, "analysis.cli")
"""Run `rhn-analyze`, and return its exit code."""
