"""Analyses of a run, each a result, its function and its table."""
