"""Outlines of sets that mirror at the real axis: {x + iy: |y| <= h(x)}, as our sets of a real
matrix are.

An outline is a list of closed polygons, one for each connected component from left to right:
complex vectors, the first point equal to the last. Units: the matrix's.
"""

import math
from collections.abc import Callable

import numpy as np

# halvings of an interval of the set's size: past float32, and 1e-12 of it in float64
BISECTIONS = 40


def polygon_area(polygons: list[np.ndarray]) -> float:
    """The sum of the areas of closed polygons without self-intersections (the shoelace formula).

    >>> polygon_area([np.array([0, 2, 2 + 1j, 1j, 0])])
    2.0
    """
    return float(sum(abs((p[:-1].conj() * p[1:]).imag.sum()) / 2 for p in polygons))


def binary_scale(size: float) -> float:
    """The power of two that brings a positive size into [1, 2); dividing by it is exact."""
    return math.ldexp(1.0, math.frexp(size)[1] - 1)


def support_corners(support: np.ndarray) -> np.ndarray:
    """The intersections of neighbouring lines Re(e^-it z) = h(t), t in equal steps of a full turn;
    h and corners (..., angles).
    """
    angles = support.shape[-1]
    step = 2 * np.pi / angles
    sideways = (np.roll(support, -1, -1) - support * np.cos(step)) / np.sin(step)
    return (support + 1j * sideways) * np.exp(1j * step * np.arange(angles))


def overlap_ends(
    centers: np.ndarray, radii: np.ndarray, others: np.ndarray, their_radii: np.ndarray
) -> tuple[float, float]:
    """(Largest |z|, largest real part) of the overlap of two unions of n discs with real centers,
    all (n,); exact, in time n^2.

    On a circle |z|^2 = r^2 - c^2 + 2 c x is linear in x, so in the overlap of two discs it is
    largest at an end or where they cross.

    >>> overlap_ends(np.array([0.0]), np.array([5.0]), np.array([3.0, 9.0]), np.array([1.0, 1.0]))
    (4.0, 4.0)
    """
    farthest = max((np.abs(centers) + radii).max(), (np.abs(others) + their_radii).max())
    size = binary_scale(float(farthest))
    c, r, d, s = centers[:, None] / size, radii[:, None] / size, others / size, their_radii / size
    low, high = np.maximum(c - r, d - s), np.minimum(c + r, d + s)
    with np.errstate(divide="ignore", invalid="ignore"):
        cross = np.nan_to_num(((s - d) * (s + d) - (r - c) * (r + c)) / (2 * (c - d)))
    meet = low <= high
    squares = [
        np.minimum((r - c) * (r + c) + 2 * c * x, (s - d) * (s + d) + 2 * d * x)
        for x in (low, high, cross.clip(low, high))
    ]
    far = math.sqrt(max(np.max(squares, axis=0, where=meet, initial=0.0).max(), 0.0))
    return far * size, float(high[meet].max(initial=-np.inf)) * size


def discs_outline(centers: np.ndarray, radii: np.ndarray, points: int) -> list[np.ndarray]:
    """The outline of a union of discs with real centers, `points` on each exposed arc, in equal
    angles.

    max_i r_i^2 - (x - c_i)^2 = -x^2 + max_i (2 c_i x + r_i^2 - c_i^2): the exposed arcs are the
    upper envelope of n lines (a power diagram on the axis), found in one pass over the centers in
    ascending order.
    """
    # squares then neither overflow nor underflow
    scale = binary_scale(float((np.abs(centers) + radii).max()))
    envelope = _upper_envelope(centers / scale, radii / scale)
    ends = [start for _, _, start in envelope[1:]] + [np.inf]
    curves: list[list[np.ndarray]] = []
    reached_end = False
    for (c, r, start), end in zip(envelope, ends, strict=True):
        # relative to the center: a radius may be below its rounding
        low, high = max(start - c, -r), min(end - c, r)
        if low <= high:
            if not reached_end:  # where two arcs meet, neither is below the axis
                curves.append([])
            curves[-1].append(scale * _arc(c, r, low, high, points))
        reached_end = low <= high and end - c <= r
    return [_mirrored(np.concatenate(arcs)) for arcs in curves]


def _upper_envelope(centers: np.ndarray, radii: np.ndarray) -> list[tuple[float, float, float]]:
    """Center, radius and the x from which this disc is the highest, of the discs that are the
    highest somewhere, from left to right.
    """
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


def sampled_outline(
    inside: Callable[[np.ndarray], np.ndarray], centers: np.ndarray, points: int
) -> list[np.ndarray]:
    """The outline of a set within |z| < 2 from its membership function, by bisection.

    Args:
        inside: complex (k,) -> bool (k,); above each x the set is an interval from the real axis,
            or empty.
        centers: real points of the set, at least one in each component; between two of them a gap
            is found where one of the `points` looked at along the axis, or the middle of two
            neighbouring centers, falls into it.
        points: for each component, from end to end in equal angles.
    """
    centers = np.unique(centers)
    axis = np.unique(
        np.concatenate([np.linspace(-2, 2, points), centers, (centers[1:] + centers[:-1]) / 2])
    )
    member = inside(axis + 0j)
    left = np.flatnonzero(~member[:-1] & member[1:])
    right = np.flatnonzero(member[:-1] & ~member[1:])
    starts = _bisect(lambda x: inside(x + 0j), axis[left + 1], axis[left])
    stops = _bisect(lambda x: inside(x + 0j), axis[right], axis[right + 1])
    curves = []
    for start, stop in zip(starts, stops, strict=True):
        middle, half = (start + stop) / 2, (stop - start) / 2
        between = middle - half * np.cos(np.linspace(0, np.pi, points))
        x = np.unique([start, *np.clip(between, start, stop), stop])
        height = _bisect(lambda y, x=x: inside(x + 1j * y), np.zeros_like(x), np.full_like(x, 2))  # type: ignore[misc]
        height[[0, -1]] = 0
        curves.append(_mirrored(x + 1j * height))
    return curves


def _mirrored(upper: np.ndarray) -> np.ndarray:
    """The polygon, clockwise, of points x + i h(x) from left to right and their mirror images."""
    return np.concatenate([upper, upper[::-1].conj(), upper[:1]])


def _arc(center: float, radius: float, low: float, high: float, points: int) -> np.ndarray:
    """The part of an upper half circle with low <= x - center <= high; one point where the radius
    is 0.
    """
    if radius == 0:
        return np.array([center + 0j])
    start, stop = np.arccos(np.clip([low / radius, high / radius], -1, 1))
    angles = np.linspace(start, stop, points)
    return center + radius * (np.cos(angles) + 1j * np.sin(angles))


def _bisect(
    inside: Callable[[np.ndarray], np.ndarray], member: np.ndarray, other: np.ndarray
) -> np.ndarray:
    """Between a member and a non-member, the last member, elementwise."""
    for _ in range(BISECTIONS):
        middle = (member + other) / 2
        is_member = inside(middle)
        member, other = np.where(is_member, middle, member), np.where(is_member, other, middle)
    return member
