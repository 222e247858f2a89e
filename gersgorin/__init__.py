"""Jacobians of recurrent networks along a sequence.

A network is a cell of rhn.cells, a layer of torch.nn, a module, or a step f(x, s). x is one
sequence: numbers (T, m) or ids (T,). Every analysis returns numbers in one table, with a figure:

    spectra(network, x)          eigenvalues, Geršgorin discs and norms of every step, and products
    products(network, x)         norms of the Jacobian products, from the first and to the last step
    gains(network, x)            norms of the Jacobians of the input and of each layer
    gates(network, x)            mean gates of each layer
    lyapunov(network, x)         Lyapunov exponents
    fixed_points(network, x)     fixed points and cycles under constant input
    pseudospectra(network, x)    pseudospectra of a few steps
    influence(model, x)          how far back outputs, or a loss, depend on inputs, for any model
    compare({"a": a}, x)         networks side by side, or bands over seeds and sequences
    Recorder(model, x)           spectra and gradients during training

    open_run(network, x)         a `Run`, which every analysis takes: inputs, states, Jacobians
    layer_inputs(model, x)       what a layer inside a module reads
    load(file)                   a saved result

Single steps s' = f(x, s), and matrices:

    trajectory(cell, x)              states
    temporal_jacobian(cell, x, s)    ds'/ds
    input_jacobian(cell, x, s)       ds'/dx
    layer_jacobians(cell, x, s)      a factor of ds'/ds for each layer
    norm_bound(cell)                 bound on ||ds'/ds|| for all x and |s_i| <= 1
    eigenvalues(A), gersgorin_discs(A), jacobian_product(A)

`import gersgorin` is fast: torch is imported when one of these names is first used.
"""

from rhn.utils.lazy import lazy_names
from rhn.version import __version__ as __version__

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "analyses.compare": ("compare",),
        "analyses.fixed_points": ("fixed_points",),
        "analyses.gains": ("gains",),
        "analyses.gates": ("gates",),
        "analyses.influence": ("influence",),
        "analyses.lyapunov": ("lyapunov",),
        "analyses.products": ("products",),
        "analyses.pseudospectra": ("pseudospectra",),
        "analyses.spectra": ("spectra",),
        "layers": ("layer_inputs",),
        "linalg.discs": ("gersgorin_discs",),
        "linalg.jacobian_products": ("jacobian_product",),
        "linalg.spectrum": ("eigenvalues",),
        "one_step": (
            "input_jacobian",
            "layer_jacobians",
            "norm_bound",
            "temporal_jacobian",
            "trajectory",
        ),
        "recorder": ("Recorder",),
        "results": ("load",),
        "run": ("Run", "open_run"),
    },
    submodules=("analyses", "linalg"),
)
