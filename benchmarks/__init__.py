"""Ratios against what a user would otherwise pick, in interleaved pairs: `make bench`."""
