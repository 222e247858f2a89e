"""A dropout mask multiplies what enters the gates, at every step and layer alike, and never the
carried state.
"""

import pytest
import torch
from cases import CELL_CASES, SHALLOW_CASES, CellCase, assert_close, dropout_mask, inputs, randomize
from tables import for_each
from torch import nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from rhn.cells import RHN, Cell, CellMasks
from rhn.kernels import TRANSITION, compiled

CASES = [(case, "shared") for case in CELL_CASES] + [
    (case, "apart") for case in CELL_CASES if case.key == "rhn" and "activation" not in case.options
]
every_case = for_each(("case", "kind"), CASES)
gated = for_each("case", [c for c, J in CASES if "candidate" in c.plain().masks and J == "shared"])


def masks_for(cell, B, kind="shared", *, seed=0, candidate=True, **keywords):
    """Random masks of every sort that the cell takes; `kind`: the gate blocks' masks are "shared"
    or "apart".
    """
    J, n, keywords = (
        cell.blocks if kind == "apart" else 1,
        cell.hidden_size,
        {"dtype": cell.weight_ih.dtype} | keywords,
    )
    return CellMasks(
        dropout_mask(J, B, cell.input_size, seed=3 * seed, **keywords),
        dropout_mask(J, B, n, seed=3 * seed + 1, **keywords) if "state" in cell.masks else None,
        dropout_mask(B, n, seed=3 * seed + 2, **keywords)
        if candidate and "candidate" in cell.masks
        else None,
    )


def run(cell, T=6, B=3):
    """x (T, B, m) and s0 (B, state_size)."""
    return inputs(cell, T, B)[0], inputs(cell, B, seed=2)[1]


# ---- what a mask is ------------------------------------------------------------------------------


@every_case
def test_input_and_state_masks_of_one_row_are_columns_of_its_matrices_scaled(case, kind):
    """W (x * m) = (W diag m) x, so a row with masks is a network of its own without: at every step,
    layer and block.
    """
    cell = case.build()
    x, s0 = run(cell)
    masks = masks_for(cell, 3, kind, candidate=False)
    outputs, last = cell(x, s0, dropout=masks)
    for b in range(3):
        twin, J = case.build(), len(masks.input)
        entering = {"weight_ih": masks.input, "weight_hh": masks.state, "weight_skip": masks.state}
        with torch.no_grad():
            for name, matrix in twin.named_parameters():
                for j, block in enumerate(
                    matrix.chunk(J, -2) if entering.get(name) is not None else ()
                ):
                    block *= entering[name][j, b]
        wanted, state = twin(x[:, b], s0[b])
        assert_close(outputs[:, b], wanted, 1e-12, f"outputs of row {b}")
        assert_close(last[b], state, 1e-12, f"last state of row {b}")


@gated
def test_a_candidate_mask_multiplies_h_before_its_gate(case):
    """s_l = (h * mask) t + s c, layer by layer; for the LSTM this is its c."""
    cell = case.build()
    n = cell.hidden_size
    x, s0 = run(cell, T=1)
    mask = dropout_mask(3, n)
    _, last = cell(x, s0, dropout=CellMasks(candidate=mask))
    state = s0
    for layer in range(cell.depth):
        gates = layer_gates(cell, layer, x[0], state)
        state = gates.h[0] * mask * gates.t[0] + state[..., -n:] * gates.c[0]
    assert_close(last[:, -n:], state, 1e-12, "s = (h * mask) t + s c")


def layer_gates(cell, layer, x, s):
    """The unmasked gates of one layer alone."""
    if cell.depth == 1:
        return cell.gates(x, s)
    options = {name: getattr(cell, name) for name in cell.options}
    alone = RHN(cell.input_size, cell.hidden_size, **options, dtype=x.dtype)
    with torch.no_grad():
        alone.weight_ih.copy_(cell.weight_ih)
        alone.weight_hh.copy_(cell.weight_hh[layer : layer + 1])
        alone.bias.copy_(cell.bias[layer : layer + 1])
    return alone.gates(x * (layer == 0), s)


# ---- the fused kernels ---------------------------------------------------------------------------


LARGE = ("rhn", "dts-rnn", "lstm", "gru")
# in C (and what has no code there), in Python, and with large products: a cell of each family of
# kernels
ALONE = [
    *((case, kind, 88, 37, "compiled") for case in SHALLOW_CASES for kind in ("none", "shared")),
    *(
        (CellCase("rhn", 3, options), "apart", 5, 7, "compiled")
        for options in ({}, {"coupled": False})
    ),
    (CellCase("rhn", 3, {"activation": "sigmoid"}), "shared", 5, 7, "compiled"),
    *((case, "none", 5, 7, "in Python") for case in SHALLOW_CASES if case.depth == 2),
    *(
        (case, kind, 88, 150, "in Python")
        for case in SHALLOW_CASES
        if case.key in LARGE
        for kind in ("none", "shared")
    ),
]


@for_each(("case", "kind", "m", "n", "route"), ALONE)
def test_a_model_in_a_stack_equals_itself_alone_to_the_bit(case, kind, m, n, route):
    """float32, one thread, 32 rows: outputs and every gradient, for K = 1, 2 and 3."""
    assert torch.get_num_threads() == 1
    cells = [case.build(m, n, seed=k, dtype=torch.float32) for k in range(3)]
    masks = [
        CellMasks() if kind == "none" else masks_for(cell, 32, kind, seed=k)
        for k, cell in enumerate(cells)
    ]
    x, s0 = run(cells[0], B=32)
    x, w = x * (torch.rand_like(x) < 0.05) if m == 88 else x, torch.randn(6, 32, n)

    def loss(parameters, dropout):
        outputs, _ = functional_call(cells[0], parameters, (x, s0), {"dropout": dropout})
        return (outputs * w).square().sum(), outputs

    def assert_each_alone(K):
        stack = {name: p.detach() for name, p in stack_module_state(cells[:K])[0].items()}
        stacked = CellMasks(
            *(
                None if some[0] is None else torch.stack(some)
                for some in zip(*masks[:K], strict=True)
            )
        )
        dims = CellMasks(*(None if mask is None else 0 for mask in masks[0]))
        gradients, (_, outputs) = vmap(grad_and_value(loss, has_aux=True), in_dims=(0, dims))(
            stack, stacked
        )
        for k, cell in enumerate(cells[:K]):
            names, parameters = zip(*cell.named_parameters(), strict=True)
            value, alone = loss(dict(zip(names, parameters, strict=True)), masks[k])
            assert torch.equal(outputs[k], alone), f"outputs of model {k} of {K}"
            for name, g in zip(names, torch.autograd.grad(value, parameters), strict=True):
                assert torch.equal(gradients[name][k], g), f"gradient of {name}, model {k} of {K}"

    with pytest.MonkeyPatch.context() as patch:
        # torch's own kernels have other bits
        patch.setattr("rhn.cells.gated._Gated._suits_torch", lambda *_: False)
        if route == "in Python":
            patch.setattr(compiled, "library", lambda: None)
        for K in (1, 2, 3):
            assert_each_alone(K)


def test_only_the_equation_has_a_gradient_of_its_masks():
    cell = RHN(3, 4, 2, dtype=torch.float64)
    x, s0 = run(cell)
    mask = dropout_mask(1, 3, 4).requires_grad_()
    arguments = x, s0, cell.weight_ih, cell.weight_hh, cell.bias, None, mask
    assert torch.autograd.grad(TRANSITION(*arguments, reference=True).sum(), mask)[0].any()
    with pytest.raises(RuntimeError, match='no gradient of a dropout mask: use kernel="reference"'):
        torch.autograd.grad(TRANSITION(*arguments).sum(), mask)


# ---- through a cell's forward --------------------------------------------------------------------


def test_unbatched_sequences_take_masks_too():
    cell = RHN(5, 7, 2, dtype=torch.float64)
    randomize(cell)
    x, s0 = run(cell)
    masks = masks_for(cell, 3, "apart")
    outputs, last = cell(x, s0, masks)
    alone, state = cell(x[:, 1], s0[1], dropout=CellMasks(*(mask[..., 1:2, :] for mask in masks)))
    assert_close(outputs[:, 1], alone, 1e-12, "unbatched")
    assert_close(last[1], state, 1e-12, "unbatched, last")


class Leaky(Cell):
    """A user's cell: parameters and a step, no more."""

    def __init__(
        self, input_size, hidden_size, depth=1, *, generator=None, device=None, dtype=None, **common
    ):
        super().__init__(input_size, hidden_size, depth, **common)
        self.weight = nn.Parameter(torch.empty(hidden_size, input_size, device=device, dtype=dtype))
        self.reset_parameters(generator)

    def step(self, x, s):
        return 0.5 * s + x @ self.weight.T


def test_a_cell_of_ones_own_takes_an_input_mask():
    cell, x, mask = Leaky(3, 4), torch.randn(5, 2, 3), dropout_mask(1, 2, 3, dtype=torch.float32)
    assert_close(
        cell(x)[1][0],
        sum(0.5 ** (4 - t) * (x[t, 0] @ cell.weight.T) for t in range(5)),
        1e-6,
        "last",
    )
    assert torch.equal(cell(x, dropout=CellMasks(mask))[0], cell(x * mask)[0])
    with pytest.raises(NotImplementedError, match="needs its equation"):
        Cell(3, 4)(x)
