"""`python -m optim_study` is `optim-study`."""

import sys

from optim_study.cli import main

if __name__ == "__main__":  # a spawned worker imports this module too
    sys.exit(main())
