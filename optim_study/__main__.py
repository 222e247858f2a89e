"""`python -m optim_study` is `optim-study`."""

import sys

from rhn.safe_path import leave_current_folder

leave_current_folder()

from optim_study.cli import main  # noqa: E402

if __name__ == "__main__":  # a spawned worker imports this module too
    sys.exit(main())
