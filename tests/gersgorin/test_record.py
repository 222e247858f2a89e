"""A record holds what was measured, survives a file, and reads itself in one sentence."""

import json
import math

import numpy as np
import pytest
import torch

from gersgorin import eigenvalues, temporal_jacobian, trajectory
from gersgorin.measure import measure_spectrum
from gersgorin.record import SpectrumRecord, reading
from gersgorin.tables import summary_table
from rhn.cells import LSTM, RHN, RNN
from rhn.errors import DataError, InvalidInputError


def record_of(cell, T=6, **options) -> SpectrumRecord:
    x = torch.rand(T, cell.input_size, dtype=torch.float64)
    return measure_spectrum(cell, x, name="cell", chorale="noise", **options)


@pytest.fixture(scope="module")
def record() -> SpectrumRecord:
    torch.manual_seed(1)
    return record_of(RHN(5, 7, 3, init="gaussian:0.4", dtype=torch.float64))


def test_every_number_is_what_its_name_says():
    cell, x = RHN(5, 7, 2, init="gaussian:0.5", dtype=torch.float64), torch.rand(4, 5, dtype=torch.float64)
    record = measure_spectrum(cell, x, name="rhn", chorale="noise")
    A = temporal_jacobian(cell, x, trajectory(cell, x)[:-1]).detach().numpy()
    product = np.eye(7)
    for t in range(4):
        values = np.linalg.eigvals(A[t])
        product = A[t] @ product
        assert record.spectral_radius[t] == pytest.approx(np.abs(values).max())
        assert record.norm[t] == pytest.approx(np.linalg.norm(A[t], 2)) and record.norm[t] <= float(record.norm_bound)
        edges = np.diag(A[t]) + np.abs(A[t]).sum(1) - np.abs(np.diag(A[t]))
        assert record.rightmost_disc[t] == pytest.approx(edges.max())
        assert record.log_norm_product[t] == pytest.approx(math.log(np.linalg.norm(product, 2)))
        assert record.finite_time_exponent[t] == pytest.approx(record.log_norm_product[t] / (t + 1))
    assert np.allclose(eigenvalues(torch.as_tensor(A)).numpy(), record.eigenvalues)
    assert record.transform_gate.shape == (4, 2)
    assert record.transform_gate[0, 0] == pytest.approx(cell.gates(x[0], torch.zeros(7).double()).t[0].mean().item())


def test_npz_round_trip_needs_no_pickle_and_keeps_complex_eigenvalues(record, tmp_path):
    again = SpectrumRecord.load(record.save(tmp_path / "r.npz"))
    with np.load(tmp_path / "r.npz", allow_pickle=False) as arrays:
        assert arrays["eigenvalues"].dtype == np.complex128
    assert again.steps() == record.steps() and again.title == record.title


def test_json_is_strict_and_complete(record, tmp_path):
    data = json.loads(record.save(tmp_path / "r.json").read_text(), parse_constant=pytest.fail)
    assert np.array(data["eigenvalues"]).shape == (6, 7, 2) and len(data["steps"]) == 6


def test_a_file_that_is_no_record_is_refused(tmp_path):
    (tmp_path / "r.npz").write_bytes(b"not a zip")
    with pytest.raises(DataError, match="not a record"):
        SpectrumRecord.load(tmp_path / "r.npz")


def test_an_lstm_is_measured_in_its_joint_state():
    assert record_of(LSTM(5, 7, dtype=torch.float64)).eigenvalues.shape == (6, 14)


def test_states_that_overflow_are_refused():
    cell = RHN(5, 7, coupled=False, dtype=torch.float64)
    with torch.no_grad():
        cell.weight_hh.fill_(float("nan"))
    with pytest.raises(InvalidInputError, match="NaN or infinite"):
        record_of(cell)


def test_a_cell_of_ones_own_without_a_bound_has_none():
    class Own(torch.nn.Module):
        state_size, input_size = 3, 2

        def step(self, x, s):
            return torch.tanh(2 * s + x.sum())

    record = record_of(Own())
    assert math.isnan(float(record.norm_bound)) and "none" in summary_table(record)


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
    one = np.ones((2, 1))
    record = SpectrumRecord(
        **dict.fromkeys(("row_centers", "row_radii", "column_centers", "column_radii", "transform_gate"), one),
        eigenvalues=one + 0j,
        norm=np.ones(2),
        norm_bound=np.array(1.0),
        log_norm_product=np.array(log_norms),
        **{"cell": "c", "depth": 1, "hidden_size": 1, "chorale": "x", "title": "c"},
    )
    assert words in reading(record)


def test_the_sentence_looks_at_both_ends_of_the_discs():
    cell = RNN(5, 4, dtype=torch.float64)
    with torch.no_grad():
        for p in cell.parameters():
            p.zero_()
        cell.weight_hh.copy_(-2 * torch.eye(4))
    assert "some eigenvalues leave the unit circle" in reading(record_of(cell))
