"""Functions of matrices: spectra, inclusion sets, normality, pseudospectra, and products along a
run.
"""

from typing import TYPE_CHECKING

from rhn.utils.lazy import lazy_names

if TYPE_CHECKING:
    from gersgorin.linalg.discs import Discs as Discs
    from gersgorin.linalg.discs import gersgorin_discs as gersgorin_discs
    from gersgorin.linalg.inclusion import in_brauer_ovals as in_brauer_ovals
    from gersgorin.linalg.inclusion import in_minimal_gersgorin_set as in_minimal_gersgorin_set
    from gersgorin.linalg.inclusion import in_ostrowski_discs as in_ostrowski_discs
    from gersgorin.linalg.jacobian_products import doubling_time as doubling_time
    from gersgorin.linalg.jacobian_products import half_life as half_life
    from gersgorin.linalg.jacobian_products import jacobian_product as jacobian_product
    from gersgorin.linalg.numerical_range import numerical_radius as numerical_radius
    from gersgorin.linalg.singular_values import pseudospectrum as pseudospectrum
    from gersgorin.linalg.spectrum import departure_from_normality as departure_from_normality
    from gersgorin.linalg.spectrum import eigenvalue_conditions as eigenvalue_conditions
    from gersgorin.linalg.spectrum import eigenvalues as eigenvalues

__all__, _load, __dir__ = lazy_names(
    __name__,
    {
        "discs": ("Discs", "gersgorin_discs"),
        "inclusion": ("in_brauer_ovals", "in_minimal_gersgorin_set", "in_ostrowski_discs"),
        "jacobian_products": ("doubling_time", "half_life", "jacobian_product"),
        "numerical_range": ("numerical_radius",),
        "singular_values": ("pseudospectrum",),
        "spectrum": ("departure_from_normality", "eigenvalue_conditions", "eigenvalues"),
    },
)
if not TYPE_CHECKING:  # a name outside the table is an error
    __getattr__ = _load
