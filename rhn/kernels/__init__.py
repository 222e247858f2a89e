"""The recurrences as pure functions over time, each twice: `*_reference` (the equation as a loop), and the fused version.

Legend, here and in every file below:

    T steps, B batch rows, m inputs, n hidden units, L recurrence depth, K stacked models, G gate blocks in one product
    x  (T, B, m)      s0 (B, state_size)      states (T, B, state_size), without s0
    W  (G n, m)       R  (L, G n, n)          b  (L, G n)
    state_mask  (J, B, n), J = 1 or G, and candidate_mask  (B, n): dropout masks or None; see `rhn.cells.CellMasks`

Both versions have the same signature and the same values. The fused one hoists the input product out of the time loop, has a
hand-derived backward that ends in one weight-gradient product over all time steps, and a `vmap` rule that turns K stacked models
into one call. On a CPU `dispatch` replaces it by the whole loop in C (`compiled`) if that supports the call. All other recurrences
are one `loop` over a function, which autograd differentiates. `validation` compares the tensors with each operation's shapes, once
for all implementations. Second derivatives and forward mode need the reference (`kernel="reference"` in the cells).
"""

from rhn.kernels.gated import gru, gru_reference, lstm, lstm_reference
from rhn.kernels.highway import highway, highway_reference
from rhn.kernels.softmax import softmax_nll, softmax_nll_reference
from rhn.kernels.transition import deep_transition, deep_transition_reference

__all__ = [
    "deep_transition",
    "deep_transition_reference",
    "gru",
    "gru_reference",
    "highway",
    "highway_reference",
    "lstm",
    "lstm_reference",
    "softmax_nll",
    "softmax_nll_reference",
]
