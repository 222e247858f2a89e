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
    truncation(model, x, y, loss_fn)    errors of truncated backpropagation by its window
    compare({"a": a}, x)         networks side by side, or bands over seeds and sequences
    Recorder(model, x)           spectra and gradients during training

    open_run(network, x)         a `Run`, which every analysis takes: inputs, states, Jacobians
    layer_inputs(model, x)       what a layer inside a module reads
    layers_as_steps(layers, s0)  a stack of layers as a step, with depth as time
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

from typing import TYPE_CHECKING

from gersgorin.catalog import ANALYSES
from rhn.utils.lazy import lazy_names
from rhn.version import __version__ as __version__

if TYPE_CHECKING:
    from gersgorin import analyses as analyses
    from gersgorin import linalg as linalg
    from gersgorin.analyses.compare import compare as compare
    from gersgorin.analyses.fixed_points import fixed_points as fixed_points
    from gersgorin.analyses.gains import gains as gains
    from gersgorin.analyses.gates import gates as gates
    from gersgorin.analyses.influence import influence as influence
    from gersgorin.analyses.lyapunov import lyapunov as lyapunov
    from gersgorin.analyses.products import products as products
    from gersgorin.analyses.pseudospectra import pseudospectra as pseudospectra
    from gersgorin.analyses.spectra import spectra as spectra
    from gersgorin.analyses.truncation import truncation as truncation
    from gersgorin.layers import layer_inputs as layer_inputs
    from gersgorin.linalg.discs import gersgorin_discs as gersgorin_discs
    from gersgorin.linalg.jacobian_products import jacobian_product as jacobian_product
    from gersgorin.linalg.spectrum import eigenvalues as eigenvalues
    from gersgorin.one_step import input_jacobian as input_jacobian
    from gersgorin.one_step import layer_jacobians as layer_jacobians
    from gersgorin.one_step import norm_bound as norm_bound
    from gersgorin.one_step import temporal_jacobian as temporal_jacobian
    from gersgorin.one_step import trajectory as trajectory
    from gersgorin.recorder import Recorder as Recorder
    from gersgorin.results import load as load
    from gersgorin.run import Run as Run
    from gersgorin.run import open_run as open_run
    from gersgorin.step import layers_as_steps as layers_as_steps

__all__, _load, __dir__ = lazy_names(
    __name__,
    {
        **{analysis.module: (analysis.function,) for analysis in ANALYSES},
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
        "step": ("layers_as_steps",),
    },
    submodules=("analyses", "linalg"),
)
if not TYPE_CHECKING:  # a name outside the table is an error
    __getattr__ = _load
