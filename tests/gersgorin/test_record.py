"""A record holds what was measured, survives a file, and reads itself in one sentence."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from matrices import grcar, square_matrices

from examples.paper.claims import of_matrices
from gersgorin import eigenvalues, temporal_jacobian, trajectory
from gersgorin.analyses.spectra import Spectra, reading, spectra
from gersgorin.linalg import departure_from_normality, kreiss_constant, numerical_radius
from gersgorin.plotting.spectra import plot_suggested
from gersgorin.run import Label, Run
from rhn.cells import RHN
from rhn.errors import DataError, InvalidInputError


def record_of(cell, T=6, **options) -> Spectra:
    x = torch.rand(T, cell.input_size, dtype=torch.float64)
    return spectra(Run.of(cell, x, label=Label(name="cell", sequence="noise")), **options)


def test_every_number_is_what_its_name_says():
    cell, x = RHN(5, 7, 2, init="gaussian:0.5", dtype=torch.float64), torch.rand(4, 5, dtype=torch.float64)
    record = spectra(Run.of(cell, x))
    A = temporal_jacobian(cell, x, trajectory(cell, x)[:-1]).detach().numpy()
    product = np.eye(7)
    for t in range(4):
        values = np.linalg.eigvals(A[t])
        product = A[t] @ product
        assert record.spectral_radius[t] == pytest.approx(np.abs(values).max())
        assert record.norm[t] == pytest.approx(np.linalg.norm(A[t], 2)) and record.norm[t] <= float(record.norm_bound)
        assert record.numerical_radius[t] == pytest.approx(float(numerical_radius(torch.as_tensor(A[t]))), rel=5e-3)
        assert record.departure_from_normality[t] == pytest.approx(
            float(departure_from_normality(torch.as_tensor(A[t]), relative=True))
        )
        assert record.kreiss_constant[t] == pytest.approx(float(kreiss_constant(torch.as_tensor(A[t]))))
        around = record.range_outline(t)
        assert (
            around.real.max() == pytest.approx(np.linalg.eigvalsh((A[t] + A[t].T) / 2)[-1]) and around[0] == around[-1]
        )
        edges = np.diag(A[t]) + np.abs(A[t]).sum(1) - np.abs(np.diag(A[t]))
        assert record.rightmost_disc[t] == pytest.approx(edges.max())
        assert record.log_norm_product[t] == pytest.approx(math.log(np.linalg.norm(product, 2)))
        assert record.finite_time_exponent[t] == pytest.approx(record.log_norm_product[t] / (t + 1))
        assert record.reach[t] == pytest.approx(np.abs(A[t]).sum(1).max())
    assert np.allclose(eigenvalues(torch.as_tensor(A)).numpy(), record.eigenvalues)
    assert record.transform_gate.shape == (4, 2)
    assert record.transform_gate[0, 0] == pytest.approx(cell.gates(x[0], torch.zeros(7).double()).t[0].mean().item())


@pytest.mark.parametrize("discs", ["row", "column", "both"])
@given(A=square_matrices())
def test_the_discs_reach_at_least_as_far_as_the_spectrum(discs, A):
    record = of_matrices(A[None], "one", discs=discs)
    assert (record.reach >= record.spectral_radius * (1 - 1e-12)).all()
    assert np.isnan(record.looseness) if not A.any() else record.looseness >= 1


def test_words_and_numbers_speak_of_the_same_discs():
    A = torch.tensor([[[0.1, 2.0], [0.2, 0.3]], [[0.1, 0.3], [0.9, 0.5]]])  # rows reach 2.1, 1.4; columns 2.3, 1.0
    reach = {"row": [2.1, 1.4], "column": [2.3, 1.0], "both": [2.1, 1.0]}
    inside = {"row": [0.5, 0.5], "column": [0.5, 1], "both": [0.5, 1]}
    for discs, words in (
        ("row", "row discs"),
        ("column", "column discs"),
        ("both", "row and column discs where they overlap"),
    ):
        record = of_matrices(A, "two", discs=discs)
        assert record.reach == pytest.approx(reach[discs]) and record.rightmost_disc == pytest.approx(reach[discs])
        assert record.discs_inside_unit_circle.tolist() == inside[discs]
        assert record.looseness == pytest.approx(reach[discs] / record.spectral_radius)
        assert f"the {words} reach {max(reach[discs]):.3g} from 0" in reading(record)
        assert record.to_dict()["discs"] == discs and record.table()[1]["reach"] == pytest.approx(reach[discs][1])


def test_eigenvalues_on_the_unit_circle_up_to_rounding_have_not_left_it():
    turn = torch.tensor([[[0.0, -1.0], [1.0, 0.0]]], dtype=torch.float64)
    for A, leaves in ((turn * (1 + 1e-15), False), (turn * (1 + 1e-6), True)):
        record = of_matrices(A, "turn")
        assert record.spectral_radius.max() > 1
        assert ("leave the unit circle (" in reading(record)) == leaves


def test_rounding_is_spoken_of_where_it_shows():
    large, small = (torch.from_numpy(grcar(n))[None] for n in (100, 20))
    assert "Rounding alone" in reading(of_matrices(large, "grcar"))
    assert "Rounding" not in reading(of_matrices(small, "small"))


def test_files_need_no_pickle_keep_complex_eigenvalues_and_are_strict_json(tmp_path):
    record = record_of(RHN(5, 7, 3, init="gaussian:0.4", dtype=torch.float64))
    again = Spectra.load(record.save(tmp_path / "r.npz"))
    with np.load(tmp_path / "r.npz", allow_pickle=False) as arrays:
        assert arrays["eigenvalues"].dtype == np.complex128
    assert (
        repr(again.table()) == repr(record.table()) and again.title == record.title
    )  # NaN where it looked for nothing
    data = json.loads(record.save(tmp_path / "r.json").read_text(), parse_constant=pytest.fail)
    assert np.array(data["eigenvalues"]).shape == (6, 7, 2) and len(data["steps"]) == 6
    with pytest.raises(DataError, match="not a record"):
        Spectra.load(tmp_path / "r.json")


def test_states_that_overflow_are_refused():
    cell = RHN(5, 7, coupled=False, dtype=torch.float64)
    torch.nn.init.constant_(cell.weight_hh, torch.nan)
    with pytest.raises(InvalidInputError, match="NaN or infinite"):
        record_of(cell)


def test_a_cell_without_a_bound_has_none():
    record = of_matrices(torch.rand(2, 3, 3), "bare")
    assert math.isnan(float(record.norm_bound)) and "none" in record.summary()


@pytest.mark.parametrize(
    ("log_norms", "words"),
    [
        ([-1.0, -2.0], "halves every 0.693 steps"),
        ([1.0, 2.0], "doubles every 0.693 steps"),
        ([0.0, 0.0], "keeps its norm"),
        ([0.0, -np.inf], "vanishes entirely"),
    ],
)
def test_the_sentence_says_what_the_products_do(log_norms, words):
    record = replace(of_matrices(torch.ones(2, 1, 1), "ones"), log_norm_product=np.array(log_norms))
    assert words in reading(record)


@pytest.mark.parametrize(
    ("kind", "name"), [("lstm", "input gate"), ("gru", "1 - update gate"), ("rhn", "transform gate")]
)
def test_a_gate_is_called_as_its_cell_calls_it(kind, name):
    record = spectra(kind, "bwv66.6", hidden_size=4, steps=3)
    labels = plot_suggested(record).get_legend_handles_labels()[1]
    assert record.gate_name == name and f"mean {name}" in labels
