"""The data that a network reads: files, and the axes of sequences and time steps."""
