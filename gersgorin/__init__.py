"""Temporal Jacobians and spectra of recurrent networks.

Analyses of a run. `network` is a cell by name, a checkpoint, a module with its input x (T, B, m) or
(T, m), or a step f(x, s) with a first state s0; see `open_run`:

    spectra(network, x)          eigenvalues, Geršgorin discs, norms and products of every step
    lyapunov(network, x)         Lyapunov exponents
    fixed_points(network, x)     fixed points under constant input
    pseudospectra(network, x)    pseudospectra of a few steps
    products(network, x), gains, gates    of its steps
    analyze(network, x)          all default analyses
    compare({"rnn": rnn}, x)     networks side by side, or bands over seeds and sequences
    influence(model, x)          how far back outputs, or a loss, depend on the inputs of any model

    Recorder(model, x)           all of it during a training

Why a training does not learn is the subject of the package `trainability`.

Results print, draw (`plot`), tabulate (`table`) and save themselves; `load` reads their files.
Single steps:

    trajectory, temporal_jacobian, input_jacobian, layer_jacobians    of any cell or f(x, s)
    norm_bound(cell)                                                  for all x, |s| <= 1
    eigenvalues, gersgorin_discs, jacobian_product                    of matrices
    extract_cell(module, x)                                           a module's cell, its inputs
"""

from rhn.utils.lazy import lazy_names
from rhn.version import __version__ as __version__

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "analyses": ("register_analysis",),
        "analyses.influence": ("influence",),
        "analyses.fixed_points": ("fixed_points",),
        "analyses.lyapunov": ("lyapunov",),
        "analyses.overview": ("analyze",),
        "analyses.pseudospectra": ("pseudospectra",),
        "analyses.spectra": ("spectra",),
        "analyses.steps": ("gains", "gates", "products"),
        "run.run": ("Run",),
        "run.cell": (
            "input_jacobian",
            "layer_jacobians",
            "norm_bound",
            "temporal_jacobian",
            "trajectory",
        ),
        "comparison": ("compare",),
        "loading.watched": ("extract_cell",),
        "linalg.discs": ("gersgorin_discs",),
        "linalg.products": ("jacobian_product",),
        "linalg.spectrum": ("eigenvalues",),
        "recorder": ("Recorder",),
        "loading.open": ("open_run",),
        "results": ("load",),
    },
    submodules=("analyses", "linalg", "results"),
)
