"""`gersgorin.spectra`: every number is what its name says and survives a file; the command
finds the same.

Whatever way the network and its input are given.
"""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from linear_steps import of_matrices
from matrices import grcar, square_matrices
from new_cells import new_cell
from torch import nn

import gersgorin
from gersgorin import eigenvalues, temporal_jacobian, trajectory
from gersgorin.analyses.spectra import Spectra, extent, spectra
from gersgorin.cli.analysis import main
from gersgorin.data.files import chorales_origin
from gersgorin.figures import plot_suggested
from gersgorin.linalg import departure_from_normality, numerical_radius
from gersgorin.run.run import Label, Run
from rhn.cells import GRU, RHN, from_torch
from rhn.data import chorale
from rhn.errors import DataError
from rhn.models import PolyphonicModel
from rhn.utils.io import finite_json
from tests.readable import alone

pytestmark = pytest.mark.usefixtures("own_folder")


def numbers(found) -> list:
    """Of every step, None for what is NaN."""
    return finite_json(found.table())


def command(capsys, *args: str) -> dict:
    assert main([*args, "--json", "--output", "drawn.png"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_cell_by_name_is_what_the_command_measures(capsys):
    cell = new_cell("rhn", 6, 2, init="gaussian:0.3", seed=4)
    found = spectra(cell, chorale("bwv66.6")[:5])
    told = [
        "--depth",
        "2",
        "--hidden-size",
        "6",
        "--init",
        "gaussian:0.3",
        "--seed",
        "4",
        "--steps",
        "5",
    ]
    result = command(capsys, *told, "--chorale", "bwv66.6")
    assert numbers(found) == result["steps"] and found.title == "rhn, depth 2, 6 units"
    assert found.about.startswith("built with gaussian:0.3, transform bias -2; ")


def test_discs_of_columns_are_others_and_the_module_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(3, 4), nn.LSTM(4, 5, num_layers=2))
    x = torch.rand(7, 1, 3)
    found = spectra(model, x, discs="column")
    assert numbers(found) != numbers(spectra(model, x))
    assert found.heading == "LSTM, 2 layers, 5 units on sequence of 7 x 1 x 3"
    assert found.discs == "column"
    assert model[0].weight.dtype == torch.float32


def test_numbers_pieces_and_files_are_read_alike():
    piece = chorale("bwv269")[:6]
    np.save("x.npy", np.asarray(piece, dtype=float))
    cell = GRU(88, 4)
    ways = [spectra(cell, x) for x in (piece, torch.tensor(np.asarray(piece)), "x.npy")]
    assert numbers(ways[0]) == numbers(ways[1]) == numbers(ways[2])
    assert [way.along for way in ways] == ["chorale bwv269", "sequence of 6 x 88", "sequence x.npy"]
    assert [way.unit for way in ways] == ["quarter notes", "steps", "steps"]
    wave = spectra(GRU(1, 4), np.sin(np.arange(9.0)), unit="0.1 s")
    assert wave.eigenvalues.shape == (9, 4) and wave.unit == "0.1 s"


def record_of(cell, T=6, **options) -> Spectra:
    x = torch.rand(T, cell.input_size, dtype=torch.float64)
    return spectra(Run.of(cell, x, label=Label(name="cell", sequence="noise")), **options)


def test_every_number_is_what_its_name_says():
    cell, x = (
        RHN(5, 7, 2, init="gaussian:0.5", dtype=torch.float64),
        torch.rand(4, 5, dtype=torch.float64),
    )
    record = spectra(Run.of(cell, x))
    A = temporal_jacobian(cell, x, trajectory(cell, x)[:-1]).detach().numpy()
    product = np.eye(7)
    for t in range(4):
        values = np.linalg.eigvals(A[t])
        product = A[t] @ product
        assert record.spectral_radius[t] == pytest.approx(np.abs(values).max())
        assert record.norm[t] == pytest.approx(np.linalg.norm(A[t], 2))
        assert record.norm[t] <= float(record.norm_bound)
        assert record.numerical_radius[t] == pytest.approx(
            float(numerical_radius(torch.as_tensor(A[t]))), rel=5e-3
        )
        assert record.departure_from_normality[t] == pytest.approx(
            float(departure_from_normality(torch.as_tensor(A[t]), relative=True))
        )
        around = record.range_outline(t)
        assert around.real.max() == pytest.approx(np.linalg.eigvalsh((A[t] + A[t].T) / 2)[-1])
        assert around[0] == around[-1]
        edges = np.diag(A[t]) + np.abs(A[t]).sum(1) - np.abs(np.diag(A[t]))
        assert record.rightmost_disc[t] == pytest.approx(edges.max())
        assert record.log_norm_product[t] == pytest.approx(math.log(np.linalg.norm(product, 2)))
        assert record.finite_time_exponent[t] == pytest.approx(record.log_norm_product[t] / (t + 1))
        assert record.reach[t] == pytest.approx(np.abs(A[t]).sum(1).max())
    assert np.allclose(eigenvalues(torch.as_tensor(A)).numpy(), record.eigenvalues)
    assert record.transform_gate.shape == (4, 2)
    assert record.transform_gate[0, 0] == pytest.approx(
        cell.gates(x[0], torch.zeros(7).double()).t[0].mean().item()
    )


@pytest.mark.parametrize("discs", ["row", "column", "both"])
@given(A=square_matrices())
def test_the_discs_reach_at_least_as_far_as_the_spectrum(discs, A):
    record = of_matrices(A[None], "one", discs=discs)
    assert (record.reach >= record.spectral_radius * (1 - 1e-12)).all()
    assert np.isnan(record.looseness) if not A.any() else record.looseness >= 1


def test_words_and_numbers_speak_of_the_same_discs():
    # rows reach 2.1, 1.4; columns 2.3, 1.0
    A = torch.tensor([[[0.1, 2.0], [0.2, 0.3]], [[0.1, 0.3], [0.9, 0.5]]])
    reach = {"row": [2.1, 1.4], "column": [2.3, 1.0], "both": [2.1, 1.0]}
    inside = {"row": [0.5, 0.5], "column": [0.5, 0.5], "both": [0.5, 0.5]}
    for discs, words in (
        ("row", "row discs"),
        ("column", "column discs"),
        ("both", "row and column discs where they overlap"),
    ):
        record = of_matrices(A, "two", discs=discs)
        assert record.reach == pytest.approx(reach[discs])
        assert record.rightmost_disc == pytest.approx(reach[discs])
        assert record.discs_inside_unit_circle.tolist() == inside[discs]
        assert record.looseness == pytest.approx(reach[discs] / record.spectral_radius)
        largest = f"The largest modulus in the {words} is {max(reach[discs]):.3g}, outside"
        assert largest in record.summary()
        assert record.to_dict()["discs"] == discs
        assert record.table()[1]["reach"] == pytest.approx(reach[discs][1])


def test_eigenvalues_on_the_unit_circle_up_to_rounding_have_not_left_it():
    turn = torch.tensor([[[0.0, -1.0], [1.0, 0.0]]], dtype=torch.float64)
    single = (turn * (1 + 5e-7)).float()
    for A, leaves in ((turn * (1 + 1e-15), False), (turn * (1 + 1e-6), True), (single, False)):
        record = of_matrices(A, "turn")
        assert record.spectral_radius.max() > 1
        assert ("of the eigenvalues lie outside the unit circle" in record.summary()) == leaves


def test_a_radius_that_is_one_up_to_rounding_is_printed_as_one():
    for n in (4, 16, 64):
        Q = torch.linalg.qr(torch.randn(n, n).double())[0]
        x, s0 = torch.zeros(9, 1).double(), torch.ones(n).double()
        words = gersgorin.spectra(lambda x, s, Q=Q: Q @ s, x, s0=s0).summary()
        assert "eigenvalue lies 1 from 0, on the unit circle" in words


def test_growth_and_eigenvalues_are_judged_with_one_tolerance():
    for dtype, factor, near in (
        (torch.float32, 1 - 1e-6, True),
        (torch.float64, 1 - 1e-8, True),
        (torch.float64, 1 + 1e-6, False),
    ):
        s0 = torch.ones(3, dtype=dtype)
        words = str(gersgorin.spectra(lambda x, s, f=factor: f * s, torch.zeros(50, 1), s0=s0))
        assert ("keeps its norm" in words) == ("on the unit circle" in words) == near


def test_rounding_is_not_drawn_as_a_spectrum():
    A = 0.5 * torch.eye(4)[None] + 3e-8 * torch.randn(1, 4, 4, generator=torch.Generator())
    assert extent(of_matrices(A, "single"), 0)[0] == 0
    assert extent(of_matrices(A.double(), "double"), 0)[0] > 0


def test_rounding_is_spoken_of_where_it_shows():
    large, small = (torch.from_numpy(grcar(n))[None] for n in (100, 20))
    assert "rounding alone" in of_matrices(large, "grcar").summary()
    assert "rounding" not in of_matrices(small, "small").summary()


def test_files_need_no_pickle_keep_complex_eigenvalues_and_are_strict_json(tmp_path):
    record = record_of(RHN(5, 7, 3, init="gaussian:0.4", dtype=torch.float64))
    again = Spectra.load(record.save(tmp_path / "r.npz"))
    with np.load(tmp_path / "r.npz", allow_pickle=False) as arrays:
        assert arrays["eigenvalues"].dtype == np.complex128
    assert (
        repr(again.table()) == repr(record.table()) and again.title == record.title
    )  # as texts: NaN is none of itself
    data = json.loads(record.save(tmp_path / "r.json").read_text(), parse_constant=pytest.fail)
    assert np.array(data["eigenvalues"]).shape == (6, 7, 2) and len(data["steps"]) == 6
    with pytest.raises(DataError, match="not a record"):
        Spectra.load(tmp_path / "r.json")
    np.savez(tmp_path / "mine.npz", x=np.ones(3))
    with pytest.raises(DataError, match="does not name the kind of its result"):
        gersgorin.load(tmp_path / "mine.npz")


@pytest.mark.parametrize(
    ("log_norms", "words"),
    [
        ([-0.1, -0.2], "halves every 6.93 steps"),
        ([0.1, 0.2], "doubles every 6.93 steps"),
        ([-1.0, -2.0], "halves every 0.693 steps"),
        ([0.0, 0.0], "keeps its norm"),
        ([0.0, -np.inf], "is zero up to rounding after 2 steps"),
    ],
)
def test_the_sentence_says_what_the_products_do(log_norms, words):
    record = replace(of_matrices(torch.ones(2, 1, 1), "ones"), log_norm_product=np.array(log_norms))
    assert next(record.sentences()) == f"The gradient of ones {words}."
    assert [math.isinf(record.half_life), math.isinf(record.doubling_time)] == [
        log_norms[-1] >= 0,
        log_norms[-1] <= 0,
    ]


@pytest.mark.parametrize(
    ("kind", "name"),
    [("lstm", "input gate"), ("gru", "1 - update gate"), ("rhn", "transform gate")],
)
def test_a_gate_is_called_as_its_cell_calls_it(kind, name):
    record = spectra(new_cell(kind, 4), chorale("bwv66.6")[:3])
    labels = alone(plot_suggested, record).get_legend_handles_labels()[1]
    assert record.gate_name == name and name in labels


def test_a_figure_says_what_the_model_was_built_with_and_what_it_reads():
    model = PolyphonicModel("rnn", hidden_size=6, init="gaussian:0.3")
    found = spectra(model, chorale("bwv269")[:9])
    assert found.about == f"built with gaussian:0.3; valid-4 of {chorales_origin()}"
    assert found.about in " ".join(found.plot().get_figure(root=True).get_supxlabel().split())
    # its weights are torch's
    assert spectra(from_torch(nn.LSTM(4, 5)), torch.rand(9, 4)).about == ""
