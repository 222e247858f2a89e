"""The base class of results with a figure, and `load`, which reads any result from the file that
its `save` wrote. This module does not import torch.
"""

import json
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rhn.errors import DataError
from rhn.utils.io import arrays_of, read_json
from rhn.utils.results import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

HOMES = {
    "Comparison": "gersgorin.analyses.compare",
    "FixedPoints": "gersgorin.analyses.fixed_points",
    "Gains": "gersgorin.analyses.gains",
    "GateActivity": "analysis.activity",
    "Influence": "gersgorin.analyses.influence",
    "LesionTable": "analysis.damage",
    "LyapunovSpectrum": "gersgorin.analyses.lyapunov",
    "MeanGates": "gersgorin.analyses.gates",
    "Products": "gersgorin.analyses.products",
    "Pseudospectra": "gersgorin.analyses.pseudospectra",
    "Recording": "gersgorin.recording",
    "Spectra": "gersgorin.analyses.spectra",
}
"""The module of each class of results."""


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class FigureResult(Result):
    """Numbers of one analysis, and their figure."""

    def figure(
        self, title: str | None = None, *, size: str | float = "page", source: str = "", **how: Any
    ) -> "Figure":
        """Draw the result in a figure of its own.

        title: None: network, data, and at most two numbers. size: "page", "column", "slide", or the
        width in inches. source: the footer. how: arguments of `draw`.
        """
        from gersgorin.analyses.panels import composed  # loads matplotlib

        title = self.figure_title() if title is None else title
        return composed(partial(self.draw, **how), title, size, source)

    def figure_title(self) -> str:
        """The usual title of the figure."""
        return "\n".join(self.title())

    def draw(self, part: "SubFigure", *args: Any, **how: Any) -> float:
        """Draw all panels into a part of a figure. Returns the height that they need, in inches."""
        raise NotImplementedError


def load(path: str | Path) -> Any:
    """Read a result from a .json or .npz file that its `save` wrote, including those of `analysis`.
    Raises DataError for any other file.

    >>> import tempfile, torch
    >>> from gersgorin import gains
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = gains(torch.nn.RNN(3, 4), torch.rand(5, 3)).save(f"{folder}/gains.npz")
    ...     print(type(load(file)).__name__)
    Gains
    """
    try:
        module, name = _class_in(Path(path))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{path} was not written by save() of a result: {error}") from error
    return getattr(import_module(module), name).load(path)


def _class_in(path: Path) -> tuple[str, str]:
    """The module and the name of the class of the result in a file."""
    if path.suffix.lower() == ".json":
        name = read_json(path)["result"]
    else:
        with arrays_of(path, "save()") as arrays:
            name = json.loads(str(arrays["result"]))["result"]
    return HOMES[name], name
