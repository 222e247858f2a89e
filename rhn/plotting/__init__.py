"""Figures of trainings, and what the figures of all packages share."""
