"""A small problem and small networks for the tests of the plateau."""

import torch

from rhn.models import PolyphonicModel


def frames(T=12, B=6, m=5, seed=0):
    """Chains of coins whose next frame depends on the last two, so that there is something to
    learn.
    """
    g = torch.Generator().manual_seed(seed)
    x = [(torch.rand(B, m, generator=g) < 0.4).double() for _ in range(2)]
    for _ in range(T - 2):
        p = 0.1 + 0.5 * x[-1].roll(1, -1) + 0.3 * x[-2]
        x.append((torch.rand(B, m, generator=g) < p).double())
    return torch.stack(x)


def network(cell, depth=1, init="gaussian:1e-3", n=12, **options):
    generator = torch.Generator().manual_seed(1)
    sizes = {"hidden_size": n, "depth": depth, "input_size": 5, "output_size": 5}
    return PolyphonicModel(cell, **sizes, init=init, generator=generator, **options)
