"""Build or load a network, find its recurrent cell, read data, and run the network along the
data.
"""
