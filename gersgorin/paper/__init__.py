"""Claims and figures of Zilly et al. (2017)."""
