"""Run `rhn` as `python -m rhn`."""

import sys

from rhn.cli.safe_path import leave_current_folder

leave_current_folder()

from rhn.cli.entry import enter  # noqa: E402

sys.exit(enter("rhn.cli.main"))
