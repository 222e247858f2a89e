"""Recurrent cells: each one its equation (`step`), its recurrence over time, its closed-form Jacobian and its norm bound.

`CELLS` maps the names that the commands use to cells; every value is callable as
`(input_size, hidden_size, depth=1, *, ..., device=None, dtype=None)`. To add one, see CONTRIBUTING.md.
"""

from rhn.cells.antisymmetric import AntisymmetricRNN
from rhn.cells.base import Cell, Gates
from rhn.cells.budget import hidden_size_for_budget, num_parameters
from rhn.cells.convert import from_torch, layer_from_torch, to_torch, weights_of_torch
from rhn.cells.cornn import CoRNN
from rhn.cells.gated import GRU, LSTM
from rhn.cells.highway import RHN
from rhn.cells.indrnn import IndRNN
from rhn.cells.init import Initialization
from rhn.cells.layers import GateBlocks, Layer, Part, described_layers
from rhn.cells.leaky import LeakyRNN
from rhn.cells.lru import LRU
from rhn.cells.masks import CellMasks
from rhn.cells.mgu import MGU
from rhn.cells.mingru import MinGRU
from rhn.cells.orthogonal import OrthogonalRNN
from rhn.cells.registry import CELLS, is_known, name_of_cell, resolve_cell
from rhn.cells.slstm import SLSTM
from rhn.cells.stacked import Stack, stack_from_torch
from rhn.cells.transition import DTRNN, DTSRNN, IRNN, RNN

__all__ = [
    "CELLS",
    "DTRNN",
    "DTSRNN",
    "GRU",
    "IRNN",
    "LRU",
    "LSTM",
    "MGU",
    "RHN",
    "RNN",
    "SLSTM",
    "AntisymmetricRNN",
    "Cell",
    "CellMasks",
    "CoRNN",
    "GateBlocks",
    "Gates",
    "IndRNN",
    "Initialization",
    "Layer",
    "LeakyRNN",
    "MinGRU",
    "OrthogonalRNN",
    "Part",
    "Stack",
    "described_layers",
    "from_torch",
    "hidden_size_for_budget",
    "is_known",
    "layer_from_torch",
    "name_of_cell",
    "num_parameters",
    "resolve_cell",
    "stack_from_torch",
    "to_torch",
    "weights_of_torch",
]
