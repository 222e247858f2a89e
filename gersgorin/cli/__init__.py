"""The command line `gersgorin`: a file a subcommand, and what they share."""
