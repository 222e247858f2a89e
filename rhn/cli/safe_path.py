"""Keep `python -m` from importing files of the current folder, such as a torch.py; the installed
commands never do.
"""

import os
import sys


def leave_current_folder() -> None:
    """Remove the current folder from the head of the import path, unless this package lies in it.
    Call it before other imports.
    """
    here = os.getcwd()  # noqa: PTH109 - pathlib must not be imported yet
    if sys.path[0] == here and not __file__.startswith(here + os.sep):
        del sys.path[0]
