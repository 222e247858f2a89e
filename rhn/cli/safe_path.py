"""Run a command by `python -m` without importing files of the current folder, as a torch.py."""

import os
import sys


def run_module(module: str) -> None:
    """Run the command of a module and end the process. Call this function before other imports."""
    here = os.getcwd()  # noqa: PTH109 - pathlib must not be imported yet
    if sys.path[0] == here and not __file__.startswith(here + os.sep):
        del sys.path[0]

    from rhn.cli.entry import enter

    sys.exit(enter(module))
