"""Forecast how many iterations Newton's method will need, from the first steps of a run.

The loop computes the first 64 steps. On them are measured: the largest Lyapunov exponent; the growth of finite products, as the
response to a unit error at every step; the curvature of the step, as the rest of its Taylor series between the first guess and the
states; and a rehearsal, the iterations on the first 16 and 32 steps. The logarithm of the number of iterations over T steps is linear
in these measures, and in their products with log T (coefficients and their judgement on cells left out:
docs/results/2026-11-21-newton.md).
"""

import math
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from rhn.kernels.dispatch import C, recorded_choices
from rhn.kernels.newton import Recurrence, linear_scan, solve

SHORT = 64  # steps of the short run
REHEARSED = 16, 32  # steps of the rehearsals
COEFFICIENTS = (
    *(-0.1035, -0.0824, 1.137, -0.06349, 0.2676, -0.1896, -0.176),
    *(0.08913, -0.07838, 0.04392, 0.07863, 0.03851, -0.1036, 0.1314),
)
"""Of `predictors`: of the measures, and of their products with log T."""

STEP, COMPILED_STEP, NUMBER = 16e-6, 0.5e-6, 1e-9
"""Seconds of a step of a loop in Python and in C, and for each number of the recurrent weights and row of the batch."""
ITERATION, ROW, ENTRY, PRODUCT = 1e-3, 4e-7, 1.1e-8, 1e-10
"""Seconds of an iteration; for each step and row; there for an entry of the Jacobian, and for a multiplication of its products."""
FORECAST = 0.02
"""Seconds of a forecast."""
FEWEST, CHECKS = 3, 2
"""Scans that every solution takes, and those beyond its iterations."""


@dataclass(frozen=True)
class ShortRun:
    """Measures of the first steps of a run, the worst of several sequences. Logarithms are of base 10."""

    exponent: float
    """Largest Lyapunov exponent a step (natural logarithm)."""
    log_response: float
    """Of the largest response to errors of size 1 at every step, by the products of Jacobians along the run."""
    log_remainder: float
    """Of the largest difference between a step from the guess and its linearisation at the run."""
    rehearsals: tuple[int, int]
    """Iterations on the first 16 and 32 steps."""

    def numbers(self) -> dict[str, float]:
        """The measures by name."""
        given = asdict(self)
        first, second = given.pop("rehearsals")
        return given | {f"rehearsal_{REHEARSED[0]}": float(first), f"rehearsal_{REHEARSED[1]}": float(second)}

    def iterations(self, T: int) -> float:
        """Iterations expected over T steps; at most T are needed."""
        log = sum(c * p for c, p in zip(COEFFICIENTS, self.predictors(T), strict=True))
        return min(max(math.exp(min(log, 50)), 1.0), float(T))

    def predictors(self, T: int) -> list[float]:
        """Measures that the logarithm of the number of iterations is linear in, and their products with log T.

        The response to the remainder is the error that the first iteration leaves: below 1 it shrinks quadratically.
        """
        error = min(max(self.log_response, -2), 12) + min(max(self.log_remainder, -18), 6)
        base = [1.0, *(math.log(max(k, 1)) for k in self.rehearsals)]
        base += [max(error + 2, 0), max(error, 0), max(error - 1.5, 0), min(max(self.exponent, -1), 0.5)]
        return base + [b * math.log(T / REHEARSED[1]) for b in base]


def measure(recurrence: Recurrence, **options) -> ShortRun:
    """Measure the first steps of a run; options: of `solve` for the rehearsals."""
    short = replace(recurrence, x=recurrence.x[:SHORT])
    states, guess = short.continued(torch.empty_like(short.guess()), 0), short.guess()
    J = short.jacobians(states)
    difference = short.before(guess) - short.before(states)
    linear = states + (J @ difference.unsqueeze(-1)).squeeze(-1)
    rehearsals = tuple(
        solve(replace(short, x=short.x[:steps]), max_iterations=steps, guard=False, **options).iterations
        for steps in REHEARSED
    )
    return ShortRun(
        exponent=_exponent(J),
        log_response=_log(linear_scan(J, _signs(J[..., 0]))),
        log_remainder=_log(short.next(guess) - linear),
        rehearsals=rehearsals,
    )


def _signs(like: Tensor) -> Tensor:
    return torch.randint(2, like.shape, generator=torch.Generator().manual_seed(0)).to(like) * 2 - 1


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


def reason_for_loop(recurrence: Recurrence, depth: int) -> str | None:
    """Why the loop is expected to be faster than Newton's method; None if it is not. Costs are those of a CPU.

    depth: factors of one Jacobian.
    """
    x = recurrence.x
    T, B, N = len(x), recurrence.s0[..., 0].numel(), recurrence.s0.shape[-1]
    if x.device.type != "cpu":
        return "its costs have been measured on CPUs only"
    with recorded_choices() as choices:
        recurrence.run(x[:1], recurrence.s0)
    compiled = any(choice.implementation == C and choice.reason is None for choice in choices)
    loop = T * ((COMPILED_STEP if compiled else STEP) + NUMBER * B * N * N * depth)
    iteration = ITERATION + T * B * (ROW + ENTRY * N * N + PRODUCT * N**3 * depth)
    if (ratio := FEWEST * iteration / loop) > 1:
        return f"{FEWEST} iterations would take {ratio:.2g} times as long as the loop"
    forecast = measure(recurrence).iterations(T)
    if (ratio := ((forecast + CHECKS) * iteration + FORECAST) / loop) > 1:
        return f"{forecast:.0f} iterations are expected, and would take {ratio:.2g} times as long as the loop"
    return None
