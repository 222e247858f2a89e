"""Ratios against what a user would otherwise pick, measured in interleaved pairs within one run:
`make bench`.
"""
