"""Compare autograd's gradient of a function with slopes of its values. Gradient and slopes differ
if a path is detached, or if an operation defines its own gradient.

Along a direction v each value of a function has three slopes: between the points p - 10 h v, p - h
v, p + h v and p + 10 h v. Kinks, jumps and chaos make the three slopes differ; a detached path does
not. If the three slopes agree for most values, these values are compared with the gradient: w J v,
with the Jacobian J by autograd, is compared with w times the slopes. The directions w are the
direction of the change, random signs for the values that move, and random signs for the values that
do not.

Legend: n values; j directions w.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from gersgorin.run.autodiff import Linearized, pushed
from gersgorin.run.cell import StepCell
from rhn.errors import RhnError
from rhn.utils.old import percent

BESIDE = 0.1  # of 1 + |s|: the distance of the compared state, since s = 0 may be a kink
SMALL, LARGE = 1e-4, 1e-3  # h and 10 h, of a direction of the size 1 + |p|
OFFSETS = (-LARGE, -SMALL, SMALL, LARGE)
ERROR = 4 * torch.finfo(torch.float32).eps  # of a value, even if it is computed in float64
ROUNDING = ERROR / SMALL  # of a slope
CLEAR = 0.05  # of the larger one of gradient and slope
SIGNS = 4  # random directions
MANY = 100  # times the slope: a larger share says no more
MOST = 0.5  # of the values: of fewer, some slopes may agree by chance


def note(what: str, pairs: Iterable[tuple[float, float] | None]) -> str:
    """The sentence about a gradient that differs from the slope at every one of some points; "" if
    gradient and slope agree at one point.

    what: words before "slope", such as "this step is not its". pairs: results of `different`, one
    for each point.
    """
    found = []
    for pair in pairs:
        if pair is None:
            return ""
        found.append(pair)
    return (
        f"The gradient of {what} slope (in one direction {_compared(*found[0])}): some path is "
        "detached, or has a gradient of its own. These numbers are of autograd's gradient."
    )


def _compared(gradient: float, slope: float) -> str:
    """The gradient as a share of the slope, which does not depend on the size of the direction.

    >>> _compared(0.5, 0.75), _compared(1.0, 0.0)
    ('it is 67 % of the slope', 'it is more than 100 times the slope')
    """
    if abs(gradient) > MANY * abs(slope):
        return f"it is more than {MANY} times the slope"
    return f"it is {percent(gradient / slope)} of the slope"


def random_direction(p: Tensor, seed: int) -> Tensor:
    """Random signs times 1 + |p|, entry by entry."""
    return (1 + p.abs()) * _random(seed, *p.shape).to(p).sign()


def different(
    values: Tensor, along: Callable[[Tensor], Tensor], seed: int = 0
) -> tuple[float, float] | None:
    """Among all directions w, return (w J v, w times the slopes) where these two numbers differ
    most; None if they agree for every w.

    Args:
        values: the values at the four `OFFSETS` along v, (4, n).
        along: function that returns w J v, (j,), for directions w (j, n).

    >>> p = torch.tensor([1.0, 2.0])
    >>> values = torch.stack([(p + place) ** 2 for place in OFFSETS])
    >>> different(values, lambda W: W @ (2 * p))
    >>> tuple(round(number, 2) for number in different(values, lambda W: W @ p))
    (3.0, 6.0)
    """
    slopes = values.diff(dim=0) / torch.tensor(OFFSETS).diff().to(values)[:, None]
    largest, size = values.abs().amax(0), slopes.abs().amax(0)
    known = slopes.amax(0) - slopes.amin(0) <= CLEAR * size + ROUNDING * largest
    if known.double().mean() < MOST:
        return None
    still = size <= ROUNDING * largest
    slope = torch.where(known, slopes[1], 0)
    moving = torch.where(still, 0, slope)
    change = moving / moving.norm().clamp(min=torch.finfo(slope.dtype).tiny)
    signs = _random(seed, SIGNS, len(slope)).to(slope).sign() * known
    W = torch.cat((change[None], signs * ~still, signs * still))
    gradients, expected = along(W), W @ slope
    size = (W * slope).norm(dim=1).maximum(expected.abs())
    rounding = ROUNDING * (W * largest).norm(dim=1)
    differ = (gradients - expected).abs() > CLEAR * gradients.abs().maximum(size) + rounding
    if not differ.any():
        return None
    k = int(torch.where(differ, (gradients - expected).abs(), 0).argmax())
    sign = -1 if expected[k] < 0 else 1
    return sign * float(gradients[k]), sign * float(expected[k])


def slope_of_cut(values: Tensor) -> float:
    """The norm of the slopes of values (4, n) at the `OFFSETS` along a direction in which the
    values have no gradient. The result is 0 if the three slopes differ, or may be only rounding.

    >>> places = torch.tensor(OFFSETS, dtype=torch.float64)[:, None]
    >>> slope_of_cut(1 + 3e-4 * places), slope_of_cut(1 + places**2)
    (0.0003, 0.0)
    """
    slopes = values.diff(dim=0) / torch.tensor(OFFSETS).diff().to(values)[:, None]
    single = torch.equal(values, values.float().to(values))
    error = ERROR if single else 4 * torch.finfo(values.dtype).eps
    size, spread = slopes[1].norm(), (slopes.amax(0) - slopes.amin(0)).norm()
    clear = spread <= CLEAR * size and size > error / SMALL * values.abs().amax(0).norm()
    return float(f"{float(size):.3g}") if clear else 0.0


def gradient_note(cell: StepCell, x: Tensor, s: Tensor) -> str:
    """A sentence if, near every one of R states, the gradient of a step differs from the slope of
    the step. The inputs are x (R, m), the states s (R, N). "" if gradient and slope agree near one
    state, if the step fails there, or if the cell has a closed form.
    """
    if cell.has_closed_form:
        return ""
    rows = enumerate(zip(x, s, strict=True))
    return note("this step is not its", (_different_step(cell, *row, seed) for seed, row in rows))


def _different_step(cell: StepCell, x: Tensor, s: Tensor, seed: int) -> tuple[float, float] | None:
    """The result of `different` near a state (N,)."""
    at = s + BESIDE * (1 + s.abs()) * _random(seed, len(s)).to(s)
    v = random_direction(s, seed + 1)
    try:
        with cell.transformed(), torch.inference_mode(False), torch.no_grad():
            after = torch.stack([cell.step(x, at + place * v) for place in OFFSETS])
            return different(after, lambda W: _along(cell, x, at, v, W), seed)
    except RhnError:
        return None


def _along(cell: StepCell, x: Tensor, s: Tensor, v: Tensor, W: Tensor) -> Tensor:
    """W A v by a reverse pass, or by forward mode for a step that writes in place."""
    try:
        return Linearized(lambda s, x: cell.step(x, s), s, x).pull(W) @ v
    except RuntimeError:
        return W @ pushed(lambda s: cell.step(x.clone(), s), s, v[:, None])[:, 0]


def _random(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64, device="cpu")
