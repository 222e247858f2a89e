"""Outlines of sets {x + iy: |y| <= h(x)}, which are symmetric about the real axis, as the inclusion
sets of a real matrix are.

An outline is a list of closed polygons, one for each connected component, from left to right. A
polygon is a complex vector in which the last point equals the first. Points have the unit of the
matrix.
"""

import math
from collections.abc import Callable

import numpy as np

# halvings of an interval of the set's size: past float32, and 1e-12 of it in float64
BISECTIONS = 40


def polygon_area(polygons: list[np.ndarray]) -> float:
    """The sum of the areas of closed polygons without self-intersections, by the shoelace formula.

    >>> polygon_area([np.array([0, 2, 2 + 1j, 1j, 0])])
    2.0
    """
    return float(sum(abs((p[:-1].conj() * p[1:]).imag.sum()) / 2 for p in polygons))


def binary_scale(size: float) -> float:
    """The power of two by which a positive size must be divided to lie in [1, 2). The division is
    exact.
    """
    return math.ldexp(1.0, math.frexp(size)[1] - 1)


def support_corners(support: np.ndarray) -> np.ndarray:
    """The intersections of neighbouring lines Re(e^-it z) = h(t), for angles t in equal steps of a
    full turn. The argument h and the result are (..., angles).
    """
    angles = support.shape[-1]
    step = 2 * np.pi / angles
    sideways = (np.roll(support, -1, -1) - support * np.cos(step)) / np.sin(step)
    return (support + 1j * sideways) * np.exp(1j * step * np.arange(angles))


def overlap_ends(
    centers: np.ndarray, radii: np.ndarray, others: np.ndarray, their_radii: np.ndarray
) -> tuple[float, float]:
    """Return (largest |z|, largest real part) of the overlap of two unions of n discs with real
    centres; all arguments are (n,). The result is exact, and the time grows with n^2.

    On a circle, |z|^2 = r^2 - c^2 + 2 c x is linear in x. In the overlap of two discs it is
    therefore largest at an end of the overlap, or where the two circles cross.

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
    """The outline of a union of discs with real centres, with `points` points on each exposed arc
    at equal angles.

    Since max_i r_i^2 - (x - c_i)^2 = -x^2 + max_i (2 c_i x + r_i^2 - c_i^2), the exposed arcs are
    the upper envelope of n lines (a power diagram on the axis). The envelope is found in one pass
    over the centres in ascending order.
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
    """(Centre, radius, the x from which this disc is the highest) of each disc that is the highest
    somewhere, from left to right.
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
        inside: the membership function, complex (k,) -> bool (k,). Above each x the set is an
            interval that begins at the real axis, or empty.
        centers: real points of the set, at least one in each component. A gap between two of them
            is found if one of the `points` sampled along the axis, or the middle of two
            neighbouring centres, lies in the gap.
        points: number of points for each component, from end to end at equal angles.
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
    """The clockwise polygon of points x + i h(x), given from left to right, and their mirror
    images.
    """
    return np.concatenate([upper, upper[::-1].conj(), upper[:1]])


def _arc(center: float, radius: float, low: float, high: float, points: int) -> np.ndarray:
    """The part of an upper half circle with low <= x - center <= high; one point if the radius is
    0.
    """
    if radius == 0:
        return np.array([center + 0j])
    start, stop = np.arccos(np.clip([low / radius, high / radius], -1, 1))
    angles = np.linspace(start, stop, points)
    return center + radius * (np.cos(angles) + 1j * np.sin(angles))


def _bisect(
    inside: Callable[[np.ndarray], np.ndarray], member: np.ndarray, other: np.ndarray
) -> np.ndarray:
    """Find the last member between a member and a non-member, elementwise."""
    for _ in range(BISECTIONS):
        middle = (member + other) / 2
        is_member = inside(middle)
        member, other = np.where(is_member, middle, member), np.where(is_member, other, middle)
    return member
