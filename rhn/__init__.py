"""Recurrent highway networks and their relatives: cells, kernels, data, training, checkpoints.

`import rhn` loads torch and little else; data sets and checkpoints live in `rhn.data` and `rhn.checkpoints`.
"""

from rhn.errors import RhnError
from rhn.version import __version__

__all__ = ["RhnError", "__version__"]
