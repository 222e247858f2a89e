"""Other random numbers in every test: RHN_TEST_SEEDS=N adds N to each seed that a test or the
product gives to torch or NumPy.
"""

import os

import numpy as np
import torch

SHIFT = int(os.environ.get("RHN_TEST_SEEDS", "0"))


def shift() -> None:
    """Replace the functions that take a seed."""
    manual_seed, default_rng = torch.manual_seed, np.random.default_rng

    class Generator(torch.Generator):
        def manual_seed(self, seed: int) -> torch.Generator:
            return super().manual_seed(seed + SHIFT)

    def shifted_rng(seed=None):
        if isinstance(seed, int | np.integer):
            seed = seed + SHIFT
        elif isinstance(seed, list | tuple):
            seed = [*seed, SHIFT]
        return default_rng(seed)

    torch.Generator, np.random.default_rng = Generator, shifted_rng
    torch.manual_seed = torch.random.manual_seed = lambda seed: manual_seed(seed + SHIFT)
