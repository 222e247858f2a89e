"""The command line `gersgorin`: one file for each kind of subcommand, and code that they share."""
