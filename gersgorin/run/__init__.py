"""A network as a step, a run of it along a sequence, and products with its Jacobians."""
