"""`python -m analysis` is `rhn-analyze`."""

import sys

from analysis.cli import main

sys.exit(main())
