"""The analyses: one row for each, from which follow the names of `gersgorin`, the classes that
`load` reads, and the commands. This module does not import torch.
"""

from typing import NamedTuple


class Analysis(NamedTuple):
    """An analysis: its command, its function and its result."""

    command: str
    """The subcommand of `gersgorin`. If `about` is "", its options are those of the class of this
    name in `gersgorin.cli.subcommands`: LyapunovCommand for lyapunov.
    """
    place: str
    """The function, as module:name; modules are those of gersgorin."""
    result: str
    """The class of the result, in the same module."""
    about: str = ""
    """The first line of the help of a command without options of its own."""
    example: str = ""
    """A command line for this help."""

    @property
    def module(self) -> str:
        """The module of the function and of the result, as a name within gersgorin."""
        return self.place.partition(":")[0]

    @property
    def function(self) -> str:
        """The name of the function."""
        return self.place.partition(":")[2]


ANALYSES = (
    Analysis("plot", "analyses.spectra:spectra", "Spectra"),
    Analysis("compare", "analyses.compare:compare", "Comparison"),
    Analysis("influence", "analyses.influence:influence", "Influence"),
    Analysis("truncation", "analyses.truncation:truncation", "Truncation"),
    Analysis("fixed-points", "analyses.fixed_points:fixed_points", "FixedPoints"),
    Analysis("lyapunov", "analyses.lyapunov:lyapunov", "LyapunovSpectrum"),
    Analysis(
        "products",
        "analyses.products:products",
        "Products",
        about="Norms of the Jacobian products, from the first state and to the last one.",
        example="gersgorin products --cell lstm --hidden-size 32 --json",
    ),
    Analysis(
        "gains",
        "analyses.gains:gains",
        "Gains",
        about="Norms of the Jacobians of the input and of each layer.",
        example="gersgorin gains --cell rhn --depth 5",
    ),
    Analysis("gates", "analyses.gates:gates", "MeanGates"),
    Analysis("pseudospectra", "analyses.pseudospectra:pseudospectra", "Pseudospectra"),
)

BY_COMMAND = {analysis.command: analysis for analysis in ANALYSES}
"""The analyses by their subcommands."""

OTHER_RESULTS = {
    "GateActivity": "analysis.gate_table",
    "LesionTable": "analysis.lesion_table",
    "Recording": "gersgorin.recording",
    "Refinement": "analysis.refine",
}
RESULTS = OTHER_RESULTS | {row.result: f"gersgorin.{row.module}" for row in ANALYSES}
"""The module of each class of results that `load` reads."""
