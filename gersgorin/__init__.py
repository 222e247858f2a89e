"""Temporal Jacobians, spectra and inclusion sets of recurrent cells, and what their products do over time.

A = temporal_jacobian(cell, x, s)           d s'_i / d s_j of one step, for any cell or callable
eigenvalues(A), gersgorin_discs(A)          where one step's gradient could go
jacobian_product(A), finite_time_exponent   what many steps together do
"""

from gersgorin.discs import Discs, gersgorin_discs
from gersgorin.dynamics import (
    cumulative_log_norms,
    finite_time_exponent,
    half_life,
    jacobian_product,
    lyapunov_exponents,
)
from gersgorin.jacobian import norm_bound, temporal_jacobian, trajectory
from gersgorin.spectrum import eigenvalue_conditions, eigenvalues, spectral_radius

__all__ = [
    "Discs",
    "cumulative_log_norms",
    "eigenvalue_conditions",
    "eigenvalues",
    "finite_time_exponent",
    "gersgorin_discs",
    "half_life",
    "jacobian_product",
    "lyapunov_exponents",
    "norm_bound",
    "spectral_radius",
    "temporal_jacobian",
    "trajectory",
]
