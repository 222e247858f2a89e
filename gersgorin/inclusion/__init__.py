"""Regions of the complex plane that hold a matrix's spectrum, one a file; `INCLUSION_SETS` names them all."""

from collections.abc import Callable
from functools import partial

from gersgorin.inclusion.base import InclusionSet
from gersgorin.inclusion.blocks import BlockGersgorin
from gersgorin.inclusion.brauer import Brauer
from gersgorin.inclusion.minimal import MinimalGersgorin
from gersgorin.inclusion.numerical_range import NumericalRange
from gersgorin.inclusion.ostrowski import Ostrowski

INCLUSION_SETS: dict[str, Callable[..., InclusionSet]] = {
    "gersgorin-row": partial(Ostrowski, alpha=1),
    "gersgorin-column": partial(Ostrowski, alpha=0),
    "ostrowski": Ostrowski,
    "brauer": Brauer,
    "minimal": MinimalGersgorin,
    "numerical-range": NumericalRange,
    "block-halves": BlockGersgorin,
}

__all__ = [
    "INCLUSION_SETS",
    "BlockGersgorin",
    "Brauer",
    "InclusionSet",
    "MinimalGersgorin",
    "NumericalRange",
    "Ostrowski",
]
