"""Compare the gradient of a step with its slope: a detached path, or a gradient of its own.

Beside a state s the step f moves along a direction v. In a direction w of the next state it has
three slopes, those of w f between s - 10 h v, s - h v, s + h v and s + 10 h v. Curvature and kinks
pull these apart, a detached path does not: the gradient differs if w A v lies outside of their
interval by more than its width, and than rounding.
"""

import torch
from torch import Tensor

from gersgorin.run.autodiff import Linearized, pushed
from gersgorin.run.cell import StepCell
from rhn.errors import RhnError

BESIDE = 0.1  # of 1 + |s|: the distance of the compared state, since s = 0 may be a kink
SMALL, LARGE = 1e-4, 1e-3  # of 1 + |s|: h and 10 h
ROUNDING = 4 * torch.finfo(torch.float32).eps / SMALL  # of |f|, even if f computes in float64
CLEAR = 0.05  # of the larger one of gradient and slope


def gradient_note(cell: StepCell, x: Tensor, s: Tensor) -> str:
    """A sentence if the gradient of a step differs from its slope beside each of some states: rows
    x (R, m), s (R, N). "" if it does not, if the step fails there, or if the cell has a closed
    form.
    """
    if cell.has_closed_form:
        return ""
    pairs = []
    for seed, row in enumerate(zip(x, s, strict=True)):
        if (pair := _different(cell, *row, seed)) is None:
            return ""
        pairs.append(pair)
    gradient, slope = pairs[0]
    return (
        f"The gradient of this step is not its slope ({gradient:.2g} against {slope:.2g} in one "
        "direction): some path is detached, or has a gradient of its own. These numbers are of "
        "autograd's gradient."
    )


def _different(cell: StepCell, x: Tensor, s: Tensor, seed: int) -> tuple[float, float] | None:
    """(w A v, the slope) that differ the most, in the direction of the change or a random one; None
    if both agree.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    beside, v, w = torch.randn(
        3, len(s), generator=generator, dtype=torch.float64, device="cpu"
    ).to(s)
    size = 1 + s.abs()
    at, v = s + BESIDE * size * beside, size * v.sign()
    try:
        with cell.transformed(), torch.inference_mode(False), torch.no_grad():
            places = torch.tensor([-LARGE, -SMALL, SMALL, LARGE]).to(s)
            after = torch.stack([cell.step(x, at + place * v) for place in places])
            slopes = after.diff(dim=0) / places.diff()[:, None]
            change = slopes[1] / slopes[1].norm().clamp(min=torch.finfo(s.dtype).tiny)
            W = torch.stack((change, w / w.norm()))
            gradients = _along(cell, x, at, v, W)
    except RhnError:
        return None
    along = slopes @ W.T
    low, high = along.amin(0), along.amax(0)
    outside = torch.maximum(low - gradients, gradients - high)
    clear = CLEAR * torch.maximum(gradients.abs(), along[1].abs())
    doubtful = high - low + ROUNDING * after.norm(dim=1).amax()
    differ = (outside > torch.maximum(doubtful, clear)).tolist()
    pairs = zip(gradients.tolist(), along[1].tolist(), strict=True)
    found = [pair for pair, differs in zip(pairs, differ, strict=True) if differs]
    return max(found, key=lambda pair: abs(pair[0] - pair[1]), default=None)


def _along(cell: StepCell, x: Tensor, s: Tensor, v: Tensor, W: Tensor) -> Tensor:
    """W A v by a reverse pass, or forward mode for a step that writes in place."""
    try:
        return Linearized(lambda s, x: cell.step(x, s), s, x).pull(W) @ v
    except RuntimeError:
        return W @ pushed(lambda s: cell.step(x.clone(), s), s, v[:, None])[:, 0]
