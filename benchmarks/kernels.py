"""The fused recurrences, forward and backward, against the plain loop and torch.nn.LSTM of equal
parameters.
"""

import torch

from benchmarks.registry import benchmark, on_both
from rhn.cells import GRU, LSTM, RHN, CellMasks

SIZES = (  # n, depth, T, B, m, the promised ratio to the loop
    (20, 4, 60, 32, 88, 5.0),
    # the last and the first one on both sides of each limit of the code in C
    (64, 2, 35, 20, 64, 1.0),
    (65, 2, 35, 20, 65, 1.0),
    (1000, 2, 20, 32, 88, 1.0),
    (1001, 2, 20, 32, 88, 1.0),
    (262, 6, 60, 32, 88, 1.5),
    (215, 1, 60, 32, 88, 1.0),
    (830, 10, 35, 20, 830, 1.2),
)


def training(module, x, **options):
    """Forward and backward of a recurrent module over x, all weight gradients."""

    def run():
        module.zero_grad(set_to_none=True)
        module(x, **options)[0].sum().backward()

    return run


for n, depth, T, B, m, floor in SIZES:
    name, pairs = f"RHN kernel n={n} depth={depth} T={T} B={B}", 3 if n > 500 else 7

    @on_both(name, "the plain autograd loop", floor, pairs=pairs)
    def _(device, n=n, depth=depth, T=T, B=B, m=m):
        x = torch.rand(T, B, m, device=device)
        ours = RHN(m, n, depth, device=device)
        loop = RHN(m, n, depth, kernel="reference", device=device)
        return training(ours, x), training(loop, x)

    if (n, depth) not in ((20, 4), (262, 6), (215, 1)):
        continue

    @on_both(name, "nn.LSTM of equal recurrent parameters")
    def _(device, n=n, depth=depth, T=T, B=B, m=m):
        units, x = round((depth * 2 * n * n / 4) ** 0.5), torch.rand(T, B, m, device=device)
        ours, theirs = RHN(m, n, depth, device=device), torch.nn.LSTM(m, units, device=device)
        return training(ours, x), training(theirs, x)


for n, depth, T, B, m, _ in (size for size in SIZES if size[:2] in ((262, 6), (830, 10))):
    # weights of the input need no gradient of x: two products each, those of the recurrence three
    products = 2 * 2 * n * m + 3 * depth * 2 * n * n

    @benchmark(
        f"share of the machine's peak, RHN kernel n={n} depth={depth} T={T} B={B}",
        "one product of two square matrices with as many operations",
        0.3,
        pairs=5,
    )
    def _(device, n=n, depth=depth, T=T, B=B, m=m, products=products):
        x, side = torch.rand(T, B, m), round((products * T * B) ** (1 / 3))
        A = torch.rand(side, side)
        return training(RHN(m, n, depth), x), lambda: A @ A


for T, B, m, n in ((200, 32, 2, 64), (60, 32, 88, 128), (35, 20, 200, 200), (100, 32, 64, 256)):
    for ours, theirs in ((LSTM, torch.nn.LSTM), (GRU, torch.nn.GRU)):

        @benchmark(f"{ours.__name__} m={m} n={n} T={T} B={B}", f"nn.{theirs.__name__}", 0.95)
        def _(device, ours=ours, theirs=theirs, T=T, B=B, m=m, n=n):
            x = torch.rand(T, B, m)
            return training(ours(m, n), x), training(theirs(m, n), x)


@on_both(
    "RHN kernel with dropout masks n=200 depth=5 T=35 B=20",
    "the plain autograd loop with the same masks",
    1.2,
)
def _(device, n=200, depth=5, T=35, B=20):
    x, generator = torch.rand(T, B, n, device=device), torch.Generator(device).manual_seed(0)

    def draw(*shape):
        return torch.empty(shape, device=device).bernoulli_(0.75, generator=generator) / 0.75

    masks = CellMasks(draw(1, B, n), draw(1, B, n))
    ours = RHN(n, n, depth, device=device)
    loop = RHN(n, n, depth, kernel="reference", device=device)
    return training(ours, x, dropout=masks), training(loop, x, dropout=masks)
