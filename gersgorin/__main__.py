"""`python -m gersgorin` is `gersgorin`."""

import sys

from rhn.cli.safe_path import leave_current_folder

leave_current_folder()

from rhn.cli.entry import enter  # noqa: E402

sys.exit(enter("gersgorin.cli.main"))
