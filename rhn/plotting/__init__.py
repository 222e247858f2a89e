"""Figures of training runs, and what the figures of all packages share."""
