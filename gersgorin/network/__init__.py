"""From networks and data to runs: build or load a network, find its recurrent cell, read data."""
