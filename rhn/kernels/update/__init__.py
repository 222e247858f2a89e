"""Gradient descent of K stacked models: the gradient's norm, and a step down it."""

from rhn.kernels.update.one_pass import descend, gradient_norm
from rhn.kernels.update.reference import descend_reference, gradient_norm_reference, sums

__all__ = ["descend", "descend_reference", "gradient_norm", "gradient_norm_reference", "sums"]
