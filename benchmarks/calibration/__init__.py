"""What `gersgorin-check` says of a network's chances: made from the small study, and judged by networks that it was not made from."""
