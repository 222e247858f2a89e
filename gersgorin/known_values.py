"""Known values: numbers with a closed form or from the literature, each beside what this package
measures on this machine, with the calls of a user.

A new row is a function below a line `@known(...)`. Its allowance is written before the run:

    rounding               of some operations on numbers of this size
    length of the run      four standard deviations over runs from other first states
    size of the sample     four standard deviations over samples; more for a finite number of units
    angles of the bound    an upper bound from 128 angles, at most 1 / cos(pi / 128) too large
    digits                 of the published number
    size of the step       of the method of Runge and Kutta
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

import gersgorin
from gersgorin import linalg
from gersgorin.analyses.fixed_points import FixedPoints
from gersgorin.analyses.influence import LARGEST_LAG, Influence
from gersgorin.analyses.spectra import CONDITION, DEPARTURE, Spectra
from gersgorin.growth import HALF_LIFE
from rhn.cells import RHN
from rhn.utils.progress import Progress, reported
from rhn.utils.tables import aligned, formatted

CASE, SOURCE, KNOWN, MEASURED = "case", "source", "known", "measured"
DIFFERENCE, ALLOWANCE, BECAUSE = "difference", "allowance", "allowed for"
COLUMNS = (CASE, SOURCE, KNOWN, MEASURED, DIFFERENCE, ALLOWANCE, BECAUSE)
WITHIN, BEYOND = "within their allowances", "beyond"
ROUNDING, LENGTH, SAMPLE, DIGITS = "rounding", "length of the run", "size of the sample", "digits"
ANGLES, STEP = "angles of the bound", "size of the step"
HENON = (0.41922, math.log(0.3))  # its largest exponent, and the sum of both
GOLDEN = (3 + math.sqrt(5)) / 2
GRCAR = 2.85216  # the 1e-4-pseudospectral radius of Grcar's matrix of 100 rows

d = torch.float64


@dataclass(frozen=True)
class KnownValue:
    """A row of the table: a number that is known, and the function that measures it."""

    case: str
    source: str
    known: float
    allowance: float
    because: str
    measure: Callable[[], float]


class Measured(NamedTuple):
    """A known value and what was measured."""

    row: KnownValue
    measured: float

    @property
    def difference(self) -> float:
        return self.measured - self.row.known

    @property
    def is_within(self) -> bool:
        return abs(self.difference) <= self.row.allowance  # False for NaN


CASES = list[KnownValue]()


def known(
    case: str, source: str, value: float, allowance: float, because: str
) -> Callable[[Callable[[], float]], Callable[[], float]]:
    """Add the function below this line to the table."""

    def add(measure: Callable[[], float]) -> Callable[[], float]:
        CASES.append(KnownValue(case, source, value, allowance, because, measure))
        return measure

    return add


def measured_values(progress: Progress = None) -> list[Measured]:
    """Measure all known values."""
    found = list[Measured]()
    with reported(progress, "known-values", total=len(CASES)) as advance:
        for row in CASES:
            found.append(Measured(row, row.measure()))
            advance(len(found), len(CASES))
    return found


def table(found: Sequence[Measured]) -> str:
    """Format the rows, and the number of values beyond their allowances."""
    lines = [list(COLUMNS)]
    for each in found:
        row = each.row
        numbers = (row.known, each.measured, each.difference, row.allowance)
        lines.append(
            [row.case, row.source, *(formatted(number, ".6g") for number in numbers), row.because]
        )
    within = sum(each.is_within for each in found)
    counts = f"{within} {WITHIN}, {len(found) - within} {BEYOND}"
    return "\n".join([*aligned(lines), "", counts])


def of_matrices(*matrices: Tensor) -> Spectra:
    """The spectra of s[t] = A[t] s[t-1]."""
    n = len(matrices[0])
    rows = torch.stack(matrices).flatten(1).double()
    return gersgorin.spectra(lambda a, s: a.view(n, n) @ s, rows, state_size=n)


def steps(count: int) -> Tensor:
    """Inputs of a step that reads none."""
    return torch.zeros(count, 1, dtype=d)


def henon(x: Tensor, s: Tensor) -> Tensor:
    return torch.stack((1 - 1.4 * s[0] ** 2 + s[1], 0.3 * s[0]))


def lorenz(x: Tensor, s: Tensor) -> Tensor:
    """A step of 0.02 time units of Lorenz's system, by Runge and Kutta."""

    def slope(v: Tensor) -> Tensor:
        a, b, c = v.unbind()
        return torch.stack((10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c))

    h, first = 0.02, slope(s)
    second = slope(s + h / 2 * first)
    third = slope(s + h / 2 * second)
    return s + h / 6 * (first + 2 * second + 2 * third + slope(s + h * third))


def logistic(rate: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, s: rate * s * (1 - s)


def of_logistic(period: int) -> FixedPoints:
    """The points of the logistic map at the rate 3.2 between 0.1 and 0.9."""
    starts = torch.linspace(0.1, 0.9, 9, dtype=d)[:, None]
    return gersgorin.fixed_points(logistic(3.2), steps(1)[0], starts=starts, period=period)


def highway(transform_bias: float) -> RHN:
    """An RHN of depth 2 with gates that are shut or open, and h = tanh(s / 2) in both layers."""
    cell = RHN(1, 4, 2, transform_bias=transform_bias, dtype=d)
    with torch.no_grad():
        cell.weight_ih.zero_()
        cell.weight_hh.zero_()
        cell.weight_hh[:, :4] = 0.5 * torch.eye(4)
        cell.bias[:, :4] = 0
    return cell


@known("RHN, c = 1, t = 0: spectral radius", "Zilly et al. 2017", 1.0, 0, ROUNDING)
def shut_gates() -> float:
    return gersgorin.spectra(highway(-1000.0), steps(5)).spectral_radius.max()


@known("RHN, c = 1, t = 0: radii of the discs", "Zilly et al. 2017", 0.0, 0, ROUNDING)
def shut_discs() -> float:
    return gersgorin.spectra(highway(-1000.0), steps(5)).row_radii.max()


@known(
    "RHN, c = 0, t = 1: eigenvalue of H'2 H'1",
    "Zilly et al. 2017",
    0.25,
    1e-15,
    ROUNDING,
)
def open_gates() -> float:
    return gersgorin.spectra(highway(1000.0), steps(5)).spectral_radius.max()


@known(
    "layers outside equation 14 as printed (share)",
    "gallery: 29 of 2,000",
    0.0145,
    0.0115,
    SAMPLE,
)
def printed_equation() -> float:
    jacobians, printed = random_layers(2000)
    outside = ~linalg.gersgorin_discs(printed).contains(linalg.eigenvalues(jacobians), 1e-6)
    return outside.any(-1).double().mean().item()


@known("the same with transposed derivatives (share)", "Geršgorin 1931", 0.0, 0, ROUNDING)
def corrected_equation() -> float:
    jacobians, _ = random_layers(2000)
    outside = ~linalg.gersgorin_discs(jacobians).contains(linalg.eigenvalues(jacobians))
    return outside.any(-1).double().mean().item()


def random_layers(count: int) -> tuple[Tensor, Tensor]:
    """The Jacobians of uncoupled highway layers of 4 units with standard normal weights and biases,
    and the matrices of equation 14 as printed, (count, 4, 4) each.
    """
    generator = torch.Generator().manual_seed(2017)

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, dtype=d, generator=generator)

    s = normal(4).tanh()
    weights = [normal(4, 4) for _ in range(3)]
    z = [(R @ s[..., None])[..., 0] + normal(4) for R in weights]
    h, t, c = z[0].tanh(), z[1].sigmoid(), z[2].sigmoid()
    slopes, factors = (1 - h * h, t * (1 - t), c * (1 - c)), (t, h, s)
    jacobians, printed = c.diag_embed(), c.diag_embed()
    for R, slope, factor in zip(weights, slopes, factors, strict=True):
        derivative = slope[..., None] * R
        jacobians = jacobians + factor[..., None] * derivative
        printed = printed + factor[..., None] * derivative.mT
    return jacobians, printed


@known(
    "two steps of radius 0: norm of the product",
    "[[0, 2], [0, 0]], transpose",
    4.0,
    1e-14,
    ROUNDING,
)
def nilpotent() -> float:
    N = torch.tensor([[0.0, 2.0], [0.0, 0.0]])
    return math.exp(of_matrices(N, N.T).log_norm_product[-1])


@known("two steps of radius 2: norm of the product", "diag(2, 0) and diag(0, 2)", 0.0, 0, ROUNDING)
def vanishing() -> float:
    D = torch.diag(torch.tensor([2.0, 0.0]))
    return math.exp(of_matrices(D, D.flip(0, 1)).log_norm_product[-1])


@known("[[2, -1, -1], ...]: modulus in the discs", "definition", 4.0, 0, ROUNDING)
def discs() -> float:
    A = torch.tensor([[2.0, -1.0, -1.0], [-1.0, 2.0, -1.0], [-1.0, -1.0, 2.0]])
    return of_matrices(A).row_reach.max()


@known("rows (-1, 2, -1): spectral radius", "2 + sqrt(2)", 2 + math.sqrt(2), 1e-14, ROUNDING)
def tridiagonal() -> float:
    A = torch.tensor([[2.0, -1.0, 0.0], [-1.0, 2.0, -1.0], [0.0, -1.0, 2.0]])
    return of_matrices(A).spectral_radius.max()


@known("400 random units, g = 0.5: radius / g", "Girko 1985", 1.0, 0.1, SAMPLE)
def radius_of_random_weights() -> float:
    W = random_weights(400, 0.5)
    return (
        gersgorin.spectra(
            lambda x, s: torch.tanh(W @ s), steps(1), state_size=400
        ).spectral_radius.max()
        / 0.5
    )


@known(
    "200 random units, g = 2: largest exponent",
    "mean field: Molgedey et al. 1992",
    0.154724,
    0.06,
    SAMPLE,
)
def chaotic_network() -> float:
    W = random_weights(200, 2.0)
    s0 = torch.randn(200, dtype=d, generator=torch.Generator().manual_seed(1992))

    def step(x: Tensor, s: Tensor) -> Tensor:
        return torch.tanh(W @ s)

    return gersgorin.lyapunov(step, steps(300), s0, count=1, warmup=100).exponents[0]


def random_weights(n: int, g: float) -> Tensor:
    """Normal weights (n, n) of the standard deviation g / sqrt(n)."""
    generator = torch.Generator().manual_seed(1988)
    return g * torch.randn(n, n, dtype=d, generator=generator) / math.sqrt(n)


@known(
    "[[1, 1], [0, 1]]: departure from normality",
    "1 / sqrt(3)",
    3**-0.5,
    1e-15,
    ROUNDING,
)
def share_of_the_triangle() -> float:
    return of_matrices(torch.tensor([[1.0, 1.0], [0.0, 1.0]])).table()[DEPARTURE][0]


@known(
    "[[1, 1], [0, 2]]: eigenvalue condition",
    "sqrt(2)",
    math.sqrt(2),
    1e-14,
    ROUNDING,
)
def condition() -> float:
    return of_matrices(torch.tensor([[1.0, 1.0], [0.0, 2.0]])).table()[CONDITION][0]


@known(
    "Jordan block of 8: numerical radius",
    "cos(pi / 9)",
    math.cos(math.pi / 9),
    3e-4,
    ANGLES,
)
def jordan_block() -> float:
    return linalg.numerical_radius(torch.diag(torch.ones(7, dtype=d), 1)).item()


@known(
    "Grcar(100): sigma_min(z - A), |z| = 2.85216",
    "Guglielmi and Overton 2011",
    1e-4,
    1e-7,
    DIGITS,
)
def grcar() -> float:
    n = 100
    A = sum(torch.diag(torch.ones(n - k, dtype=d), k) for k in range(4))
    A = A - torch.diag(torch.ones(n - 1, dtype=d), -1)
    scaled = (A / GRCAR).flatten()[None]
    found = gersgorin.pseudospectra(
        lambda a, s: a.view(n, n) @ s, scaled, state_size=n, side=3, steps=[0]
    )
    return GRCAR * found.to_circle.min()


@known(
    "diag(0.9, 0.5): half-life (steps)",
    "log(1/2) / log(0.9)",
    math.log(0.5) / math.log(0.9),
    1e-12,
    ROUNDING,
)
def half_life_of_a_diagonal() -> float:
    A = torch.diag(torch.tensor([0.9, 0.5], dtype=d))
    return of_matrices(*[A] * 20).table()[HALF_LIFE]


@known("logistic map, r = 4: exponent", "log 2", math.log(2), 0.005, LENGTH)
def logistic_exponent() -> float:
    s0 = torch.tensor([0.3], dtype=d)
    return gersgorin.lyapunov(logistic(4.0), steps(2000), s0, warmup=100).exponents[0]


@known("tent map, slopes 1.9: exponent", "log 1.9", math.log(1.9), 1e-12, ROUNDING)
def tent_exponent() -> float:
    def tent(x: Tensor, s: Tensor) -> Tensor:
        return 1.9 * torch.minimum(s, 1 - s)

    return gersgorin.lyapunov(tent, steps(500), torch.tensor([0.3], dtype=d)).exponents[0]


@known("cat map: largest exponent", "log((3 + sqrt 5) / 2)", math.log(GOLDEN), 0.01, LENGTH)
def cat_exponent() -> float:
    A = torch.tensor([[2.0, 1.0], [1.0, 1.0]], dtype=d)

    def step(x: Tensor, s: Tensor) -> Tensor:
        return torch.remainder(A @ s, 1.0)

    return gersgorin.lyapunov(step, steps(500), torch.tensor([0.1, 0.2], dtype=d)).exponents[0]


@known("Henon: largest exponent", "Sprott 2003", HENON[0], 0.03, LENGTH)
def henon_exponent() -> float:
    return gersgorin.lyapunov(henon, steps(3000), steps(2)[:, 0], warmup=300).exponents[0]


@known("Henon: sum of the exponents", "log 0.3", HENON[1], 1e-12, ROUNDING)
def henon_sum() -> float:
    return gersgorin.lyapunov(henon, steps(500), steps(2)[:, 0]).sum


@known("Lorenz: largest exponent (1 / time unit)", "Sprott 2003", 0.9056, 0.09, LENGTH)
def lorenz_exponent() -> float:
    s0 = torch.tensor([1.0, 1.0, 20.0], dtype=d)
    found = gersgorin.lyapunov(lorenz, steps(6000), s0, count=1, warmup=500)
    return found.exponents[0] / 0.02


@known(
    "Lorenz: sum of the exponents (1 / time unit)",
    "-(10 + 1 + 8/3)",
    -41 / 3,
    0.01,
    STEP,
)
def lorenz_sum() -> float:
    s0 = torch.tensor([1.0, 1.0, 20.0], dtype=d)
    return gersgorin.lyapunov(lorenz, steps(500), s0).sum / 0.02


@known("Gaussian products, n = 8: largest exponent", "Newman 1986", 0.974632, 0.024, SAMPLE)
def gaussian_largest() -> float:
    return gaussian_products()[0]


@known("Gaussian products, n = 8: smallest exponent", "Newman 1986", -0.635181, 0.1, SAMPLE)
def gaussian_smallest() -> float:
    return gaussian_products()[-1]


def gaussian_products() -> Sequence[float]:
    generator = torch.Generator().manual_seed(1986)
    rows = torch.randn(2000, 64, dtype=d, generator=generator)
    found = gersgorin.lyapunov(lambda a, s: a.view(8, 8) @ s, rows, state_size=8)
    return found.exponents.tolist()


@known("logistic map, r = 3.2: fixed point", "1 - 1 / r", 0.6875, 1e-14, ROUNDING)
def logistic_point() -> float:
    return of_logistic(1).states.max()


@known("logistic map, r = 3.2: its multiplier", "2 - r", -1.2, 1e-13, ROUNDING)
def logistic_multiplier() -> float:
    found = of_logistic(1)
    return found.eigenvalues[found.states.argmax(), 0].real


@known(
    "logistic map, r = 3.2: point of a cycle of 2",
    "root of F(F(s)) = s",
    (4.2 + math.sqrt(0.84)) / 6.4,
    1e-13,
    ROUNDING,
)
def cycle_point() -> float:
    return of_logistic(2).states.max()


@known("logistic map, r = 3.2: multiplier of the cycle", "4 + 2 r - r^2", 0.16, 1e-12, ROUNDING)
def cycle_multiplier() -> float:
    return of_logistic(2).eigenvalues[0, 0].real


class Delay(nn.Module):
    """y[t] = x[t - 3]."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((torch.zeros_like(x[:3]), x[:-3]))


@known("y[t] = x[t - 3]: lag of the largest influence", "definition", 3.0, 0, ROUNDING)
def delay_lag() -> float:
    return influence_of_delay().table()[LARGEST_LAG]


@known("y[t] = x[t - 3]: its influence", "definition", 1.0, 1e-15, ROUNDING)
def delay_influence() -> float:
    return influence_of_delay().influence.max()


def influence_of_delay() -> Influence:
    return gersgorin.influence(
        Delay(), torch.linspace(0, 1, 12, dtype=d)[:, None, None], batch_first=False
    )
