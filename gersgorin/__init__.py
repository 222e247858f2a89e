"""Temporal Jacobians, spectra and inclusion sets of recurrent cells, and what their products do over time.

A = temporal_jacobian(cell, x, s)           d s'_i / d s_j of one step, for any cell or callable
eigenvalues(A), gersgorin_discs(A)          where one step's gradient could go
numerical_radius, departure_from_normality, kreiss_constant, pseudospectrum    how far the spectrum alone misleads
jacobian_product(A), finite_time_exponent   what many steps together do
input_jacobian, layer_jacobians             within one step: from its input, and through each of its layers
lyapunov_spectrum(cell, x, k)               their mean growth rates along a long run, without keeping a Jacobian
leading_eigenvalues, discs_by_blocks, streamed_log_norms    of states too large for whole Jacobians, by products with vectors
fixed_points(cell, x, starts)               where a step under constant input stands still, and its spectrum there
credit(model, x, targets)                   which earlier steps the gradient of each frame's loss reaches, and how strongly
ensemble(models, sequences)                 medians and bands of many runs: seeds, sequences
recurrent_part(model, x)                    the cell in any module and what it reads there, for the functions that take a cell
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
        "animation": ("save_animation",),
        "assignment.measure": ("credit", "path_lengths"),
        "assignment.plots": ("draw_credit", "plot_credit"),
        "assignment.record": ("Credit",),
        "bounds.eigenvalues": ("VerifiedEigenvalues", "verified_discs", "verified_eigenvalues"),
        "bounds.gradient": ("NormBounds", "norm_bounds"),
        "bounds.plots": ("draw_bounds", "plot_bounds_over_time"),
        "comparing.plots": ("draw_comparison", "draw_ensembles", "plot_bands"),
        "comparing.record": ("Ensemble",),
        "comparing.runs": ("ensemble",),
        "discs": ("Discs", "gersgorin_discs"),
        "dynamics": (
            "cumulative_log_norms",
            "finite_time_exponent",
            "half_life",
            "jacobian_product",
            "lyapunov_exponents",
        ),
        "equilibria.measure": ("fixed_points",),
        "equilibria.plots": ("draw_fixed_points", "plot_fixed_points"),
        "equilibria.record": ("FixedPoints",),
        "jacobian": ("input_jacobian", "layer_jacobians", "norm_bound", "temporal_jacobian", "trajectory"),
        "large.discs": ("discs_by_blocks",),
        "large.leading": ("leading_eigenvalues",),
        "large.measure": ("streamed_log_norms",),
        "lyapunov.measure": ("lyapunov_spectrum",),
        "lyapunov.plots": ("draw_lyapunov", "plot_lyapunov"),
        "lyapunov.record": ("LyapunovSpectrum", "kaplan_yorke_dimension"),
        "normality.kreiss": ("kreiss_constant",),
        "normality.measures": ("departure_from_normality", "numerical_abscissa", "numerical_radius"),
        "normality.resolvent": ("pseudospectrum",),
        "objective": ("Objective",),
        "one_call": ("measure",),
        "overview": ("Analysis", "analyze"),
        "plots": ("plot_products", "plot_spectrum", "plot_suggested"),
        "preflight.checking": ("check",),
        "record": ("SpectrumRecord",),
        "recorder": ("Recorder",),
        "recording": ("Recording",),
        "recording_plots": ("draw_recording",),
        "run_plots": ("draw_run",),
        "saddle.record": ("Plateau", "plateau"),
        "spectrum": ("eigenvalue_conditions", "eigenvalues", "spectral_radius"),
        "watch": ("recurrent_part",),
    },
)
