"""Networks and data as runs: build or read a network, find the recurrent cell in it, read data."""
