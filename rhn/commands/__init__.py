"""The subcommands of `rhn`, a file a subject."""
