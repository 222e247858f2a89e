"""The same discs by python-flint, whose ball arithmetic (Arb, F. Johansson) works at any precision: where float64 leaves clusters.

The one door to python-flint, an optional package: `pip install rhn-toolkit[verified]`.
"""

import importlib.util

import numpy as np

from gersgorin.certified.rounding import above
from rhn.errors import InvalidInputError

PRECISIONS = (64, 128, 256, 512)  # bits
LARGEST = 128  # rows: beyond, minutes a matrix


def has_flint() -> bool:
    """Whether python-flint is installed."""
    return importlib.util.find_spec("flint") is not None


def flint_discs(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres (n,) complex and radii (n,) as `float64_discs` gives them, each disc isolated where the eigenvalues are simple.

    Multiple eigenvalues, which no precision parts, come as equal discs; radii are inf where even these are not found.

    Raises:
        InvalidInputError: python-flint is not installed.
    """
    if not has_flint():
        raise InvalidInputError("python-flint is not installed: pip install python-flint, or use method='float64'")
    import flint

    exact = flint.acb_mat([[complex(value) for value in row] for row in A])
    before = flint.ctx.prec
    try:
        for flint.ctx.prec in PRECISIONS:
            try:
                return _discs(exact.eig())
            except ValueError:  # not isolated at this precision
                continue
        try:
            return _discs(exact.eig(multiple=True))
        except ValueError:
            return np.diag(A).astype(complex), np.full(len(A), np.inf)
    finally:
        flint.ctx.prec = before


def _discs(balls) -> tuple[np.ndarray, np.ndarray]:
    """Arb's boxes as discs about float64 centres, rounded outwards."""
    import flint

    centers = [complex(float(z.real.mid()), float(z.imag.mid())) for z in balls]
    far = [float((z - flint.acb(c)).abs_upper()) for z, c in zip(balls, centers, strict=True)]
    return np.array(centers), np.nan_to_num(above(np.array(far), 4), nan=np.inf)
