"""Run `optim-study` as `python -m optim_study`."""

import sys

from rhn.cli.safe_path import leave_current_folder

leave_current_folder()

from rhn.cli.entry import enter  # noqa: E402

if __name__ == "__main__":  # a spawned worker imports this module too
    sys.exit(enter("optim_study.cli"))
