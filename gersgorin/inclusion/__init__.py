"""Regions of the complex plane that hold a matrix's spectrum, one a file; `INCLUSION_SETS` names them all."""

from gersgorin.inclusion.base import InclusionSet
from gersgorin.inclusion.brauer import Brauer
from gersgorin.inclusion.gersgorin import GersgorinColumn, GersgorinRow
from gersgorin.inclusion.minimal import MinimalGersgorin
from gersgorin.inclusion.numerical_range import NumericalRange
from gersgorin.inclusion.ostrowski import Ostrowski

INCLUSION_SETS: dict[str, type[InclusionSet]] = {
    "gersgorin-row": GersgorinRow,
    "gersgorin-column": GersgorinColumn,
    "ostrowski": Ostrowski,
    "brauer": Brauer,
    "minimal": MinimalGersgorin,
    "numerical-range": NumericalRange,
}

__all__ = [
    "INCLUSION_SETS",
    "Brauer",
    "GersgorinColumn",
    "GersgorinRow",
    "InclusionSet",
    "MinimalGersgorin",
    "NumericalRange",
    "Ostrowski",
]
