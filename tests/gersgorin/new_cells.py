"""The cells that commands build from their options."""

import torch

import rhn


def new_cell(name: str, units: int, depth: int = 1, *, seed: int = 0, **options):
    """A cell for chorales in float64, with the initial weights of a seed."""
    generator = torch.Generator().manual_seed(seed)
    how = {"generator": generator, "dtype": torch.float64, **options}
    return rhn.make_cell(name, 88, units, depth, **how)
