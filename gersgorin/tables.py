"""The small table that `gersgorin-plot` prints."""

import math

from gersgorin.plots import shown_steps
from gersgorin.record import DISC_WORDS, SpectrumRecord


def summary_table(record: SpectrumRecord) -> str:
    """A few steps of the run and the mean over all of them, quantity by quantity, in plain text."""
    steps = shown_steps(len(record.norm))
    rows = [
        ("spectral radius", record.spectral_radius),
        ("2-norm", record.norm),
        ("eigenvalue condition", record.eigenvalue_condition),
        ("reach of the discs", record.reach),
        ("looseness (reach/radius)", record.looseness),
        ("rightmost disc edge", record.rightmost_disc),
        ("discs inside unit circle", record.discs_inside_unit_circle),
        ("finite-time exponent", record.finite_time_exponent),
    ]
    length = f"{len(record.norm)} step{'s' * (len(record.norm) > 1)}"
    lines = [f"{record.title}, {record.along}, {length}, {DISC_WORDS[record.discs]}"]
    lines.append(f"{'':<26}" + "".join(f"{f'step {t}':>11}" for t in steps) + f"{'mean':>11}")
    for name, values in rows:
        mean = "" if name.startswith("finite") else f"{number(float(values.mean())):>11}"
        lines.append(f"{name:<26}" + "".join(f"{number(float(values[t])):>11}" for t in steps) + mean)
    bound = float(record.norm_bound)
    of_what = (
        "the cell has no norm_bound" if math.isnan(bound) else "for any input and any state within this run's range"
    )
    lines.append(f"{'bound on the 2-norm':<26}{'none' if math.isnan(bound) else number(bound):>11}  {of_what}")
    lines.append(
        f"{half_life_name(record):<26}{number(abs(record.half_life)):>11}  steps, by the exponent at the last step"
    )
    return "\n".join(lines)


def half_life_name(record: SpectrumRecord) -> str:
    """A shrinking gradient has a half-life, a growing one a doubling time."""
    return "gradient's half-life" if record.half_life >= 0 else "gradient's doubling time"


def number(value: float) -> str:
    """Four significant digits.

    >>> number(0.123456), number(float("inf"))
    ('0.1235', 'inf')
    """
    return f"{value:.4g}"
