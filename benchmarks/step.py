"""The rest of a training step: update, output layer and loss, and evaluation, each against what it
replaces or what torch offers.
"""

import functools
from unittest import mock

import torch
from torch import nn

from benchmarks.registry import benchmark, on_both
from rhn.data import chorales
from rhn.models import PolyphonicModel
from rhn.presets import preset
from rhn.training import monte_carlo
from rhn.training.chorales import evaluation_batches, mean_nll, training_batches
from rhn.training.ensemble import Ensemble, build_model
from rhn.training.optimizers import OPTIMIZERS

WORDS = 10_000


def on(device: str, run):
    """On a GPU the same calls as a CUDA graph, recorded once, as the trainings have it."""
    if device != "cuda":
        return run
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


@on_both(
    "clipping and SGD of ptb-sota's 23 million weights",
    "torch's clip_grad_norm_ and SGD (foreach)",
    0.95,
)
def update(device: str):
    stack = Ensemble.of([build_model(preset("ptb-sota"), WORDS)], device)
    gradients = {name: 1e-3 * torch.randn_like(w) for name, w in stack.weights.items()}
    rate = torch.full((1,), 1e-6, device=device)

    def ours():
        OPTIMIZERS["sgd"](clip=10.0).step(stack.weights, gradients, {}, rate)

    theirs = [nn.Parameter(w[0].clone()) for w in stack.weights.values()]
    for p, g in zip(theirs, gradients.values(), strict=True):
        p.grad = g[0].clone()
    optimizer = torch.optim.SGD(theirs, lr=1e-6, foreach=True)

    def plain():
        nn.utils.clip_grad_norm_(theirs, 10.0, foreach=True)
        optimizer.step()

    return on(device, ours), on(device, plain)


@benchmark(
    "losses of 15 RHNs of depth 6 on the chorales, grouped by predicted time",
    "in batches of 64",
    0.9,
)
def losses(device: str):
    corpus = chorales()
    stack = Ensemble.of(
        [PolyphonicModel("rhn", hidden_size=34, depth=6) for _ in range(15)], device
    )
    where = {"device": device, "dtype": torch.float32}
    ours = [evaluation_batches(pieces, **where) for pieces in (corpus.train, corpus.valid)]
    plain = [training_batches(pieces, 64, **where) for pieces in (corpus.train, corpus.valid)]
    return lambda: [mean_nll(stack, split) for split in ours], lambda: [
        mean_nll(stack, split) for split in plain
    ]


@benchmark(
    "Monte-Carlo evaluation of ptb-sota, 100 samples of 700 words",
    "without CUDA graphs",
    1.0,
    devices=("cuda",),
)
def samples(device: str):
    config = preset("ptb-sota")
    model, text = build_model(config, WORDS), torch.arange(701).numpy()
    run = functools.partial(
        monte_carlo.monte_carlo_score, model, text, config.dropout, samples=100, device=device
    )

    def plain():
        with mock.patch.object(monte_carlo, "captured", lambda function, device: function):
            return run()

    return run, plain
