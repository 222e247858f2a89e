"""Section 5: coupling c = 1 - t prevents an unbounded growth of states.

    python -m paper.coupling

A coupled state lies between the state before it and the candidate, so its entries stay within 1.
Here random RHNs of depth 4 with 32 units run for 200 steps, coupled and not. Weights are Gaussian
with three standard deviations. Biases are 0, but -2 for transform gates (and 2 for carry gates).
Each of 88 inputs is 1 with probability 0.05. Values are medians and quartiles over 20 seeds.
"""

import torch

from paper.values import Value, median_and_quartiles, print_rows
from rhn.cells import RHN

KEYS, UNITS, DEPTH, STEPS = 88, 32, 4, 200
SHARE = 0.05  # of inputs that are 1
SEEDS = 20
DEVIATIONS = {"small": 0.1, "middle": 0.5, "large": 1.0}
KINDS = {"coupled": True, "uncoupled": False}


@torch.no_grad()
def largest_state(deviation: float, coupled: bool, seed: int) -> float:
    """Return the largest modulus of an entry of a state along a random sequence."""
    generator = torch.Generator().manual_seed(seed)
    how: dict = {"dtype": torch.float64, "generator": generator}
    cell = RHN(KEYS, UNITS, DEPTH, coupled=coupled, init=f"gaussian:{deviation}", **how)
    x = (torch.rand(STEPS, 1, KEYS, **how) < SHARE).double()
    states = cell.states(x, x.new_zeros(1, UNITS))
    return states.abs().max().item()


def rows() -> dict[str, Value]:
    """Return the largest state of each kind of network, by its name and that of the deviation."""
    return {
        f"state_{kind}_{name}": median_and_quartiles(
            [largest_state(deviation, coupled, seed) for seed in range(SEEDS)]
        )
        for name, deviation in DEVIATIONS.items()
        for kind, coupled in KINDS.items()
    }


def main() -> None:
    """Print the rows."""
    print_rows(rows())


if __name__ == "__main__":
    main()
