"""Temporal Jacobians, spectra and inclusion sets of recurrent cells, and what their products do over time."""

from gersgorin.jacobian import norm_bound, temporal_jacobian, trajectory

__all__ = ["norm_bound", "temporal_jacobian", "trajectory"]
