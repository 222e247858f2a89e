"""Helpers of all packages: files, validation, options of dataclasses, progress, results."""
