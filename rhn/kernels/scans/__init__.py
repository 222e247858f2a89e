"""Recurrences that are linear in their state and mix no units but in pairs: the minGRU's (gated) and the LRU's (turned)."""

from rhn.kernels.scans.manual import gated_scan, turned_scan
from rhn.kernels.scans.reference import gated_scan_reference, turned_scan_reference

__all__ = ["gated_scan", "gated_scan_reference", "turned_scan", "turned_scan_reference"]
