"""`python -m` puts the current folder first on the import path, where a `torch.py` would run; the installed commands do not."""

import os
import sys


def leave_current_folder() -> None:
    """Take the current folder from the head of the import path, unless this package lies in it: called before all other imports."""
    try:
        here = os.getcwd()  # noqa: PTH109 - no module may be imported yet that Python has not loaded itself
    except FileNotFoundError:  # the folder was removed: the command says so
        return
    if sys.path[0] == here and not __file__.startswith(here + os.sep):
        del sys.path[0]
