"""Jacobians, eigenvalues and the whole command."""

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.registry import benchmark, on_both
from gersgorin import Recorder, eigenvalues, spectra, temporal_jacobian
from rhn.cells import LSTM, RHN
from rhn.models import PolyphonicModel

for n, depth, batch in ((64, 5, 256), (215, 1, 64)):

    @on_both(f"analytic Jacobian, RHN n={n} depth={depth} batch={batch}", "vmap(jacrev)", 2.0)
    def _(device, n=n, depth=depth, batch=batch):
        cell = RHN(88, n, depth, device=device)
        x, s = torch.rand(batch, 88, device=device), torch.rand(batch, n, device=device)
        run = torch.no_grad()(partial(temporal_jacobian, cell, x, s))
        return (lambda: run(method="analytic")), (lambda: run(method="jacrev"))


@benchmark(  # ours uses further cores, if there are any
    "eigenvalues of (256, 64, 64) float32", "one torch.linalg.eigvals call, one thread"
)
def _(device):
    A = torch.randn(256, 64, 64)
    return (lambda: eigenvalues(A)), (lambda: torch.linalg.eigvals(A))


for n, batch in ((64, 64), (64, 1), (215, 16), (215, 1), (830, 2), (830, 1)):
    # the same call; of a small problem the check of A and the order of its eigenvalues are a tenth,
    # and the faster of two counts
    floor = 0.95 if n > 64 else 0.75

    @benchmark(f"eigenvalues of ({batch}, {n}, {n}) float64", "NumPy, torch", floor, full=n > 500)
    def _(device, n=n, batch=batch):
        A = torch.randn(batch, n, n, dtype=torch.float64)
        array = A.numpy()
        repeat = max(1, 64 // (n // 8 * batch))

        def times(function, matrices):
            return lambda: [function(matrices) for _ in range(repeat)]

        others = times(np.linalg.eigvals, array), times(torch.linalg.eigvals, A)
        return times(eigenvalues, A), *others


@benchmark(
    "spectra with 32 leading eigenvalues of one step, LSTM n=2100",
    "NumPy: all eigenvalues of the Jacobian",
    pairs=3,
    full=True,
)
def _(device):
    cell = LSTM(8, 2100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cell.requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    x, s = (
        torch.randn(size, generator=generator, dtype=torch.float64) / 2
        for size in (8, cell.state_size)
    )
    return (
        lambda: spectra(cell, x[None], s, leading=32),
        lambda: np.linalg.eigvals(temporal_jacobian(cell, x, s).numpy()),
    )


STEPS = 200  # of training, recorded three times


def _training_steps(cell: str, depth: int, every: int | None):
    """A plain PyTorch loop on noise of a chorale's shape, with a Recorder or without."""

    def run():
        model = PolyphonicModel(
            cell, hidden_size=64, depth=depth, generator=torch.Generator().manual_seed(0)
        )
        x = (torch.rand(60, 32, 88, generator=torch.Generator().manual_seed(0)) < 0.05).float()
        optimizer = torch.optim.SGD(model.parameters(), 1e-3)
        recorder = every and Recorder(model, x[:, 0], every)
        for _ in range(STEPS):
            loss = model.nll(x).mean()
            loss.backward()
            optimizer.step()
            if recorder:
                recorder.step(loss)
            optimizer.zero_grad()

    return run


for cell, depth in (("rhn", 5), ("lstm", 1), ("rnn", 1)):

    @benchmark(
        f"{STEPS} steps of training with a Recorder, {cell} n=64 depth={depth}",
        "without",
        0.7,
        pairs=3,
    )
    def _(device, cell=cell, depth=depth):
        return _training_steps(cell, depth, 100), _training_steps(cell, depth, None)


@benchmark(
    "gersgorin-plot --cell rhn --depth 5, warm cache",
    "python: import torch and matplotlib.pyplot, read a cached chorale",
    0.3,
    pairs=5,
)
def _(device):
    folder = tempfile.mkdtemp()
    environment = os.environ | {"MPLBACKEND": "Agg"}

    def process(*command):
        return lambda: subprocess.run(
            [sys.executable, *command], check=True, cwd=folder, env=environment, capture_output=True
        )

    environment["PYTHONPATH"] = os.pathsep.join(
        [str(Path.cwd()), environment.get("PYTHONPATH", "")]
    )
    return (
        process("-m", "gersgorin", "plot", "--cell", "rhn", "--depth", "5"),
        process(
            "-c", "import torch, matplotlib.pyplot; from rhn.data import chorale; chorale('bwv269')"
        ),
    )
