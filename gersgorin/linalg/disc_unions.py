"""Unions of discs with real centres: their outline, and the farthest points of the overlap of two.

Discs of a real matrix have real centres, so their union is {x + iy: |y| <= h(x)}. Its outline is a
list of closed polygons, one for each connected component, from left to right: complex vectors in
which the last point equals the first.
"""

import math

import numpy as np


def discs_outline(centers: np.ndarray, radii: np.ndarray, points: int) -> list[np.ndarray]:
    """The outline of a union of discs with real centres, with `points` points on each exposed arc
    at equal angles.

    Since max_i r_i^2 - (x - c_i)^2 = -x^2 + max_i (2 c_i x + r_i^2 - c_i^2), the exposed arcs are
    the upper envelope of n lines (a power diagram on the axis). The envelope is found in one pass
    over the centres in ascending order.

    >>> around, = discs_outline(np.array([0.0]), np.array([1.0]), 3)
    >>> around.round(6).tolist()
    [(-1+0j), 1j, (1+0j), (1-0j), -1j, (-1-0j), (-1+0j)]
    """
    exponent = math.frexp((np.abs(centers) + radii).max())[1]
    # squares then neither overflow nor underflow
    envelope = _upper_envelope(np.ldexp(centers, -exponent), np.ldexp(radii, -exponent))
    ends = [start for _, _, start in envelope[1:]] + [np.inf]
    curves: list[list[np.ndarray]] = []
    reached_end = False
    for (c, r, start), end in zip(envelope, ends, strict=True):
        # relative to the center: a radius may be below its rounding
        low, high = max(start - c, -r), min(end - c, r)
        if low <= high:
            if not reached_end:  # where two arcs meet, neither is below the axis
                curves.append([])
            curves[-1].append(_arc(points, *np.ldexp((c, r, low, high), exponent)))
        reached_end = low <= high and end - c <= r
    uppers = [np.concatenate(arcs) for arcs in curves]
    return [np.concatenate([upper, upper[::-1].conj(), upper[:1]]) for upper in uppers]


def _upper_envelope(centers: np.ndarray, radii: np.ndarray) -> list[tuple[float, float, float]]:
    """(Centre, radius, first x) of each disc that is the highest somewhere, from left to right."""
    # centers that differ by less than the least number are equal here
    order = np.lexsort((radii, centers))
    envelope: list[tuple[float, float, float]] = []
    for c, r in zip(centers[order].tolist(), radii[order].tolist(), strict=True):
        while envelope:
            c0, r0, start0 = envelope[-1]
            # where the squared heights are equal; of equal centers the last has the largest radius
            # and hides the others
            start = (c0 + c) / 2 + (r0 - r) * (r0 + r) / (c - c0) / 2 if c > c0 else -np.inf
            if start > start0:
                break
            envelope.pop()
        else:
            start = -np.inf
        envelope.append((c, r, start))
    return envelope


def _arc(points: int, center: float, radius: float, low: float, high: float) -> np.ndarray:
    """The part of an upper half circle with low <= x - center <= high; a point for radius 0."""
    if radius == 0:
        return np.array([center], dtype=complex)
    start, stop = np.arccos(np.clip([low / radius, high / radius], -1, 1))
    angles = np.linspace(start, stop, points)
    return center + radius * (np.cos(angles) + 1j * np.sin(angles))


def overlap_ends(
    centers: np.ndarray, radii: np.ndarray, their_radii: np.ndarray
) -> tuple[float, float]:
    """Return (largest |z|, largest real part) of the overlap of two unions of n discs with the same
    real centres; all arguments are (n,). The result is exact, and the time grows with n^2.

    On a circle, |z|^2 = r^2 - c^2 + 2 c x is linear in x. In the overlap of two discs it is
    therefore largest at an end of the overlap, or where the two circles cross.

    >>> overlap_ends(np.array([0.0, 3.0]), np.array([4.0, 0.0]), np.array([0.0, 2.0]))
    (4.0, 4.0)
    """
    exponent = math.frexp((np.abs(centers) + np.maximum(radii, their_radii)).max())[1]
    d, r, s = np.ldexp((centers, radii, their_radii), -exponent)
    c, r = d[:, None], r[:, None]
    low, high = np.maximum(c - r, d - s), np.minimum(c + r, d + s)
    with np.errstate(divide="ignore", invalid="ignore"):
        cross = np.nan_to_num(((s - d) * (s + d) - (r - c) * (r + c)) / (2 * (c - d)))
    meet = low <= high
    squares = [
        np.minimum((r - c) * (r + c) + 2 * c * x, (s - d) * (s + d) + 2 * d * x)
        for x in (low, high, cross.clip(low, high))
    ]
    far = np.sqrt(np.max(squares, where=meet, initial=0.0))
    right = high[meet].max(initial=-np.inf)  # no discs meet if they are NaN
    return float(np.ldexp(far, exponent)), float(np.ldexp(right, exponent))
