"""Section 4: larger matrices need smaller standard deviations to avoid exploding gradients.

    python -m paper.deviations

The matrices are Gaussian: the Jacobian of an RNN with tanh at a state and an input of 0. Measured
are the largest modulus in the row discs and the spectral radius at a standard deviation of 0.05,
and the deviations at which they are 1: both are proportional to the deviation. Values are medians
and quartiles over 10 seeds.
"""

import torch

from gersgorin import eigenvalues, gersgorin_discs
from paper.values import Value, median_and_quartiles, print_rows

SIZES = (16, 64, 256)
DEVIATION, SEEDS = 0.05, 10


def moduli(n: int, seed: int) -> tuple[float, float]:
    """Return the largest modulus in the row discs, and the spectral radius, of a matrix (n, n)."""
    generator = torch.Generator().manual_seed(seed)
    A = DEVIATION * torch.randn(n, n, dtype=torch.float64, generator=generator)
    discs = gersgorin_discs(A)
    farthest = (discs.centers.abs() + discs.radii).max().item()
    return farthest, eigenvalues(A).abs().max().item()


def rows() -> dict[str, Value]:
    """Return the moduli, and the deviations at which they are 1, by the size of the matrix."""
    found = dict[str, Value]()
    for n in SIZES:
        discs, radii = zip(*(moduli(n, seed) for seed in range(SEEDS)), strict=True)
        found |= {
            f"discs_{n}": median_and_quartiles(discs),
            f"radius_{n}": median_and_quartiles(radii),
            f"discs_reach_1_{n}": median_and_quartiles([DEVIATION / value for value in discs]),
            f"radius_reaches_1_{n}": median_and_quartiles([DEVIATION / value for value in radii]),
        }
    return found


def main() -> None:
    """Print the rows."""
    print_rows(rows())


if __name__ == "__main__":
    main()
