"""`python -m analysis` is `rhn-analyze`."""

import sys

from rhn.safe_path import leave_current_folder

leave_current_folder()

from analysis.cli import main  # noqa: E402

sys.exit(main())
