"""Temporal Jacobians and spectra of recurrent networks.

A network is a module with an input x, (T, B, m) or (T, m), or a step f(x, s) with a first state s0.
T counts time steps, B sequences, m the numbers of an input. Analyses of a network:

    spectra(network, x)          eigenvalues, Geršgorin discs and norms of every step, and products
    products(network, x)         norms of the Jacobian products from the first step to each step
    gains(network, x)            norms of single steps: of the input and of each layer
    gates(network, x)            mean gates of each layer
    lyapunov(network, x)         Lyapunov exponents
    fixed_points(network, x)     fixed points under constant input
    pseudospectra(network, x)    pseudospectra of a few steps
    compare({"a": a}, x)         networks side by side, or bands over seeds and sequences
    influence(model, x)          how far back outputs, or a loss, depend on inputs, for any model
    Recorder(model, x)           spectra and gradients during training

Runs and files:

    open_run(network, x)         a `Run`, which every analysis takes: inputs, states, Jacobians
    extract_cell(module, x)      the cell inside a module, and its inputs
    load(file)                   a saved result; every result has `plot`, `table` and `save`

Single steps s' = f(x, s), and matrices:

    trajectory(cell, x)              states
    temporal_jacobian(cell, x, s)    d s'/d s
    input_jacobian(cell, x, s)       d s'/d x
    layer_jacobians(cell, x, s)      a factor of d s'/d s for each layer
    norm_bound(cell)                 bound on ||d s'/d s|| for all x and |s_i| <= 1
    eigenvalues(A), gersgorin_discs(A), jacobian_product(A)

The package `trainability` answers why a training run does not learn.
"""

from rhn.utils.lazy import lazy_names
from rhn.version import __version__ as __version__

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "analyses.influence": ("influence",),
        "analyses.fixed_points": ("fixed_points",),
        "analyses.lyapunov": ("lyapunov",),
        "analyses.pseudospectra": ("pseudospectra",),
        "analyses.spectra": ("spectra",),
        "analyses.steps": ("gains", "gates", "products"),
        "run.run": ("Run",),
        "run.jacobians": (
            "input_jacobian",
            "layer_jacobians",
            "norm_bound",
            "temporal_jacobian",
            "trajectory",
        ),
        "comparison": ("compare",),
        "network.trace": ("extract_cell",),
        "linalg.discs": ("gersgorin_discs",),
        "linalg.products": ("jacobian_product",),
        "linalg.spectrum": ("eigenvalues",),
        "recorder": ("Recorder",),
        "network.open": ("open_run",),
        "results": ("load",),
    },
    submodules=("analyses", "figures", "linalg", "results"),
)
