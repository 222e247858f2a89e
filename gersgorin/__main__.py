"""`python -m gersgorin` is `gersgorin-plot`."""

import sys

from gersgorin.cli import main

sys.exit(main())
