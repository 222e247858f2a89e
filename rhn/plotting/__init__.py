"""Figures of training runs, and functions that the figures of all packages share."""
