"""The recurrent highway layer over time (Zilly et al. 2017, equations 6-9)."""

from rhn.kernels.highway.manual import highway
from rhn.kernels.highway.reference import highway_reference

__all__ = ["highway", "highway_reference"]
