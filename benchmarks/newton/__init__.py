"""How many iterations Newton's method takes, what forecasts them, and what they cost: see `python -m benchmarks.newton --help`."""
