"""All states at once by Newton's method against the loops that a user would take."""

import torch

from benchmarks.registry import benchmark
from rhn.cells import make_cell, to_torch

for n, T in ((2, 16384), (8, 4096)):

    @benchmark(
        f"states of a GRU n={n} T={T} B=1 by Newton's method (kernel='newton')",
        "nn.GRU, and our kernel in a loop",
        1.0,
        pairs=3,
    )
    def _(device, n=n, T=T):
        loop = make_cell("gru", 4, n, init="scaled", generator=torch.Generator().manual_seed(0))
        ours = make_cell("gru", 4, n, kernel="newton")
        ours.load_state_dict(loop.state_dict())
        theirs, x = to_torch(loop), torch.randn(T, 1, 4)
        return tuple(torch.no_grad()(lambda f=f: f(x)) for f in (ours, theirs, loop))
