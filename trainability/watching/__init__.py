"""Watch a training loop as it stands: hooks of torch, and the facts that they count."""
