"""Given matrices as the Jacobians of a run, for tests of the drawings and the texts of spectra."""

import torch

from gersgorin.analyses.spectra import spectra
from gersgorin.run.run import Label, Run


class Linear(torch.nn.Module):
    """A cell s' = A s; the input of a time step is its matrix A (n, n), flattened."""

    def __init__(self, state_size: int):
        super().__init__()
        self.state_size = state_size

    def forward(self, x, s):
        return (x.unflatten(-1, (self.state_size, self.state_size)) * s.unsqueeze(-2)).sum(-1)


def of_matrices(matrices, title: str, **options):
    """The spectra of matrices (T, n, n), one for each time step."""
    label = Label(name="linear", title=title, sequence="none")
    return spectra(Run.of(Linear(matrices.shape[-1]), matrices.flatten(1), label=label), **options)
