"""Cells of other libraries against central differences, entry by entry. A library that is absent
skips its cells. Layers of transformers are in `test_loops_and_caches.py`.
"""

from importlib import import_module

import pytest
import torch

from gersgorin.run import open_run

pytestmark = pytest.mark.slow

T, M, UNITS = 7, 3, 6
d = torch.float64


def imported(library):
    """A library, or a skip with the reason."""
    pytest.importorskip(library.partition(".")[0], reason=f"{library} is not installed")
    return import_module(library)


def gap(network, s0=None, width=M):
    """The largest difference of a Jacobian along T inputs from central differences, as a share of
    its largest entry.
    """
    generator = torch.Generator().manual_seed(1)
    run = open_run(network, torch.randn(T, width, dtype=d, generator=generator), s0)
    found, h = run.jacobians(), 1e-6
    each = []
    for x, s, A in zip(run.inputs, run.states, found, strict=False):
        columns = []
        for change in h * torch.eye(len(s), dtype=d):
            above, below = (
                run.step.rows(x[None], state[None]) for state in (s + change, s - change)
            )
            columns.append((above - below)[0] / (2 * h))
        wanted = torch.stack(columns, 1)
        each.append(float((A - wanted).abs().max() / wanted.abs().max()))
    return max(each)


def test_each_cell_of_torchrecurrent_is_a_step_as_it_is():
    library = imported("torchrecurrent")
    names = [name for name in dir(library) if name.endswith("Cell")]
    gaps = dict[str, float]()
    for name in names:
        width = UNITS if name == "IntersectionRNNCell" else M  # its input is as long as its state
        torch.manual_seed(0)
        gaps[name] = gap(getattr(library, name)(width, UNITS), width=width)
    assert len(gaps) >= 41
    assert max(gaps.values()) < 1e-8, gaps


def cfc():
    return imported("ncps.torch").CfC(M, UNITS)


def ltc():
    return imported("ncps.torch").LTC(M, imported("ncps.wirings").AutoNCP(UNITS, 2))


def leaky():
    return imported("snntorch").Leaky(beta=0.9)


def lapicque():
    return imported("snntorch").Lapicque(beta=0.9)


def leaky_integrator():
    return imported("norse.torch").LICell()


AS_THEY_ARE = (cfc, ltc, leaky, lapicque, leaky_integrator)


@pytest.mark.parametrize("made", AS_THEY_ARE)
def test_a_cell_is_a_step_as_it_is(made):
    torch.manual_seed(0)
    assert gap(made()) < 1e-8


def cfc_cell():
    """The cell requires the time between two steps, and returns (output, state)."""
    cell = imported("ncps.torch").CfCCell(M, UNITS).double()
    time = torch.ones(1, 1, dtype=d)
    return lambda x, h: cell(x, h, time)[1], torch.zeros(1, UNITS, dtype=d)


class OfTensors(torch.nn.Module):
    """A cell that takes, and returns after its output, each tensor of its state."""

    def __init__(self, cell, *sizes):
        super().__init__()
        self.cell, self.state_size = cell, sizes

    def forward(self, x, state):
        output, *after = self.cell(x, *state)
        return output, tuple(after)


def synaptic():
    return OfTensors(imported("snntorch").Synaptic(alpha=0.8, beta=0.9), M, M), None


@pytest.mark.parametrize("made", [cfc_cell, synaptic])
def test_a_cell_of_more_arguments_is_a_step_in_a_step_of_its_own(made):
    torch.manual_seed(0)
    assert gap(*made()) < 1e-8


def test_the_jacobian_of_spikes_is_that_of_the_surrogate():
    """A spike has no derivative; its library gives it another one, and so do all products."""
    cell = imported("norse.torch").LIFRecurrentCell(M, UNITS)
    run = open_run(cell, torch.randn(T, M, generator=torch.Generator().manual_seed(1)))
    wanted = [
        torch.autograd.functional.jacobian(lambda s, x=x: run.step.rows(x[None], s[None])[0], s)
        for x, s in zip(run.inputs, run.states, strict=False)
    ]
    assert torch.allclose(run.jacobians(), torch.stack(wanted), rtol=1e-12, atol=1e-12)
    assert gap(cell) > 0.01
