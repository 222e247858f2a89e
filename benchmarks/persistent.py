"""The persistent kernels on a GPU, forward and backward in a CUDA graph, against launches for each stage and against cuDNN's LSTM."""

import os

import torch
from torch.func import grad, vmap

from benchmarks.registry import benchmark
from rhn.kernels import highway
from rhn.kernels.persistent.device import SWITCH

SIZES = (  # models, units, depth, T, B, inputs
    (1, 830, 10, 35, 20, 830),
    (1, 830, 10, 35, 64, 830),
    (1, 1000, 10, 50, 128, 1000),
    (20, 262, 6, 60, 32, 88),
    (60, 262, 6, 60, 32, 88),
)


def graphed(run):
    """The same calls, recorded once and replayed."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def step(K, n, L, T, B, m, device):
    """All weight gradients of K stacked RHNs in mixed precision."""
    g = torch.Generator(device).manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, device=device, generator=g)  # noqa: E731
    x, s0 = draw(T, B, m), torch.zeros(B, n, device=device)
    weights = draw(K, 2 * n, m) * m**-0.5, draw(K, L, 2 * n, n) * n**-0.5, draw(K, L, 2 * n)

    def loss(W, R, b):
        return highway(x, s0, W, R, b, precision="mixed").sum()

    gradients = vmap(grad(loss, argnums=(0, 1, 2)))
    return lambda: gradients(*weights)


def without(run):
    """The same call by the path that the persistent kernels replace."""

    def present():
        os.environ[SWITCH] = "0"
        try:
            return run()
        finally:
            del os.environ[SWITCH]

    return present


for K, n, L, T, B, m in SIZES:

    @benchmark(
        f"persistent RHN mixed K={K} n={n} L={L} T={T} B={B}",
        "one launch or more a stage, in a CUDA graph",
        1.0,
        aim=3.0,
        devices=("cuda",),
    )
    def _(device, sizes=(K, n, L, T, B, m)):
        run = step(*sizes, device)
        return graphed(run), graphed(without(run))

    if K == 1:

        @benchmark(
            f"persistent RHN mixed n={n} L={L} T={T} B={B}",
            "cuDNN's LSTM of equal recurrent parameters, in a CUDA graph (for orientation)",
            0.0,
            devices=("cuda",),
        )
        def _(device, sizes=(K, n, L, T, B, m)):
            _, n, L, T, B, m = sizes
            lstm = torch.nn.LSTM(m, round((L * 2 * n * n / 4) ** 0.5), device=device)
            x, weights = torch.randn(T, B, m, device=device), tuple(lstm.parameters())
            theirs = graphed(lambda: torch.autograd.grad(lstm(x)[0].sum(), weights))
            return graphed(step(*sizes, device)), theirs
