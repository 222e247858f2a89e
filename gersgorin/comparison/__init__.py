"""Comparisons of networks: variants, medians over many runs, and figures side by side."""
