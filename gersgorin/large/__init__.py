"""States too large for whole Jacobians: a few leading eigenvalues, discs, norms and products by products with vectors alone."""
