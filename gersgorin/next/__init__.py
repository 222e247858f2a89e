"""Jacobians of recurrent networks along a sequence: spectra, Geršgorin discs, products, gains and
gates.

    found = spectra(model, x)                   # print(found) shows one table for every network
    found.eigenvalues, found.log_norm_product   # (T, N), (T,)
    found.figure().savefig("spectra.png")

    run = open_run(model, x)                    # computed once, for several analyses
    products(run), gains(run), gates(run)

    compare({"rnn": rnn, "lstm": lstm}, x)      # one table and one figure for several networks

    layer_inputs(model, x, layer="rnn")         # what a layer inside a module reads
    temporal_jacobian(cell, x, s)               # of single steps: gersgorin.next.one_step

`import gersgorin.next` is fast: torch is imported when one of these names is first used.
"""

from rhn.utils.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "analyses.fixed_points": ("FixedPoints", "fixed_points"),
        "analyses.compare": ("Comparison", "compare"),
        "analyses.gains": ("Gains", "gains"),
        "analyses.gates": ("MeanGates", "gates"),
        "layers": ("layer_inputs",),
        "linalg.discs": ("gersgorin_discs",),
        "linalg.products": ("jacobian_product",),
        "linalg.spectrum": ("eigenvalues",),
        "one_step": (
            "input_jacobian",
            "layer_jacobians",
            "norm_bound",
            "temporal_jacobian",
            "trajectory",
        ),
        "analyses.lyapunov": ("LyapunovSpectrum", "kaplan_yorke_dimension", "lyapunov"),
        "analyses.products": ("Products", "products"),
        "analyses.pseudospectra": ("Pseudospectra", "pseudospectra"),
        "recorder": ("Recorder",),
        "recording": ("Recording",),
        "run": ("Run", "open_run"),
        "analyses.spectra": ("Spectra", "spectra"),
        "step": ("Step", "as_step"),
    },
)
