"""Forecast how many iterations Newton's method will need, from the first steps of a run.

The loop computes the first 64 steps. On them are measured: the largest Lyapunov exponent; the growth of finite products, as the
response to a unit error at every step; the curvature of the step, as the rest of its Taylor series between the first guess and the
states; and a rehearsal, the iterations on the first 16 and 32 steps.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rhn.kernels.newton import Recurrence, linear_scan, solve

SHORT = 64  # steps of the short run
REHEARSED = 16, 32  # steps of the rehearsals


@dataclass(frozen=True)
class ShortRun:
    """Measures of the first steps of a run, the worst of several sequences. Logarithms are of base 10."""

    exponent: float
    """Largest Lyapunov exponent a step (natural logarithm)."""
    log_response: float
    """Of the largest response to errors of size 1 at every step, by the products of Jacobians along the run."""
    log_response_of_guess: float
    """The same by the products along the first guess."""
    log_remainder: float
    """Of the largest difference between a step from the guess and its linearisation at the run."""
    rehearsals: tuple[int, int]
    """Iterations on the first 16 and 32 steps."""


def measure(recurrence: Recurrence, **options) -> ShortRun:
    """Measure the first steps of a run; options: of `solve` for the rehearsals."""
    short = replace(recurrence, x=recurrence.x[:SHORT])
    states, guess = short.continued(torch.empty_like(short.guess()), 0), short.guess()
    J, J_guess = short.jacobians(states), short.jacobians(guess)
    difference = short.before(guess) - short.before(states)
    linear = states + (J @ difference.unsqueeze(-1)).squeeze(-1)
    rehearsals = tuple(
        solve(replace(short, x=short.x[:steps]), max_iterations=steps, guard=False, **options).iterations
        for steps in REHEARSED
    )
    return ShortRun(
        exponent=_exponent(J),
        log_response=_response(J),
        log_response_of_guess=_response(J_guess),
        log_remainder=_log(short.next(guess) - linear),
        rehearsals=rehearsals,
    )


def _signs(like: Tensor) -> Tensor:
    return torch.randint(2, like.shape, generator=torch.Generator().manual_seed(0)).to(like) * 2 - 1


def _response(J: Tensor) -> float:
    return _log(linear_scan(J, _signs(J[..., 0])))


def _exponent(J: Tensor) -> float:
    """Mean growth a step of a small change, the first quarter not counted."""
    v, logs = _signs(J[0, ..., :1]), []
    for A in J:
        v = A @ v
        norm = v.norm(dim=-2, keepdim=True)
        logs.append(norm.log())
        v = v / norm.clamp(min=torch.finfo(v.dtype).tiny)
    growth = torch.stack(logs)[len(J) // 4 :].mean(0)
    return float(growth.nan_to_num(-50.0, 50.0, -50.0).clamp(-50, 50).amax())


def _log(numbers: Tensor) -> float:
    """log10 of the largest modulus, within the range of float64."""
    return math.log10(min(max(float(numbers.abs().nan_to_num(1e300, 1e300).max()), 1e-18), 1e300))


def cheapest_reason(x: Tensor, cell) -> str | None:
    """Why no forecast could favour Newton's method for inputs of this shape; None if one could."""
    return None


def forecast_reason(recurrence: Recurrence, cell) -> str | None:
    """Why the loop is expected to be faster; None if Newton's method is."""
    return "not measured"
