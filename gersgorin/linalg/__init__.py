"""Functions of matrices: spectra, inclusion sets, normality, pseudospectra, and products along a
run.
"""

from rhn.utils.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "discs": ("Discs", "gersgorin_discs"),
        "inclusion": (
            "INCLUSION_SETS",
            "Brauer",
            "InclusionSet",
            "MinimalGersgorin",
            "NumericalRange",
            "Ostrowski",
            "numerical_radius",
        ),
        "products": (
            "cumulative_log_norms",
            "finite_time_exponent",
            "doubling_time",
            "half_life",
            "jacobian_product",
        ),
        "singular_values": ("pseudospectrum",),
        "spectrum": (
            "departure_from_normality",
            "eigenvalue_conditions",
            "eigenvalues",
            "spectral_radius",
        ),
    },
)
