"""A network as a step, the run of the network along a sequence, and products with its Jacobians."""
