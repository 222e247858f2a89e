"""Trainings that do not learn, rebuilt from public threads, and trainings without a fault."""
