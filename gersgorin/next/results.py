"""`load`: read any result from the file that its `save` wrote."""

import json
from importlib import import_module
from pathlib import Path

from rhn.errors import DataError
from rhn.utils.io import arrays_of, read_json
from rhn.utils.results import Result

HOMES = {
    "analyses.compare": ("Comparison",),
    "analyses.fixed_points": ("FixedPoints",),
    "analyses.gains": ("Gains",),
    "analyses.gates": ("MeanGates",),
    "analyses.influence": ("Influence",),
    "analyses.lyapunov": ("LyapunovSpectrum",),
    "analyses.products": ("Products",),
    "analyses.pseudospectra": ("Pseudospectra",),
    "analyses.spectra": ("Spectra",),
    "recording": ("Recording",),
}
"""The classes of results in each module."""


def load(path: str | Path) -> Result:
    """Read a result of any class from a .json or .npz file that its `save` wrote. Raises DataError
    for any other file.

    >>> import tempfile, torch
    >>> from gersgorin.next import gains
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = gains(torch.nn.RNN(3, 4), torch.rand(5, 3)).save(f"{folder}/gains.npz")
    ...     print(type(load(file)).__name__)
    Gains
    """
    try:
        if Path(path).suffix.lower() == ".npz":
            with arrays_of(path, "save()") as arrays:
                name = json.loads(str(arrays["result"]))["result"]
        else:
            name = read_json(path)["result"]
        home = next(module for module, classes in HOMES.items() if name in classes)
    except (OSError, ValueError, LookupError, TypeError, StopIteration) as error:
        raise DataError(f"{path} was not written by save() of a result: {error}") from error
    return getattr(import_module(f"gersgorin.next.{home}"), name).load(path)
