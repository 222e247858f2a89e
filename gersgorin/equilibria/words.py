"""Fixed points in plain text."""

import math

from gersgorin.equilibria.record import FixedPoints
from rhn.wording import counted

LISTED = 8  # points that are told, and whose spectra are drawn


def fixed_points_table(points: FixedPoints) -> str:
    """A line a point, the first eight of them."""
    fixed, slow = int((~points.is_slow).sum()), int(points.is_slow.sum())
    counts = f"{counted(fixed, 'fixed point')}, {slow} slow"
    lines = [f"{counts}, from {len(points.starts)} starts ({points.lost} led to none): {points.title}".rstrip(": ")]
    if not len(points.states):
        box = f"none was found in the box of the starts, wider all around by {points.wider:.3g}"
        return f"{lines[0]}\n{box}; the least |F(s) - s| that a start led to is {points.least_residual:.3g}"
    lines.append(f"{'':<20}{'starts':>8}{'residual':>11}{'unstable':>10}{'radius':>9}  slowest time constant")
    for row in points.points()[:LISTED]:
        time = row["slowest_time_constant"]
        steps = "never" if math.isinf(time) else f"{abs(time):.4g} steps{' (grows)' * (time < 0)}"
        numbers = f"{row['found_from']:>8}{row['residual']:>11.2g}{row['unstable']:>10}{row['spectral_radius']:>9.4f}"
        lines.append(f"{row['kind']:<20}{numbers}  {steps}")
    if len(points.states) > LISTED:
        lines.append(f"and {len(points.states) - LISTED} more (all of them with --json)")
    return "\n".join(lines)
