"""Bounds of given matrices and of their products, with all rounding counted in, outwards."""
