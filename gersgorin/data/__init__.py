"""The data that a network reads: where its sequences and time steps lie."""
