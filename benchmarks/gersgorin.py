"""Jacobians, eigenvalues, discs, recorded training and the whole command."""

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.registry import benchmark, on_both
from gersgorin import Recorder, eigenvalues, gersgorin_discs, temporal_jacobian, truncation
from gersgorin.analyses.truncated_gradients import listed_windows
from rhn.cells import RHN
from rhn.models import PolyphonicModel

for n, depth, batch in ((64, 5, 256), (215, 1, 64)):

    @on_both(f"analytic Jacobian, RHN n={n} depth={depth} batch={batch}", "vmap(jacrev)", 2.0)
    def _(device, n=n, depth=depth, batch=batch):
        cell = RHN(88, n, depth, device=device)
        x, s = torch.rand(batch, 88, device=device), torch.rand(batch, n, device=device)
        run = torch.no_grad()(partial(temporal_jacobian, cell, x, s))
        return (lambda: run(method="analytic")), (lambda: run(method="jacrev"))


@benchmark("eigenvalues of (256, 64, 64) float32", "one torch.linalg.eigvals call, one thread")
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


# both pass twice over the entries
@benchmark("row discs of (64, 64, 64) float64", "NumPy without loops")
def _(device):
    A = torch.randn(64, 64, 64, dtype=torch.float64)
    array = A.numpy()

    def by_numpy():
        moduli = np.abs(array)
        moduli[:, range(64), range(64)] = 0  # not subtracted, which loses small radii
        return array.diagonal(axis1=1, axis2=2), moduli.sum(2)

    return (lambda: gersgorin_discs(A)), by_numpy


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
    name = f"{STEPS} steps of training with a Recorder, {cell} n=64 depth={depth}"

    @benchmark(name, "without", 0.7, pairs=3)
    def _(device, cell=cell, depth=depth):
        return _training_steps(cell, depth, 100), _training_steps(cell, depth, None)


PASSES = 6  # for each listed window


@benchmark(
    "truncation, GRU n=128, T=200",
    f"{PASSES} training steps for each listed window",
    full=True,
)
def _(device):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 1, 4, generator=generator, dtype=torch.float64)
    y = torch.zeros(200, 1, 128, dtype=torch.float64)
    model = torch.nn.GRU(4, 128).double()

    def training_steps():
        for _ in range(PASSES * len(listed_windows(len(x)))):
            torch.nn.functional.mse_loss(model(x)[0], y).backward()

    return (lambda: truncation(model, x, y, torch.nn.functional.mse_loss)), training_steps


@benchmark(
    "gersgorin-plot --cell rhn --depth 5, warm cache",
    "python: import torch and matplotlib.pyplot, read a cached chorale",
    0.3,
    pairs=5,
)
def _(device):
    folder = tempfile.mkdtemp()
    environment = os.environ | {"MPLBACKEND": "Agg", "PYTHONPATH": str(Path.cwd())}
    others = "import torch, matplotlib.pyplot; from rhn.data import chorale; chorale('bwv269')"

    def process(*words):
        command = [sys.executable, *words]
        how = {"check": True, "cwd": folder, "env": environment, "capture_output": True}
        return lambda: subprocess.run(command, **how)

    plot = process("-m", "gersgorin", "plot", "--cell", "rhn", "--depth", "5")
    return plot, process("-c", others)
