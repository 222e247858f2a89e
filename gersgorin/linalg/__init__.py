"""Functions of matrices: spectra, inclusion sets, normality, pseudospectra, and products along a
run.
"""

from rhn.utils.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
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
