"""Bounds that are theorems about the matrices given: rounding is counted in, and always outwards."""
