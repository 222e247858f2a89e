"""The classes of all results, and `load`, which reads any of them from the file that its `save`
wrote.
"""

from importlib import import_module
from pathlib import Path

from rhn.errors import DataError
from rhn.utils import old
from rhn.utils.io import arrays_of
from rhn.utils.lazy import lazy_names
from rhn.utils.old import Result as Result

HOMES = {
    "analyses.influence": ("Influence",),
    "analyses.fixed_points": ("FixedPoints",),
    "analyses.steps": ("Gains", "MeanGates", "Products"),
    "analyses.lyapunov": ("LyapunovSpectrum",),
    "analyses.pseudospectra": ("Pseudospectra",),
    "analyses.spectra": ("Spectra",),
    "analyses.bands": ("Comparison",),
    "comparison": ("SideBySide",),
    "recording": ("Recording",),
}

__all__, __getattr__, __dir__ = lazy_names("gersgorin", HOMES)


def load(path: str | Path) -> Result:
    """Read a saved result of any kind from its .npz file, including those of `analysis`. Raises
    DataError for other files.

    >>> import tempfile, torch
    >>> from gersgorin import gains
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = gains(torch.nn.RNN(3, 4), torch.rand(5, 3)).save(f"{folder}/gains.npz")
    ...     print(load(file).kind)
    gains
    """
    with arrays_of(path, Result.writer) as arrays:
        if old.KIND not in arrays and "states" in arrays:
            raise DataError(
                f"{path} holds a run, not a result: numpy.load reads its inputs, states and weights"
            )
    for home in HOMES:
        import_module(f"gersgorin.{home}")
    from analysis.damage import LesionTable  # noqa: F401 (registers it, and with it GateActivity)

    return old.load_result(path)
