"""The command line `gersgorin`."""
