"""How far `gersgorin.bounds` can be below the truth, as docs/guides/bounds.md reports it: `python -m benchmarks.bounds_in_digits`.

60 tanh networks, each over one run, against the product of the Jacobians of the same run in 60 digits. Ten seconds of one idle core.
"""

import mpmath
import numpy as np
import torch

from benchmarks.__main__ import environment
from gersgorin import bounds
from rhn.cells import RNN

NETWORKS = 60
HEAD = ("dtype", "derivative", "bound below the truth", "by at most (nats)", "log norm off by at most (nats)", "zero")
mp = mpmath.mp.clone()
mp.dps = 60


def main() -> None:
    """Print the table."""
    print(f"| {' | '.join(HEAD)} |\n|{' --- |' * len(HEAD)}")
    for dtype in (torch.float64, torch.float32):
        networks = [network(seed, dtype) for seed in range(NETWORKS)]
        exact = np.array([exact_log_norm(cell, x) for cell, x in networks])
        for name, bounded in (("closed form", bounds), ("torch's", without_closed_form)):
            found = [bounded(cell, x) for cell, x in networks]
            below = exact - [each.best[-1, -1] for each in found]
            off = np.abs(exact - [each.log_norm[-1] for each in found])
            zero = np.isinf(off)
            numbers = (
                f"{(below > 0).sum()} of {NETWORKS}",
                f"{max(0, below.max()):.2g}",
                f"{off[~zero].max():.2g}",
                zero.sum(),
            )
            print(f"| {' | '.join(map(str, (f'{dtype}'.removeprefix('torch.'), name, *numbers)))} |")
    print(f"\n{environment('cpu')}")


def network(seed: int, dtype: torch.dtype) -> tuple[RNN, torch.Tensor]:
    """A network of 4 to 8 units and its inputs over 8 to 28 steps; the weights grow from 0.5 to 30 / sqrt(fan_in)."""
    generator = torch.Generator().manual_seed(seed)
    scale = 0.5 * 60 ** (seed / (NETWORKS - 1))
    cell = RNN(3, 4 + seed % 5, init=f"scaled:{scale}", generator=generator, dtype=dtype)
    return cell, torch.randn(8 + 4 * (seed % 6), 3, generator=generator, dtype=torch.float64).to(dtype)


def without_closed_form(cell: RNN, x: torch.Tensor):
    """The bounds with Jacobians by autograd, as of a user's own step; torch's derivative of tanh is 1 - h^2."""
    return bounds(lambda x, s: cell.step(x, s), x, x.new_zeros(cell.state_size))


def exact_log_norm(cell: RNN, x: torch.Tensor) -> float:
    """log ||ds[T]/ds[0]|| from a state of zeros, to 60 digits."""
    W, R, b = (mp.matrix(p.detach().double().reshape(-1, p.shape[-1]).tolist()) for p in cell.parameters())
    s, product = mp.zeros(R.rows, 1), mp.eye(R.rows)
    for row in x.double().tolist():
        z = W * mp.matrix(row) + R * s + b.T
        product = mp.diag([mp.sech(v) ** 2 for v in z]) * R * product
        s = z.apply(mp.tanh)
    return float(mp.log(max(mp.svd_r(product, compute_uv=False))))


if __name__ == "__main__":
    main()
