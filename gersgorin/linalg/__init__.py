"""Functions of matrices: spectra, inclusion sets, normality, pseudospectra, and products along a
run.
"""

from rhn.utils.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "discs": ("Discs", "gersgorin_discs", "numerical_radius"),
        "inclusion": ("in_brauer_ovals", "in_minimal_gersgorin_set", "in_ostrowski_discs"),
        "singular_values": ("pseudospectrum",),
        "spectrum": (
            "departure_from_normality",
            "doubling_time",
            "eigenvalue_conditions",
            "eigenvalues",
            "half_life",
            "jacobian_product",
        ),
    },
)
