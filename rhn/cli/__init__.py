"""The command line `rhn`, with one file for each subcommand, and the parts that the commands of all
packages share.
"""
