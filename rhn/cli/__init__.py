"""The command line `rhn`: a file a subcommand, and what the commands of all packages share."""
