"""The one table of cells and kernels that shared tests run over. A new row of `CELLS` enrols
itself, a new kernel is a row here.

@pytest.mark.parametrize("case", CELL_CASES, ids=str)
def test_...(case): cell = case.build(input_size=5, hidden_size=7)
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest
import torch
from rounding import assert_within, largest

from rhn import kernels
from rhn.cells import CELLS, Cell

VARIANTS = {  # options that change a cell's equation
    "rhn": (
        {},
        {"coupled": False},
        {"activation": "sigmoid"},
        {"activation": "relu"},
        {"activation": "linear", "gate_constant": -1.5},
    ),
    "dt-rnn": ({}, {"nonlinearity": "relu"}),
    "dts-rnn": ({}, {"skip": "last"}),
    "rnn": ({}, {"nonlinearity": "relu"}),
    "irnn": ({}, {"nonlinearity": "tanh"}),
}


@dataclass(frozen=True)
class CellCase:
    """A cell of the registry at one depth, with random weights."""

    key: str
    depth: int
    options: dict = field(default_factory=dict)

    def __str__(self) -> str:
        return "-".join(
            (self.key, f"L{self.depth}", *(f"{k}={v}" for k, v in self.options.items()))
        )

    def plain(self, input_size=5, hidden_size=7, *, dtype=torch.float64, **options) -> Cell:
        """As a user builds it, with its own initial weights."""
        return CELLS[self.key](
            input_size, hidden_size, self.depth, dtype=dtype, **self.options, **options
        )

    def build(
        self,
        input_size=5,
        hidden_size=7,
        *,
        seed=0,
        saturated=False,
        dtype=torch.float64,
        **options,
    ) -> Cell:
        """With weights of standard deviation 0.9 / sqrt(inputs); `saturated`: gates at 0 and at 1
        (biases of +-12 in random order).
        """
        cell = self.plain(input_size, hidden_size, dtype=dtype, **options)
        randomize(cell, seed, saturated=saturated)
        return cell


def randomize(module: torch.nn.Module, seed=0, *, gain=0.9, saturated=False) -> None:
    """New weights for a module, from a generator of its own."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            draw = torch.randn(p.shape, generator=g, dtype=torch.float64)
            if "bias" in name:
                draw = 12 * draw.sign() + draw if saturated else 0.3 * draw
            else:
                draw = draw * (gain / math.sqrt(max(1, p.shape[-1])))
            p.copy_(draw)


def inputs(cell: Cell, *lead: int, seed=1, spread=0.5) -> tuple[torch.Tensor, torch.Tensor]:
    """x (*lead, m) and s (*lead, state_size) in the cell's dtype."""
    g = torch.Generator().manual_seed(seed)
    dtype = next(cell.parameters()).dtype
    x = torch.randn(*lead, cell.input_size, generator=g, dtype=torch.float64)
    s = torch.randn(*lead, cell.state_size, generator=g, dtype=torch.float64) * spread
    return x.to(dtype), s.to(dtype)


def _cases(key: str):
    """Every equation of a cell; deep ones with three layers, and once with one."""
    first, *others = VARIANTS.get(key, ({},))
    if not CELLS[key].deep:
        return [CellCase(key, 1, options) for options in (first, *others)]
    return [CellCase(key, 1, first), *(CellCase(key, 3, options) for options in (first, *others))]


CELL_CASES = [case for key in CELLS for case in _cases(key)]
# One case of each cell, with at most two layers, for tests whose subject is neither the depth nor
# the equation.
SHALLOW_CASES = [CellCase(key, 2 if CELLS[key].deep else 1) for key in CELLS]


@dataclass(frozen=True)
class KernelCase:
    """A recurrence twice: fused and as its equation. `shapes(T, B, m, n, L)` names every
    argument.
    """

    name: str
    manual: Callable
    reference: Callable
    shapes: Callable[..., dict[str, tuple[int, ...]]]
    options: dict = field(default_factory=dict)
    deep: bool = True

    def __str__(self) -> str:
        return self.name

    def _repr_pretty_(self, printer, cycle) -> None:  # in a failing example of Hypothesis
        printer.text(self.name)

    def arguments(
        self, T, B, m, n, L, *, seed=0, saturated=False, stack=None, dtype=torch.float64
    ) -> dict:
        """Random arguments by name; `stack=K` puts a leading axis of K on every one."""
        g, out = torch.Generator().manual_seed(seed), {}
        for name, shape in self.shapes(T, B, m, n, L if self.deep else 1).items():
            shape = shape if stack is None else (stack, *shape)
            draw = torch.randn(shape, generator=g, dtype=torch.float64)
            if name in ("b", "q"):
                draw = 12 * draw.sign() + draw if saturated else 0.3 * draw
            elif name not in ("x", "s0"):
                draw = draw * (0.9 / math.sqrt(max(1, shape[-1])))
            out[name] = draw.to(dtype)
        return out


def _highway(G):
    return lambda T, B, m, n, L: {
        "x": (T, B, m),
        "s0": (B, n),
        "W": (G * n, m),
        "R": (L, G * n, n),
        "b": (L, G * n),
    }


def _transition(shortcuts):
    def shapes(T, B, m, n, L):
        skips = shortcuts(L)
        base = {"x": (T, B, m), "s0": (B, n), "W": (n, m), "R": (L, n, n), "b": (L, n)}
        return base | ({"S": (skips, n, n)} if skips else {})

    return shapes


def _gated(blocks, state, **extra):
    return lambda T, B, m, n, L: (
        {
            "x": (T, B, m),
            "s0": (B, state * n),
            "W": (blocks * n, m),
            "R": (blocks * n, n),
            "b": (blocks * n,),
        }
        | {name: (size * n,) for name, size in extra.items()}
    )


def dropout_mask(*shape, seed=5, keep=0.6, dtype=torch.float64) -> torch.Tensor:
    """Entries 0 or 1/keep, drawn by NumPy because vmap has rules of its own for torch's random
    numbers.
    """
    return torch.from_numpy((np.random.default_rng(seed).random(shape) < keep) / keep).to(dtype)


def _masked(row: tuple, J: int, *, candidate: bool = True) -> tuple:
    """A row's two functions with masks of their own, so that every shared test runs with masks that
    a stack shares.
    """

    def bind(function):
        def run(x, s0, *weights, **options):
            B, n, W = len(s0), s0.shape[-1] // (2 if row is _LSTM else 1), weights[0]
            masks = {"state_mask": dropout_mask(J, B, n, dtype=W.dtype)}
            if candidate:
                masks["candidate_mask"] = dropout_mask(B, n, seed=6, dtype=W.dtype)
            return function(x, s0, *weights, **masks, **options)

        return run

    return tuple(map(bind, row))


_DEEP, _LSTM, _GRU = (
    (kernel, partial(kernel, reference=True))
    for kernel in (kernels.TRANSITION, kernels.LSTM, kernels.GRU)
)

KERNELS = [
    KernelCase("highway", *_DEEP, _highway(2)),
    KernelCase("highway-uncoupled", *_DEEP, _highway(3)),
    KernelCase("highway-relu", *_DEEP, _highway(2), {"activation": "relu"}),
    KernelCase("highway-uncoupled-linear", *_DEEP, _highway(3), {"activation": "linear"}),
    KernelCase("deep-transition", *_DEEP, _transition(lambda L: 0)),
    KernelCase("deep-transition-relu", *_DEEP, _transition(lambda L: 0), {"activation": "relu"}),
    KernelCase("deep-transition-skip-all", *_DEEP, _transition(lambda L: L - 1)),
    KernelCase("deep-transition-skip-last", *_DEEP, _transition(lambda L: min(1, L - 1))),
    KernelCase("lstm", *_LSTM, _gated(4, 2), deep=False),
    KernelCase("gru", *_GRU, _gated(3, 1, q=1), deep=False),
    KernelCase("highway-masked", *_masked(_DEEP, 1), _highway(2)),
    KernelCase("highway-masked-apart", *_masked(_DEEP, 2), _highway(2)),
    KernelCase(
        "highway-sigmoid-masked", *_masked(_DEEP, 1), _highway(2), {"activation": "sigmoid"}
    ),
    KernelCase("highway-uncoupled-masked", *_masked(_DEEP, 1), _highway(3)),
    KernelCase("highway-uncoupled-masked-apart", *_masked(_DEEP, 3), _highway(3)),
    KernelCase(
        "deep-transition-masked", *_masked(_DEEP, 1, candidate=False), _transition(lambda L: 0)
    ),
    KernelCase(
        "deep-transition-skip-all-masked",
        *_masked(_DEEP, 1, candidate=False),
        _transition(lambda L: L - 1),
    ),
    KernelCase("lstm-masked", *_masked(_LSTM, 1), _gated(4, 2), deep=False),
    KernelCase("gru-masked", *_masked(_GRU, 1), _gated(3, 1, q=1), deep=False),
]
# One row of each kernel, masks and options included, for statements about the code that the rows
# share.
FAMILIES = [
    case
    for case in KERNELS
    if case.name
    in (
        "highway",
        "highway-uncoupled-masked-apart",
        "deep-transition-skip-all",
        "lstm-masked",
        "gru",
    )
]


def assert_close(got, wanted, tolerance, name, floor=0.0):
    """Largest difference within `tolerance` relative to the largest wanted value (at least
    `floor`); says which tensor failed.
    """
    assert got.shape == wanted.shape, (
        f"{name}: shape {tuple(got.shape)}, expected {tuple(wanted.shape)}"
    )
    assert got.dtype == wanted.dtype, f"{name}: {got.dtype}, expected {wanted.dtype}"
    if wanted.numel() == 0:
        return
    scale = max(largest(wanted), floor, 1e-30)
    assert_within(largest(got - wanted) / scale, tolerance, f"{name}, relative")


def others_slow(rows: Iterable, *kept) -> list:
    """The rows of a parametrised test, of which all but those that are kept are slow."""
    return [
        row
        if row in kept
        else pytest.param(*(row if isinstance(row, tuple) else (row,)), marks=pytest.mark.slow)
        for row in rows
    ]
