"""Functions that all packages share: files, validation, options of dataclasses, progress,
results.
"""
