"""Temporal Jacobians, spectra and inclusion sets of recurrent cells, and what their products do over time.

A = temporal_jacobian(cell, x, s)           d s'_i / d s_j of one step, for any cell or callable
eigenvalues(A), gersgorin_discs(A)          where one step's gradient could go
numerical_radius, departure_from_normality, kreiss_constant, pseudospectrum    how far the spectrum alone misleads
jacobian_product(A), finite_time_exponent   what many steps together do
input_jacobian, layer_jacobians             within one step: from its input, and through each of its layers
lyapunov(cell, x, k)               their mean growth rates along a long run, without keeping a Jacobian
leading_eigenvalues, discs_by_blocks, streamed_log_norms    of states too large for whole Jacobians, by products with vectors
fixed_points(cell, x, starts)               where a step under constant input stands still, and its spectrum there
credit(model, x, targets)                   which earlier steps the gradient of each frame's loss reaches, and how strongly
compare(models, sequences)                 medians and bands of many runs: seeds, sequences
extract_cell(model, x)                    the cell in any module and what it reads there, for the functions that take a cell
measure("rhn", depth=5)                     what the command gersgorin-plot measures, as numbers
plot_spectrum(found), draw_run(found), ...  what it draws
analyze(model_or_cell, x)                   all of this in one object; Recorder: through a training
check(model, learning_rate=0.1)             will it train? asked before the first step
plateau(model, sequences)                   how slowly a network with small weights begins to learn
"""

from rhn.lazy import lazy_names
from rhn.version import __version__ as __version__

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "analyses.bounds": ("bounds",),
        "analyses.credit": ("Credit", "credit", "draw_credit", "path_lengths", "plot_credit"),
        "linalg.enclosures": ("VerifiedEigenvalues", "verified_discs", "verified_eigenvalues"),
        "analyses.fixed_points": ("FixedPoints", "draw_fixed_points", "fixed_points", "plot_fixed_points"),
        "analyses.lyapunov": (
            "LyapunovSpectrum",
            "draw_lyapunov",
            "kaplan_yorke_dimension",
            "lyapunov",
            "plot_lyapunov",
        ),
        "analyses.overview": ("Overview", "analyze"),
        "analyses.plateau": ("Plateau", "plateau"),
        "analyses.spectra": ("Spectra", "spectra"),
        "checking.checking": ("check",),
        "comparison.plots": ("draw_comparison", "draw_bands"),
        "comparison.runs": ("Comparison", "compare", "plot_bands"),
        "extract": ("extract_cell",),
        "jacobian": ("input_jacobian", "layer_jacobians", "norm_bound", "temporal_jacobian", "trajectory"),
        "linalg.discs": ("Discs", "gersgorin_discs"),
        "linalg.spectrum": ("eigenvalue_conditions", "eigenvalues", "spectral_radius"),
        "linalg.normality": ("departure_from_normality", "kreiss_constant", "numerical_abscissa", "numerical_radius"),
        "linalg.products": (
            "cumulative_log_norms",
            "finite_time_exponent",
            "half_life",
            "jacobian_product",
            "lyapunov_exponents",
        ),
        "linalg.pseudospectra": ("pseudospectrum",),
        "objective": ("Objective",),
        "operators": ("discs_by_blocks", "leading_eigenvalues"),
        "plotting.animation": ("save_animation",),
        "plotting.spectra": ("draw_run", "plot_products", "plot_spectrum", "plot_suggested"),
        "recorder": ("Recorder",),
        "recording": ("Recording", "draw_recording"),
    },
)
