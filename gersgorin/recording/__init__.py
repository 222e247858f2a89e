"""Measurements during a training: the recorder and its result."""
