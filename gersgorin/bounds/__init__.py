"""Bounds with rounding counted in, always outwards: theorems about the matrices given."""
