"""From a cell and a run to `CertifiedBounds`: the Jacobians are computed in blocks, and only products of windows are kept.

The certificate is one about the float64 (or float32) matrices that the cell's Jacobians are computed to be: all that is
done with them afterwards is counted in. What rounding did to the states and to the entries of the Jacobians themselves,
about n roundings each, is not.
"""

import functools
import math
from collections.abc import Callable, Iterator
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin.certified.enclosed import Enclosed, exactly
from gersgorin.certified.kinds import KINDS, numerical_radius_above
from gersgorin.certified.ledger import Ledger, added
from gersgorin.certified.record import CertifiedBounds
from gersgorin.certified.rounding import scaled, sum_of_logs_above
from gersgorin.certified.weights import Weighted, diagonal_norm, quadratic_norm
from gersgorin.certified.windows import windows
from gersgorin.jacobian import layer_jacobians, temporal_jacobian, trajectory
from gersgorin.spectrum import one_thread
from rhn.errors import InvalidInputError
from rhn.wording import counted

BLOCK = 1 << 22  # numbers of Jacobians computed at once
SAMPLES = 16  # steps on which norms are tried out
Steps = Callable[[], Iterator[list[np.ndarray]]]


@torch.no_grad()
@one_thread()
def certified_bounds(
    cell: nn.Module | Callable,
    x: Tensor,
    s0: Tensor | None = None,
    *,
    layers: bool = True,
    title: str | None = None,
    unit: str = "steps",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CertifiedBounds:
    """Certified bounds on ||dy_t/dy_0|| along a run, from windows of 1, 2, 4, ... layers and steps.

    Args:
        cell: what `gersgorin.temporal_jacobian` takes.
        x: inputs (T, m). s0: the first state (n,); zero where None, which a bare callable does not allow.
        layers: also windows of the layers within a step, of a cell that tells its layers' Jacobians.
        title, unit: what the record calls the run and one step of it ("quarter notes").
        progress: called with (steps done, steps in all).

    Raises:
        InvalidInputError: shapes do not fit, or a state or Jacobian is not finite.

    >>> half = certified_bounds(lambda x, s: 0.5 * s.flip(-1), torch.zeros(4, 1).double(), torch.ones(2).double())
    >>> half.lengths, half.half_life.round(6), half.lower_exponent.round(6)
    (('1 step', '2 steps', '4 steps'), array([1., 1., 1.]), array([-0.693147, -0.693147, -0.693147]))
    """
    if not isinstance(x, Tensor) or x.dim() != 2:
        shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise InvalidInputError(f"x: expected a tensor (T, m) of one sequence, got {shape}")
    s = trajectory(cell, x, s0)[:-1]
    if not torch.isfinite(s).all():
        raise InvalidInputError(
            "a state is NaN or infinite along the run: the weights are too large to certify anything"
        )
    by_layers = layers and _tells_its_layers(cell, x, s)

    def steps() -> Iterator[list[np.ndarray]]:
        block = max(1, BLOCK // (s.shape[-1] ** 2 * max(1, getattr(cell, "depth", 1))))
        for x_t, s_t in zip(x.split(block), s.split(block), strict=True):
            found = layer_jacobians(cell, x_t, s_t) if by_layers else [temporal_jacobian(cell, x_t, s_t)]
            yield from zip(*(J.double().cpu().numpy() for J in found), strict=True)

    return bounds_of(steps, len(x), title=title or type(cell).__name__, unit=unit, progress=progress)


def bounds_of(
    steps: Steps, T: int, *, title: str = "", unit: str = "steps", progress=lambda done, total: None
) -> CertifiedBounds:
    """The bounds of a run whose Jacobians `steps()` gives from the beginning, T times the layers' matrices, the first layer first.

    Raises InvalidInputError for entries that are NaN or infinite.
    """
    norms = _fixed_norms(steps, T)
    along, within, log_norm, radius = Ledger(norms), [], np.empty(T), np.empty(T)
    product, exponent = None, 0

    def step_products() -> Iterator[Enclosed]:
        nonlocal product, exponent
        for t, layers in enumerate(steps()):
            ledger = Ledger(norms, first=t == 0)
            for window in windows(map(exactly, layers)):
                ledger.add(window)
            within.append(ledger)
            step = window.product
            product, shift = scaled(step.middle if product is None else step.middle @ product)
            exponent += shift + step.exponent
            with np.errstate(divide="ignore"):
                log_norm[t] = np.log(np.linalg.norm(product, 2)) + exponent * math.log(2)
            radius[t] = numerical_radius_above(step)
            progress(t + 1, T)
            yield step

    for window in windows(step_products()):
        along.add(window, known=within[-1].sums[-1] if window.level == 0 else None)
    lengths, upper, lower = _tables(within, along, T)
    constants = [0.0, *(norm.log_condition if norm else 0.0 for norm in norms), 0.0, 0.0]
    return CertifiedBounds(
        title=title,
        unit=unit,
        lengths=tuple(_words(n, unit) for n, unit in lengths),
        window_steps=np.array([n if unit == "step" else 0 for n, unit in lengths]),
        upper=sum_of_logs_above(upper, np.array(constants)[:, None, None]),
        lower=lower,
        log_norm=log_norm,
        numerical_radius=radius,
        log_condition={kind: norm.log_condition for kind, norm in zip(KINDS[1:3], norms, strict=True) if norm},
    )


def _tables(within: list[Ledger], along: Ledger, T: int) -> tuple[list[tuple[int, str]], np.ndarray, np.ndarray]:
    """The window lengths, and the bounds (kinds, W, T) and (W, T) at the ends of the steps."""
    layered, levels = len(within[0].sums) - 1, len(along.sums)
    lengths = [(2**k, "layer") for k in range(layered)] + [(min(2**k, T), "step") for k in range(levels)]
    rows = [list(accumulate((ledger.sums[k] for ledger in within), added)) for k in range(layered)]
    rows += [along.over_time(k, T) for k in range(levels)]
    upper = np.array([[bounds[0] for bounds in row] for row in rows])
    return lengths, upper.transpose(2, 0, 1), np.array([[bounds[1] for bounds in row] for row in rows])


def _fixed_norms(steps: Steps, T: int) -> tuple[Weighted | None, Weighted | None]:
    """A diagonal and a quadratic norm found from the whole run, or None; checks every entry on the way."""
    mean, modulus, samples = 0.0, 0.0, []
    for t, layers in enumerate(steps()):
        if not all(np.isfinite(J).all() for J in layers):
            raise InvalidInputError(f"the Jacobian of step {t} holds NaN or infinity: nothing can be certified of it")
        A = functools.reduce(lambda P, J: J @ P, layers)
        mean, modulus = mean + A / T, modulus + np.abs(A) / T
        if t % max(1, -(-T // SAMPLES)) == 0:
            samples.append(A)
    if not np.isfinite(modulus).all() or not modulus.any():
        return None, None
    return diagonal_norm(modulus), quadratic_norm(np.stack(samples), mean)


def _tells_its_layers(cell, x: Tensor, s: Tensor) -> bool:
    try:
        layer_jacobians(cell, x[:1], s[:1])
    except InvalidInputError:
        return False
    return True


def _words(n: int, unit: str) -> str:
    return counted(n, unit)
