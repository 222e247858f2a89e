"""The version of the toolkit, all four packages of it."""

__version__ = "0.4.0"
