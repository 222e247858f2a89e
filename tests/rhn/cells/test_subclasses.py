"""A cell of a user's that changes the equation of one of ours: nothing derived from the old
equation is used for the new one.
"""

import pytest
import torch
from choices import recorded_choices
from tables import for_each

from gersgorin import layer_jacobians, norm_bound, temporal_jacobian
from rhn.cells import CELLS, GRU, LSTM
from rhn.cells.base import DERIVED, Cell
from rhn.errors import InvalidInputError


def changed(key: str) -> type:
    """A subclass whose step is half of its parent's."""
    inherited = CELLS[key].step
    return type("Mine", (CELLS[key],), {"step": lambda self, *given: 0.5 * inherited(self, *given)})


@for_each("key", CELLS)
def test_a_new_equation_is_measured_and_run_as_it_is(key):
    generator = torch.Generator().manual_seed(0)
    cell = changed(key)(3, 4, generator=generator, dtype=torch.float64)
    x, s = (
        torch.rand(2, n, generator=generator, dtype=torch.float64) for n in (3, cell.state_size)
    )
    expected = torch.func.vmap(torch.func.jacrev(cell.step, argnums=1))(x, s)
    torch.testing.assert_close(temporal_jacobian(cell, x, s), expected)
    torch.testing.assert_close(layer_jacobians(cell, x, s)[0], expected)
    torch.testing.assert_close(cell.states(x[None], s)[0], cell.step(x, s))
    assert not any(callable(getattr(cell, name, None)) for name in DERIVED - {"states"})
    with pytest.raises(InvalidInputError, match="norm_bound"):
        norm_bound(cell, 1.0)


def test_what_a_subclass_defines_itself_and_what_keeps_the_equation_stays():
    parent = CELLS["rhn"]
    own = {name: getattr(parent, name) for name in ("step", "jacobian", "norm_bound")}
    mine, kept = type("Mine", (parent,), own), type("Kept", (parent,), {})
    assert mine.jacobian is parent.jacobian and mine.states is Cell.states
    assert all(getattr(kept, name) is getattr(parent, name) for name in DERIVED)


@for_each("base", [LSTM, GRU])
def test_torch_s_kernels_run_a_cell_alone_but_no_subclass_with_states_of_its_own(base):
    class Still(base):
        def states(self, x, s0, dropout=None):
            return s0.expand(len(x), *s0.shape)

    x, cell = torch.randn(4, 3, 5), base(5, 7)
    with recorded_choices() as choices:
        outputs, last = cell(x, s0 := torch.randn(3, cell.state_size))
    assert choices == []
    with recorded_choices() as choices:
        stacked, stacked_last = torch.func.vmap(cell)(x[None], s0[None])
    assert choices == ["fused"]
    torch.testing.assert_close((stacked[0], stacked_last[0]), (outputs, last), rtol=1e-5, atol=1e-6)
    assert torch.equal(Still(5, 7)(x, s0)[1], s0)
