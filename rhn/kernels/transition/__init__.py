"""The deep transition over time, with or without shortcuts from the previous state (Pascanu et al. 2013); L = 1 is the plain RNN."""

from rhn.kernels.transition.manual import deep_transition
from rhn.kernels.transition.reference import deep_transition_reference

__all__ = ["deep_transition", "deep_transition_reference"]
