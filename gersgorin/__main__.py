"""`python -m gersgorin` is `gersgorin-plot`."""

import sys

from rhn.safe_path import leave_current_folder

leave_current_folder()

from gersgorin.cli import main  # noqa: E402

sys.exit(main())
