"""Derivatives of a step at many rows, in one batched way.

    jacobians(step, x, s)          ds'/ds (B, N, N)
    input_jacobians(step, x, s)    ds'/dx (B, N, m)
    difference, jumps              the step beside a state, to compare with its derivative

A cell with a closed form uses it. All other steps are differentiated by autograd: rows do not see
each other, so one reverse pass from entry i of the next states gives row i of every Jacobian, and N
batched passes give everything. A step that writes in place, as into a cache, has no reverse pass;
one forward pass for each column takes its place.

Legend: B rows, m inputs, N entries of a state.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from gersgorin import door
from gersgorin.autodiff import vjps, with_gradients
from gersgorin.step import Rows, Step
from rhn.utils.scale import Scaled, out_of_range, scaled


def jacobians(step: Step, x: Tensor, s: Tensor, first: int | None = 0) -> Tensor:
    """Return ds'/ds (B, N, N), with A[b, i, j] = ds'_i/ds_j, at rows x (B, m) and s (B, N).

    first: the number of the first row, for messages. Raises NotFiniteError for a derivative by
    autograd that is NaN or infinite; not for `first` None.

    >>> from gersgorin.step import as_step
    >>> step, x = as_step(lambda x, s: 2 * s.flip(-1), torch.zeros(1, 1), torch.zeros(2))
    >>> jacobians(step, x, torch.zeros(1, 2))[0].tolist()
    [[0.0, 2.0], [2.0, 0.0]]
    """
    if own := step.own("jacobian"):
        with torch.no_grad():
            return own(x, s)
    return _by_autograd(step, x, s, 1, first)


def input_jacobians(step: Step, x: Tensor, s: Tensor, first: int = 0) -> Tensor:
    """Return ds'/dx (B, N, m); for ids, which have no derivative, NaN (B, N, 1). Arguments and
    errors as for `jacobians`.
    """
    if not x.is_floating_point():
        return s.new_full((*s.shape, 1), torch.nan)
    if own := step.own("input_jacobian"):
        with torch.no_grad():
            return own(x, s)
    return _by_autograd(step, x, s, 0, first)


def _by_autograd(step: Step, x: Tensor, s: Tensor, argument: int, first: int | None) -> Tensor:
    """The derivative with respect to x (0) or s (1)."""
    with door.users_code(f"{step.name} cannot be differentiated"):
        try:
            A = _by_reverse_passes(step, x, s, argument)
        except RuntimeError as error:  # a step that writes in place
            if "numpy" in str(error):  # in a forward pass, NumPy drops derivatives without an error
                raise
            A = _by_forward_passes(step, x, s, argument)
    if first is not None:
        door.are_finite(f"derivative of {step.name}", A, first)
    return A


@with_gradients()
def _by_reverse_passes(step: Step, x: Tensor, s: Tensor, argument: int) -> Tensor:
    given = [x.detach().clone(), s.detach().clone()]
    leaf = given[argument].requires_grad_()
    after = step.rows(*given)
    B, N = after.shape
    W = torch.eye(N, dtype=s.dtype, device=s.device)[:, None].expand(N, B, N)
    return vjps(after, [leaf], W)[0].transpose(0, 1).detach()


def _by_forward_passes(step: Step, x: Tensor, s: Tensor, argument: int) -> Tensor:
    columns = list[Tensor]()
    for e in torch.eye((x, s)[argument].shape[1], dtype=s.dtype, device=s.device):
        given = [x.clone(), s.clone()]
        with torch.inference_mode(False), forward_ad.dual_level():
            v = given[argument]
            given[argument] = forward_ad.make_dual(v, e.expand_as(v).clone())
            y, tangent = forward_ad.unpack_dual(step.rows(*given))
            columns.append(torch.zeros_like(y) if tangent is None else tangent.to(y).detach())
    return torch.stack(columns, -1)


def with_scale(step: Step, name: str, A: Tensor, x: Tensor, s: Tensor) -> Scaled:
    """Write the derivatives A (B, N, k) that the method `name` of a cell computes at rows x and s
    as M 2^e. The integer e is 0 unless A over- or underflows and the cell has a scaled form.
    """
    lost = out_of_range(A)
    e, own = torch.zeros_like(lost, dtype=torch.long), step.own(f"scaled_{name}")
    if own and lost.any():
        with torch.no_grad():
            M, e[lost] = scaled(*own(x[lost], s[lost]))
        A = A.index_put((lost.nonzero()[:, 0],), M)
    return A, e


@torch.no_grad()
def difference(step: Step, x: Tensor, s: Tensor, push: Callable[[Tensor], Tensor]) -> np.ndarray:
    """|A v - d| / |d| at rows x (B, m) and s (B, N), (B,): d is a central difference of the step,
    and v random signs of the size of the state. push: v (B, N) -> A v. The rounding of d adds to
    |d|.
    """
    v, eps = random_signs(s), torch.finfo(s.dtype).eps
    h = eps ** (1 / 3)
    above, below = step.rows(torch.cat((x, x)), torch.cat((s + h * v, s - h * v))).chunk(2)
    d = (above - below) / (2 * h)
    rounding = 1000 * eps ** (2 / 3) * v.norm(dim=1)
    return ((push(v) - d).norm(dim=1) / (d.norm(dim=1) + rounding)).cpu().double().numpy()


def random_signs(s: Tensor, size: Tensor | None = None) -> Tensor:
    """Random signs for states s (B, N), times their size, (B, N). size: (B, 1) or 0-dim; None: the
    largest modulus of an entry, or 1 for 0.
    """
    if size is None:
        size = s.abs().amax(1, keepdim=True)
        size = torch.where(size > 0, size, 1)
    generator = torch.Generator("cpu").manual_seed(0)
    signs = torch.randn(s.shape[1], generator=generator, device="cpu").sign()
    return size * signs.to(s).expand_as(s)


def jumps(rows: Rows, x: Tensor, s: Tensor, after: Tensor, size: Tensor | None = None) -> Tensor:
    """|d - e| / |v| at rows x (B, m) and s (B, N), (B,): the difference quotients d and e of a step
    on two sides of s, along random signs v. Near 0 for a smooth step; the difference of the slopes
    at a kink; far above 1 if the step itself jumps. The smaller number of two distances: the short
    one has the rounding of the step, the long one its curvature.

    after: the next states (B, N).
    size: as for `random_signs`.

    >>> s = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    >>> jumps(lambda x, s: torch.relu(s), s, s, s).round(decimals=6).tolist()
    [1.0, 0.0]
    """
    unit, eps = random_signs(s, size), torch.finfo(s.dtype).eps
    with door.users_code("the step fails beside a state"):
        each = [(rows(x, s + v) + rows(x, s - v) - 2 * after).norm(dim=1) / v.norm(dim=1)
                for v in (eps**power * unit for power in (1 / 2, 1 / 3))]  # fmt: skip
    return torch.minimum(*each)
