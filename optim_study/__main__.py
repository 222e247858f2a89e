"""`python -m optim_study` is `optim-study`."""

import sys

from rhn.safe_path import leave_current_folder

leave_current_folder()

from rhn.entry import enter  # noqa: E402

if __name__ == "__main__":  # a spawned worker imports this module too
    sys.exit(enter("optim_study.cli"))
