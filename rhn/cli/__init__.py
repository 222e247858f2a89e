"""The command line `rhn`, and the parts that the commands of all packages share."""
