"""`python -m rhn` is `rhn`."""

import sys

from rhn.cli import main

sys.exit(main())
