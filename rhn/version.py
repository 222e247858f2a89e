"""The version of the toolkit and of its five packages."""

__version__ = "0.9.0"
