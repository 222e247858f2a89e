"""Oracles that several test files need, and the table of all rows that results print, each beside
what it is compared with and the test that does.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import scipy.linalg
import torch

from trainability.checks import MEANING_OF


def close(found, wanted, tolerance: float = 1e-9) -> None:
    """Equal, relative to the largest entry."""
    wanted = np.asarray(wanted)
    assert np.shape(found) == wanted.shape
    largest = abs(wanted[np.isfinite(wanted)]).max(initial=0)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * largest)


class LogProduct:
    """A product P exp(log) of matrices, with the largest entry of P at 1."""

    def __init__(self, n: int) -> None:
        self.P, self.log = np.eye(n), 0.0

    def then(self, J: np.ndarray) -> None:
        self.P = J @ self.P
        if size := np.abs(self.P).max():
            self.P, self.log = self.P / size, self.log + math.log(size)

    @property
    def log_norm(self) -> float:
        return self.log + math.log(np.linalg.norm(self.P, 2))


def log_norms(matrices: Iterable[np.ndarray]) -> np.ndarray:
    """log ||A[t] ... A[0]||_2 for each t."""
    product, found = None, []
    for A in matrices:
        product = product or LogProduct(len(A))
        product.then(A)
        found.append(product.log_norm)
    return np.array(found)


def qr_exponents(matrices: Iterable[np.ndarray], Q: np.ndarray) -> np.ndarray:
    """Mean log |R_ii|, the largest first: one decomposition of NumPy a step."""
    logs = []
    for A in matrices:
        Q, R = np.linalg.qr(A @ Q)
        logs.append(np.log(np.abs(np.diag(R))))
    return np.sort(np.mean(logs, 0))[::-1]


def differences(f: Callable[[torch.Tensor], torch.Tensor], s: torch.Tensor, h: float = 1e-6):
    """The Jacobian of f at s (N,) by central differences."""
    with torch.no_grad():
        steps = h * torch.eye(len(s), dtype=s.dtype)
        return torch.stack([(f(s + e) - f(s - e)) / (2 * h) for e in steps], 1)


def highway_step(weights: Sequence[np.ndarray], x: np.ndarray, s: np.ndarray):
    """(Jacobians of the layers, next state) of a step of an RHN with weights W, R, b."""
    W, R, b = weights
    n, found = len(s), []
    for k in range(len(R)):
        z = R[k] @ s + b[k] + (W @ x if k == 0 else 0)
        h, t = np.tanh(z[:n]), 1 / (1 + np.exp(-z[n:]))
        dh, dt = (1 - h * h) * t, t * (1 - t) * (h - s)
        found.append(np.diag(1 - t) + dh[:, None] * R[k][:n] + dt[:, None] * R[k][n:])
        s = h * t + s * (1 - t)
    return found, s


def transition_step(weights: Sequence[np.ndarray], x: np.ndarray, s: np.ndarray):
    """(Jacobians of the layers, next state) of a step of a DT-RNN with weights W, R, b."""
    W, R, b = weights
    found = []
    for k in range(len(R)):
        s = np.tanh(R[k] @ s + b[k] + (W @ x if k == 0 else 0))
        found.append((1 - s * s)[:, None] * R[k])
    return found, s


def rows_of_spectra(A: np.ndarray) -> dict[str, float]:
    """The rows of `Spectra` about one Jacobian, by NumPy and SciPy."""
    center, off = np.diag(A), np.abs(A - np.diag(np.diag(A)))
    row, column = off.sum(1), off.sum(0)
    values, left, right = scipy.linalg.eig(A, left=True)
    triangle, _ = scipy.linalg.schur(A, output="complex")
    overlap = np.linspace(-1, 1, 2001)[:, None] + 1j * np.linspace(0, 1, 1001)
    overlap *= max(np.abs(center + row).max(), np.abs(center - row).max())
    for radii in (row, column):
        overlap = overlap[(np.abs(overlap[..., None] - center) <= radii).any(-1)]
    turns = np.exp(-2j * np.pi * np.arange(128) / 128)
    support = [np.linalg.eigvalsh(turn * A + (turn * A).conj().T)[-1] / 2 for turn in turns]
    return {
        "spectral radius": np.abs(values).max(),
        "largest modulus in the row discs": (np.abs(center) + row).max(),
        "largest modulus in the column discs": (np.abs(center) + column).max(),
        "largest modulus in the overlap of both": np.abs(overlap).max(),  # to 0.1 % of the grid
        "rightmost point of the row discs": (center + row).max(),
        "rightmost point of the column discs": (center + column).max(),
        "rightmost point of the overlap of both": overlap.real.max(),
        "row discs inside the unit circle (share)": (np.abs(center) + row <= 1).mean(),
        "column discs inside the unit circle (share)": (np.abs(center) + column <= 1).mean(),
        "2-norm": np.linalg.norm(A, 2),
        "numerical radius (upper bound)": max(support) / math.cos(math.pi / 128),
        "departure from normality (0 to 1)": np.linalg.norm(np.triu(triangle, 1))
        / np.linalg.norm(A),
        "largest eigenvalue condition": (1 / np.abs((left.conj() * right).sum(0))).max(),
        "entries of a state": len(A),
        "eigenvalues of a step": len(A),
    }


def relative_error(z: np.ndarray, y: np.ndarray, train: np.ndarray) -> float:
    """Squared error of outputs, relative to that of the mean of the training targets."""
    return ((z - y) ** 2).sum() / ((y - train.mean(0)) ** 2).sum()


def plain_losses(
    model, x, y, loss_fn, optimizer, steps: int, scheduler=None, *, size=32
) -> list[float]:
    """The losses of a plain loop over minibatches of `size` examples, in the order of seed 0,
    without smaller ones.
    """
    generator, losses = torch.Generator().manual_seed(0), list[float]()
    while len(losses) < steps:
        rows = torch.randperm(len(y), generator=generator).split(size)
        whole = [each for each in rows if len(each) == size]
        for rows in whole[: steps - len(losses)]:
            loss = loss_fn(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if scheduler:
                scheduler.step()
            losses.append(loss.item())
    return losses


GERSGORIN, TRAINABILITY, ANALYSIS = "tests/gersgorin/", "tests/trainability/", "tests/analysis/"
STEPS = GERSGORIN + "test_results_of_runs.py::test_every_row_of_spectra_is_numpys"
DEEP = GERSGORIN + "test_deep_steps.py::test_products_and_spectra_of_any_depth"
GROWTH = GERSGORIN + "test_results_of_runs.py::test_growth_of_a_multiple_of_the_identity"
COUNTED = GERSGORIN + "test_results_of_runs.py::test_steps_without_numbers_are_counted"
POINTS = GERSGORIN + "test_points_and_cycles.py::test_"
LYAPUNOV = GERSGORIN + "test_exponents.py::test_"
INFLUENCE = GERSGORIN + "test_influence_of_inputs.py::test_"
RECORDED = GERSGORIN + "test_recorder_in_training.py::test_"
FACT = TRAINABILITY + "test_facts_of_runs.py::test_"
CHANGED = TRAINABILITY + "test_changes.py::test_"
ERRORS = TRAINABILITY + "test_kinds_of_targets.py::test_"
LESIONS = ANALYSIS + "test_analysis_lesions.py::test_"

TABLE = (  # results, oracle, test, rows
    ("Spectra Comparison", "NumPy, SciPy, a grid of points", STEPS,
     "; ".join(rows_of_spectra(np.diag([1.0, 2.0])))),
    ("Spectra Comparison", "the detached share of the slope",
     GERSGORIN + "test_loops_and_caches.py::test_a_detached_share_of_the_slope_is_the_difference",
     "Jacobian against differences (relative)"),
    ("Spectra Comparison", "norms of NumPy",
     GERSGORIN + "test_deep_steps.py::test_bounds_of_any_depth",
     "2-norm for any input (upper bound)"),
    ("Spectra Comparison Products", "products of NumPy with logarithms", DEEP,
     "log10 ||ds[T]/ds[0]||; half-life of ||ds[t]/ds[0]|| (steps)"),
    ("Spectra Comparison Products", "closed form", GROWTH,
     "growth rate of ||ds[t]/ds[0]|| (1/step); doubling time of ||ds[t]/ds[0]|| (steps)"),
    ("Spectra Comparison", "a count", COUNTED,
     "steps whose eigenvalues did not converge; steps whose 2-norm did not converge; "
     "steps whose Jacobian over- or underflows"),
    ("Products LyapunovSpectrum FixedPoints", "the detached share of the slope",
     GERSGORIN + "test_accepted_points.py::test_a_detached_share_of_the_slope_is_the_difference",
     "Jacobian against differences (relative)"),
    ("FixedPoints", "closed form", GERSGORIN
     + "test_accepted_points.py::test_two_points_that_count_as_one_are_nearer_than_the_resolution",
     "resolution of points"),
    ("Pseudospectra", "a count", GERSGORIN
     + "test_results_of_runs.py::test_other_analyses_have_a_note_of_what_does_not_converge",
     "steps whose eigenvalues did not converge"),
    ("FixedPoints", "a count", GERSGORIN
     + "test_results_of_runs.py::test_other_analyses_have_a_note_of_what_does_not_converge",
     "points whose eigenvalues did not converge"),
    ("Comparison", "a count", GERSGORIN + "test_compare_networks.py::"
     "test_several_runs_have_a_table_of_medians_and_one_for_each_end_of_the_band", "runs"),
    ("Products", "products of NumPy with logarithms", DEEP,
     "log10 ||ds[t]/ds[0]||; log10 ||ds[T]/ds[t]||"),
    ("Products", "closed form", GROWTH, "step t of the largest ||ds[t]/ds[0]||; "
     "step t of the smallest ||ds[t]/ds[0]||; steps whose product is 0"),
    ("Gains", "norms of NumPy", GERSGORIN + "test_results_of_runs.py::"
     "test_gains_are_norms_of_jacobians_of_layers_and_inputs",
     "input, ||ds'/dx||_2; gain of layer; steps without an input gain"),
    ("MeanGates", "the equation of the gates",
     GERSGORIN + "test_results_of_runs.py::test_gates_of_a_function_have_its_names",
     "mean of all gates; transform gate; carry gate; input gate; forget gate; 1 - update gate"),
    ("Pseudospectra", "SciPy's singular values",
     GERSGORIN + "test_pseudospectra_of_steps.py::test_numbers_are_those_of_scipy",
     "spectral radius; distance of the nearest eigenvalue to the unit circle; distance to the unit "
     "circle (2-norm of a complex change); time step of the least distance"),
    ("FixedPoints", "a linear map that NumPy solves",
     POINTS + "a_linear_map_has_the_one_point_that_solves_it", "from starts; distinct starts"),
    ("FixedPoints", "torch's own module",
     POINTS + "torchs_own_module_stands_still_at_every_point", "|F(s) - s|"),
    ("FixedPoints", "closed form", POINTS + "counts_and_times_of_known_eigenvalues",
     "moduli > 1; = 1; < 1; radius; growth time; decay time"),
    ("FixedPoints", "bisection", POINTS + "one_bistable_unit_has_three_points",
     "fixed points of F; starts; starts that led to a point; starts that failed elsewhere"),
    ("FixedPoints", "closed form", POINTS + "the_ghost_of_a_lost_pair_is_slow_and_not_fixed",
     "slow; slow points; least |F(s) - s| of all ends"),
    ("FixedPoints", "slopes on both sides",
     POINTS + "points_at_kinks_have_the_jump_of_the_slopes", "jump"),
    ("FixedPoints", "bisection",
     POINTS + "cycles_of_the_logistic_map_are_those_that_bisection_finds",
     "cycle; period; starts that led to a shorter period"),
    ("FixedPoints", "closed form", POINTS + "the_search_stays_in_the_box_of_the_starts",
     "starts that ended at the edge of the box; margin of the box; states that starts reach"),
    ("FixedPoints", "a loop over the step", POINTS + "a_point_far_from_the_starts_is_found",
     "steps of F until then"),
    ("FixedPoints", "a count",
     POINTS + "starts_are_states_of_the_run_points_between_them_or_random",
     "starts outside the run"),
    ("LyapunovSpectrum", "QR decompositions of NumPy",
     LYAPUNOV + "every_kind_of_cell_and_every_way_gives_what_dense_jacobians_give",
     "exponent (1/step); largest exponent (1/step); sum of the exponents"),
    ("LyapunovSpectrum", "simulated runs with a known exponent", LYAPUNOV
     + "two_standard_errors_cover_the_exponent_of_short_runs_and_of_long_memories",
     "margin (95 %)"),
    ("LyapunovSpectrum", "50 digits", GERSGORIN + "test_margins_of_exponents.py::"
     "test_margins_cover_the_rounding_that_50_digits_show", "margin (95 %)"),
    ("LyapunovSpectrum", "sums of known rates",
     LYAPUNOV + "the_growth_of_known_steps_and_the_errors_of_their_pieces",
     "first half; second half"),
    ("LyapunovSpectrum", "QR decompositions of the rank",
     LYAPUNOV + "exponents_that_rounding_hides_are_a_bound",
     "upper bound; exponents that rounding hides"),
    ("LyapunovSpectrum", "closed form", LYAPUNOV + "the_dimension_of_exponents_with_margins",
     "Kaplan-Yorke dimension, from; Kaplan-Yorke dimension, to"),
    ("LyapunovSpectrum", "slopes on both sides",
     LYAPUNOV + "a_run_at_a_kink_has_the_jump_of_its_slopes", "largest jump of the Jacobian"),
    ("LyapunovSpectrum", "a count",
     LYAPUNOV + "a_sequence_that_is_read_three_times_is_three_sequences", "steps counted"),
    ("Influence", "closed form", INFLUENCE + "a_linear_recurrence_has_its_closed_forms",
     "lag; ||d o[t + lag] / d x[t]||; share beyond; effective length (steps); "
     "steps from the largest influence to half"),
    ("Influence", "the exact influence", INFLUENCE + "the_estimate_is_within_its_errors",
     "standard error; random vectors for each output"),
    ("Influence", "a filter of known weights", INFLUENCE + "steps_to_half",
     "share; lag of the largest influence"),
    ("Influence", "plain autograd", INFLUENCE + "the_influence_on_outputs_is_that_of_autograd",
     "from later inputs (share); sequences; of; outputs"),
    ("Influence", "plain autograd", INFLUENCE + "the_gradient_of_a_loss_is_that_of_autograd",
     "outputs without influence"),
    ("Influence", "closed form", INFLUENCE + "the_gap_is_its_formula",
     "gradient against differences (relative)"),
    ("Influence", "a count", INFLUENCE
     + "whole_numbers_are_frames_without_an_embedding_and_tensors_are_counted",
     "tensors that the model returns"),
    ("Influence", "plain autograd", INFLUENCE + "a_single_number_of_the_inputs", "feature"),
    ("Recording", "autograd and NumPy", RECORDED + "every_number_is_that_of_autograd_and_numpy",
     "spectral radius; mean eigenvalue; largest modulus in the row discs; growth rate of "
     "||ds[t]/ds[0]|| (1/time step); input gain ||ds'/dx||_2; layer gain; "
     "mean gate; measured time steps of the probe; time steps of the growth rate"),
    ("Recording", "gradients of torch",
     RECORDED + "gradients_are_those_that_stand_at_the_step_a_layer_apart",
     "optimiser step; 2-norm of the gradient; 2-norm of the gradient / 2-norm of the weight; "
     "optimiser steps between measurements, as asked"),
    ("Recording", "losses of a plain loop",
     RECORDED + "a_training_run_with_a_recorder_is_the_same_to_the_bit", "loss; measurements"),
    ("Recording", "a count",
     RECORDED + "a_run_that_diverges_is_nan_and_a_zero_product_minus_infinity",
     "measurements with NaN or infinite numbers; "
     "measurements after the first whose gradients are 0 or missing"),
    ("Recording", "the number given",
     RECORDED + "figures_and_tables_show_the_recording_and_no_other_words",
     "loss of the constant predictor"),
    ("Check", "built with known numbers", FACT + "a_fact_has_the_numbers_of_the_run",
     "other outputs that change with one example; outputs that change at a second call; "
     "steps that the last output reads; steps that its "
     "gradient reaches; outputs that change with the next step; range of outputs over random "
     "weights; range of y; share of outputs of sum 1, loss unchanged by a constant; share of the "
     "gradient at the own output"),
    ("Check", "built with known numbers", FACT + "weights_that_do_not_change_are_counted",
     "weight tensors unchanged: gradient, none, not in optimiser"),
    ("Check", "outputs of weights of 0", FACT + "equal_outputs_have_no_spread",
     "spread of outputs over examples, before and after training"),
    ("Check", "closed form", FACT + "the_loss_of_larger_outputs",
     "loss, and loss at outputs x 100"),
    ("Check", "built with known numbers",
     FACT + "a_division_by_zero_names_step_examples_and_line",
     "steps with NaN or infinity, the first, its examples; "
     "line of the first number that is not finite:"),
    ("Check", "a plain loop", FACT + "the_own_loop_is_compared_at_its_last_tenth",
     "loss of the last tenth, in your loop and in this one"),
    ("Check", "the schedule", FACT + "a_warm_up_at_rate_0_is_no_fault",
     "learning rate, first and last"),
    ("Check", "a loss that counts its calls",
     TRAINABILITY + "test_check_of_runs.py::test_rows_with_another_first_loss_are_counted",
     "rows whose first loss is not that of none"),
    ("Check", "a plain loop",
     TRAINABILITY + "test_check_of_runs.py::test_the_row_none_is_a_plain_loop_to_the_bit", "none"),
    ("Check", "a plain loop with one part replaced",
     CHANGED + "a_row_is_a_plain_loop_with_one_part_replaced",
     "Adam 0.003, clip 1; the usual loss; inputs standardised; targets standardised; shuffled; "
     "no dropout, no decay; plain optimiser: your rate, no schedule, no clipping; "
     "a tenth of the rate; ten times the rate"),
    ("Check", "a plain loop", CHANGED + "targets_move_into_the_range_of_a_sigmoid",
     "targets to the range of the outputs"),
    ("Check", "torch's own layers", CHANGED + "new_weights_are_those_of_torch",
     "torch's initial weights"),
    ("Check", "the axes of the module",
     CHANGED + "the_other_axis_turns_layers_that_mix_examples", "examples along the other axis"),
    ("Check", "shapes and gradients of torch",
     CHANGED + "the_gru_has_the_outputs_of_the_network_and_reads_every_input",
     "everything; a GRU of 64 units"),
    ("Check", "NumPy", ERRORS + "single_examples_and_training_mode_are_measured_as_asked",
     "none, in training mode; none, single examples"),
    ("Check", "a count of steps",
     TRAINABILITY + "test_check_of_runs.py::"
     "test_four_times_the_steps_is_the_only_row_with_more_steps", "four times the steps"),
    ("Check", "a count", TRAINABILITY
     + "test_check_of_runs.py::test_a_row_that_fails_is_left_out_and_counted",
     "rows that raised an error; rows whose error is not finite"),
    ("Check Cure", "NumPy",
     ERRORS + "classes_are_wrong_relative_to_the_most_frequent",
     "share of wrong classes / that of the most frequent class"),
    ("Check Cure", "NumPy", ERRORS + "signs_are_wrong_relative_to_the_more_frequent",
     "share on the wrong side / that of the more frequent side"),
    ("Check Cure", "NumPy",
     ERRORS + "numbers_have_the_squared_error_relative_to_the_means_of_the_training_targets",
     "squared error / that of the mean"),
    ("Check Cure", "a loop over minibatches",
     ERRORS + "a_raw_loss_is_the_loss_of_held_out_minibatches", "your loss"),
    ("Cure", "the number of pairs in a round",
     TRAINABILITY + "test_cure_of_runs.py::test_half_of_the_pairs_go_on_after_each_round",
     "rate x; error; three seeds"),
    ("Cure", "a count", TRAINABILITY + "test_cure_of_runs.py::test_pairs_that_raise_are_counted",
     "pairs that raised an error"),
    ("GateActivity", "a plain loop over the equation",
     ANALYSIS + "test_analysis_gates.py::test_gates_are_those_of_a_plain_loop_over_the_equation",
     "mean; share below 0.1; share above 0.9; sum of means; sequences; "
     "frames (of a text: tokens)"),
    ("LesionTable", "each network alone", LESIONS + "each_row_is_of_copies_edited_by_hand",
     "loss; none; sequences; frames (of a text: tokens)"),
    ("LesionTable", "a loop over networks and sequences",
     LESIONS + "each_row_is_of_copies_edited_by_hand",
     "damage; 95 % from; 95 % to; beyond blind; beyond blind from; beyond blind to"),
    ("LesionTable", "the best constant",
     LESIONS + "the_loss_of_the_constant_predictor_is_an_entropy",
     "constant predictor (best on these sequences)"),
)  # fmt: skip
LABELS = {  # words of these results that are no rows with a number
    "*": "depth; units; steps; x; product norm (log10); from first state",
    "Comparison": "row discs; column discs; log10 ||ds[t]/ds[0]||; median; 10 %; 90 %; network; "
    "networks",
    "Spectra": "row discs; column discs",
    "Products": "to last state",
    "Gains": "2-norm; input; layer",
    "MeanGates": "gate; , layer; gate (0 to 1)",
    "Pseudospectra": "2-norm of a complex change (log10)",
    "FixedPoints": "point",
    "LyapunovSpectrum": "number",
    "Influence": "bernoulli; categorical; squared; output; input; influence (Frobenius norm); "
    "half of the largest",
    "Recording": "layer",
    "GateActivity": "data; split; layer; mean gate; quarter notes; tokens; steps",
    "LesionTable": "data; split; mode; lesioned; layer; input removed (blind); two layers; "
    "diagonal: one layer; damage (nats per frame); damage (nats per token)",
    "Check": "classes of y; signs of y; numbers of y; entries of y; yours; sound; error; three "
    "seeds; *; change; * closes 80 % of the gap in as many steps; "
    + "; ".join(MEANING_OF.values()),
    "Cure": "yours; torch's; orthogonal; chrono gates; orthogonal, chrono gates; remembering; "
    "initial weights; *; * closes 80 % of the gap in as many steps",
}
