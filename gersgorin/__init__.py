"""Temporal Jacobians, spectra and inclusion sets of recurrent cells, and what their products do over time.

A = temporal_jacobian(cell, x, s)           d s'_i / d s_j of one step, for any cell or callable
eigenvalues(A), gersgorin_discs(A)          where one step's gradient could go
jacobian_product(A), finite_time_exponent   what many steps together do
plateau(model, sequences)                   how slowly a network with small weights begins to learn
"""

from rhn.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "discs": ("Discs", "gersgorin_discs"),
        "dynamics": (
            "cumulative_log_norms",
            "finite_time_exponent",
            "half_life",
            "jacobian_product",
            "lyapunov_exponents",
        ),
        "jacobian": ("input_jacobian", "layer_jacobians", "norm_bound", "temporal_jacobian", "trajectory"),
        "objective": ("Objective",),
        "recorder": ("Recorder",),
        "recording": ("Recording",),
        "saddle.measure": ("plateau",),
        "spectrum": ("eigenvalue_conditions", "eigenvalues", "spectral_radius"),
    },
)
