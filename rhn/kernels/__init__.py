"""The recurrences and losses as pure functions over time.

Legend, here and in every module of this package:

    T time steps, B batch rows, m inputs, n hidden units, L recurrence depth, K stacked models,
    G gate blocks in one product
    x  (T, B, m)      s0 (B, state_size)      states (T, B, state_size), without s0
    W  (G n, m)       R  (L, G n, n)          b  (L, G n)
    state_mask  (J, B, n), J = 1 or G, and candidate_mask  (B, n): dropout masks or None

Every recurrence or loss is a `rhn.kernels.kernel.Kernel`. Fused code has one input product before
the time loop and one weight-gradient product after it. Second derivatives and forward mode need the
reference (`kernel="reference"` in the cells).
"""

from typing import TYPE_CHECKING

from rhn.utils.lazy import lazy_names

if TYPE_CHECKING:
    from rhn.kernels.gated import GRU as GRU
    from rhn.kernels.gated import LSTM as LSTM
    from rhn.kernels.losses import OUTPUT as OUTPUT
    from rhn.kernels.losses import SOFTMAX as SOFTMAX
    from rhn.kernels.transition import TRANSITION as TRANSITION

__all__, _load, __dir__ = lazy_names(
    __name__,
    {"gated": ("GRU", "LSTM"), "losses": ("OUTPUT", "SOFTMAX"), "transition": ("TRANSITION",)},
)
if not TYPE_CHECKING:  # a name outside the table is an error
    __getattr__ = _load
