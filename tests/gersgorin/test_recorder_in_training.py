"""A recorder measures during training what direct computations measure, changes no weight, and its
file goes on after a kill; the callbacks of examples/ against a loop in plain PyTorch.
"""

import copy
import inspect
import linecache
import math
import subprocess
import sys
import warnings
from dataclasses import replace
from functools import partial
from itertools import accumulate
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from readable import other_words, without_layout, words_in
from torch import nn
from torch.autograd.functional import jacobian
from user_modules import EachState, OwnLoop

from gersgorin.analyses.complex_plane import PLANE_TEXTS
from gersgorin.analyses.disc_panels import DISC_TEXTS
from gersgorin.analyses.recording_figure import LINE, _height
from gersgorin.recorder import LONGEST_UNSAVED, Recorder, gradient_norms, weights_of
from gersgorin.recording import ARRAYS, LOST, MEASURES, NO_GRADIENT, Recording
from rhn.cells import CELLS
from rhn.errors import DataError, InvalidInputError, NotFiniteError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.utils.named_curves import CURVE_TEXTS, CUT
from tests.cases import SHALLOW_CASES

T, M, N = 9, 5, 7
STEPS, BATCH, RATE = 6, 5, 0.1  # of the training runs of libraries


def tagger():
    """Dropout before a batch-first LSTM."""
    return nn.Sequential(nn.Dropout(0.3), EachState(3, "LSTM", N, M))


def looped():
    return OwnLoop(nn.LSTMCell(M, N), batch_first=False)


def frames(*lead, seed=0):
    return torch.rand(*lead, M, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def train(model, steps, recorder_of=None):
    """SGD on noise; the losses and a random number drawn after it, and what a recorder recorded."""
    torch.manual_seed(3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, 0.9)
    recorder, losses = recorder_of(model) if recorder_of else None, []
    for k in range(steps):
        optimizer.zero_grad()
        y = model(frames(4, T, seed=k))
        loss = ((y[0] if isinstance(y, tuple) else y) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if recorder:
            recorder.step(loss)
    return [*losses, torch.rand(1).item(), model.training], recorder and recorder.recording


@pytest.mark.parametrize("case", SHALLOW_CASES, ids=str)
def test_every_number_is_that_of_autograd_and_numpy(case):
    cell = case.build(M, N).requires_grad_(False)
    sequences = [frames(T).double(), frames(T - 3, seed=1).double()]
    found = Recorder(cell, sequences).recording

    def step(x, s):
        return cell.step(x[None], s[None])[0]

    pairs, runs = [], []
    for x in sequences:
        s0 = torch.zeros(cell.state_size).double()
        pairs.append([*zip(x, accumulate(x, lambda s, x: step(x, s), initial=s0), strict=False)])
        runs.append([jacobian(partial(step, x_t), s).numpy() for x_t, s in pairs[-1]])
    at = [(0, 0), (1, 2), (0, 5), (1, 5)]  # 1.67 and 5.33 to the nearest step
    A, n = np.array([runs[b][t] for b, t in at]), cell.state_size
    B = [jacobian(step, pairs[b][t])[0] for b, t in at]
    rows = [[each[None] for each in pairs[b][t]] for b, t in at]
    layers = [cell.layer_jacobians(*row) if cell.layer_jacobians else [J[None]]
              for row, J in zip(rows, A, strict=True)]  # fmt: skip
    moduli = np.abs(np.linalg.eigvals(A))
    products = [np.linalg.multi_dot(run[T - 4 :: -1]) for run in runs]
    expected = {
        "radius": moduli.max(1),
        "bulk": [each.trace() / n for each in A],
        "reach": np.linalg.norm(A, np.inf, axis=(1, 2)),
        "input_gain": [np.linalg.norm(each, 2) for each in B],
        "state_gain": [[np.linalg.norm(J[0, :n, :n], 2) for J in each] for each in layers],
        "exponent": np.mean([math.log(np.linalg.norm(P, 2)) / (T - 3) for P in products]),
        "gate": [[t.mean().item() for t in cell.gates(*row).t] for row in rows],
        "centers": A[2].diagonal(),
        "radii": np.abs(A[2]).sum(1) - np.abs(A[2].diagonal()),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(found, name)[0], value, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(np.sort(np.abs(found.eigenvalues[0])), np.sort(moduli[2]), 1e-6)
    assert found.exponent_steps == T - 3


def test_eigenvalues_that_do_not_converge_are_nan_and_training_goes_on(monkeypatch):
    def fails(error):
        raise error

    model = nn.GRU(M, N)
    recorder = Recorder(model, frames(T), every=1)
    for library in (torch.linalg, np.linalg):
        never = partial(fails, library.LinAlgError)
        monkeypatch.setattr(library, "eigvals", lambda _, never=never: never())
    model(frames(T))[0].sum().backward()
    recorder.step()
    found = recorder.recording
    assert np.isnan(found.radius).all(1).tolist() == [False, True] and found.notes()[LOST] == 1
    assert np.isfinite(found.reach).all() and np.isfinite(found.exponent).all()


def test_gradients_are_those_that_stand_at_the_step_a_layer_apart():
    model = PolyphonicModel("rhn", hidden_size=N, depth=3, input_size=M, output_size=M)
    recorder = Recorder(model, frames(T), every=2)
    for scale in (1.0, 3.0):
        model.zero_grad()
        (scale * model(frames(T, 2)).square().sum()).backward()
        recorder.step(loss=scale)
    found, R = recorder.recording, model.cells[0].weight_hh
    assert found.step.tolist() == [0, 2] and found.loss[1] == 3.0
    assert np.isnan(found.gradient_norm[0]).all()
    norms = dict(zip(found.parameters, found.gradient_norm[1], strict=True))
    rates = dict(zip(found.parameters, found.relative_rate[1], strict=True))
    layers = [f"cells.0.{name}[{k}]" for name in ("weight_hh", "bias") for k in range(3)]
    assert [*norms] == ["cells.0.weight_ih", *layers, "output.weight", "output.bias"]
    for k in range(3):
        assert norms[f"cells.0.weight_hh[{k}]"] == pytest.approx(R.grad[k].norm().item())
    assert rates["cells.0.weight_hh[1]"] == pytest.approx((R.grad[1].norm() / R[1].norm()).item())
    assert np.isnan(rates["output.bias"])  # it is zero
    whole = math.sqrt(sum(p.grad.square().sum().item() for p in model.parameters()))
    assert found.mean("gradient_norm")[1] == pytest.approx(whole)
    known = [rate for name, rate in rates.items() if "bias" not in name]
    assert found.table()[MEASURES["relative_rate"]][1] == pytest.approx(np.mean(known))
    complex_weights = nn.ParameterList([torch.tensor([3j, 4.0])])
    complex_weights[0].abs().square().sum().backward()
    assert gradient_norms(complex_weights)[0] == pytest.approx([10.0])
    complex_weights[0].grad[0] = 0.0
    assert gradient_norms(complex_weights)[0] == pytest.approx([8.0])


@pytest.mark.parametrize(
    "build",
    [tagger, looped, partial(nn.GRU, M, N), partial(CELLS["rhn"], M, N, 2)],
    ids=["tagger", "loop", "GRU", "RHN"],
)
def test_a_training_run_with_a_recorder_is_the_same_to_the_bit(build):
    model = build()
    recorded, alone = copy.deepcopy(model), copy.deepcopy(model)
    probe = frames(T)[:, None] if build is looped else frames(T)
    losses, found = train(recorded, 7, lambda model: Recorder(model, probe, every=2))
    assert train(alone, 7)[0] == losses
    for a, b in zip(recorded.parameters(), alone.parameters(), strict=True):
        assert torch.equal(a, b) and torch.equal(a.grad, b.grad)
    assert found.step.tolist() == [0, 2, 4, 6] and len(set(found.radius[:, 0])) == 4
    assert found.loss[1:] == pytest.approx([losses[k] for k in (1, 3, 5)])


def test_the_layer_inside_a_model_reads_what_the_model_gives_it():
    x, model = frames(T), tagger()
    alone = Recorder(model[1].rnn, x).recording
    np.testing.assert_array_equal(Recorder(model, x[None]).recording.radius, alone.radius)
    model, ids = LanguageModel("lstm", vocabulary_size=11, hidden_size=N, layers=2), torch.arange(T)
    below = model.cells[0](model.embedding[ids])[0].detach()
    upper = Recorder(model, ids, layer="cells.1").recording
    np.testing.assert_allclose(upper.radius, Recorder(model.cells[1], below).recording.radius, 1e-5)
    stack = Recorder(nn.LSTM(M, N, 2), x, positions=3).recording
    assert stack.state_gain.shape == stack.gate.shape == (1, 3, 2)
    for lengths, positions in (([2], 2), ([2, T], 4)):
        found = Recorder(nn.GRU(M, N), [frames(n) for n in lengths], positions=4).recording
        assert found.radius.shape == (1, positions)


def test_a_mean_is_over_numbers_that_are_known_and_notes_count_moments_without():
    found = replace(
        Recorder(nn.GRU(M, N), frames(T)).recording,
        step=np.arange(3),
        radius=np.array([[2.0, np.nan, np.nan], [1.0, np.nan, 4.0], [1.0, 2.0, 6.0]]),
        gradient_norm=np.array([[np.nan, np.nan], [3.0, np.nan], [np.nan, np.nan]]),
    )
    np.testing.assert_array_equal(found.mean("radius"), [2.0, 2.5, 3.0])
    np.testing.assert_array_equal(found.mean("gradient_norm"), [np.nan, 3.0, np.nan])
    assert found.notes() == {LOST: 2, NO_GRADIENT: 1}


def test_gradients_of_zero_are_missing():
    layer = nn.Linear(2, 1)
    for weight in layer.parameters():
        weight.grad = torch.zeros_like(weight)
    assert np.isnan(gradient_norms(layer)).all()


def test_the_signature_of_a_recorder_names_its_options():
    names = [*inspect.signature(Recorder).parameters]
    assert (names[0], names[-1]) == ("model", "progress") and "how" not in names


def test_only_a_cell_has_weights_of_layers():
    assert [*weights_of(nn.Conv1d(2, 3, 2))] == ["weight", "bias"]


def test_a_recorder_from_the_start_does_not_read_its_file(tmp_path):
    model, path = nn.GRU(M, N), tmp_path / "a.npz"
    Recorder(model, frames(T), path=path).close()
    nn.init.zeros_(model.weight_hh_l0)
    found = Recorder(model, frames(T), path=path).recording.radius
    assert np.array_equal(found, Recorder(model, frames(T)).recording.radius)


@pytest.mark.gpu
def test_on_a_gpu_the_recorded_numbers_are_the_same():
    model, ids = LanguageModel("lstm", vocabulary_size=11, hidden_size=N), torch.arange(T)
    ours, theirs = (Recorder(each, ids).recording for each in (model, copy.deepcopy(model).cuda()))
    for name in ("radius", "reach", "input_gain", "state_gain", "exponent"):
        np.testing.assert_allclose(getattr(theirs, name), getattr(ours, name), 1e-9)


def test_gradients_that_are_nan_are_not_missing():
    model = nn.GRU(M, N)
    recorder = Recorder(model, torch.randn(6, M), every=1)
    for weight in model.parameters():
        weight.grad = torch.full_like(weight, torch.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recorder.step()
    assert recorder.recording.notes()[NO_GRADIENT] == 1


def test_a_run_that_diverges_is_nan_and_a_zero_product_minus_infinity():
    model = nn.RNN(M, N, nonlinearity="relu")
    nn.init.zeros_(model.weight_hh_l0)
    recorder = Recorder(model, frames(T))
    nn.init.constant_(model.weight_hh_l0, torch.nan)
    recorder.measure(1, torch.tensor(torch.nan))
    found = recorder.recording
    assert found.exponent[0] == found.mean("exponent")[0] == -math.inf
    assert np.isfinite(found.radius[0]).all() and np.isnan(found.radius[1]).all()
    assert found.notes() == {LOST: 1, NO_GRADIENT: 1} and f"{LOST}: 1" in str(found)
    without_layout(found).draw_without_rendering()


def test_a_row_without_finite_states_keeps_the_loss_and_the_gradients():
    model = nn.GRU(M, N)
    recorder = Recorder(model, frames(T))
    model(frames(T))[0].sum().backward()
    norms = [p.grad.double().norm().item() for p in model.parameters()]
    nn.init.constant_(model.bias_hh_l0, torch.nan)
    recorder.measure(7, 2.5)
    found = recorder.recording
    assert found.step.tolist() == [0, 7] and found.loss[1] == 2.5
    np.testing.assert_allclose(found.gradient_norm[1], norms, rtol=1e-6)
    for name in ("radius", "reach", "exponent", "input_gain", "state_gain", "eigenvalues"):
        assert (
            np.isnan(getattr(found, name)[1]).all() and np.isfinite(getattr(found, name)[0]).all()
        )
    with pytest.raises(NotFiniteError, match="weights of GRU are NaN"):
        Recorder(model, frames(T))


def test_a_recorder_that_starts_late_counts_from_its_start(tmp_path):
    model, path = nn.GRU(M, N), tmp_path / "late.npz"
    model(frames(T))[0].sum().backward()
    for file in (None, path):  # without a file, and with one that is not there yet
        with Recorder(model, frames(T), 4, path=file, start=6) as late:
            for _ in range(3):
                late.step()
        assert late.recording.step.tolist() == [6, 8]
    assert len(Recording.load(path)) == 2
    path.unlink()
    late.save()
    assert not path.exists(), "a file that has all measurements is not written again"


def test_a_gradient_of_0_beside_others_is_a_number_and_the_ratio_to_a_weight_of_0_is_none():
    model = nn.RNN(M, N)
    model(frames(T))[0].sum().backward()
    model.bias_hh_l0.grad.zero_()
    model.bias_ih_l0.grad = None
    nn.init.zeros_(model.weight_ih_l0)
    norms, rates = (dict(zip(dict(model.named_parameters()), each, strict=True))
                    for each in gradient_norms(model))  # fmt: skip
    assert norms["bias_hh_l0"] == rates["bias_hh_l0"] == 0
    assert np.isnan([norms["bias_ih_l0"], rates["bias_ih_l0"], rates["weight_ih_l0"]]).all()
    gradient, weight = model.weight_hh_l0.grad.double().norm(), model.weight_hh_l0.double().norm()
    assert rates["weight_hh_l0"] == pytest.approx((gradient / weight).item())
    assert norms["weight_ih_l0"] == pytest.approx(model.weight_ih_l0.grad.norm().item())


def test_the_file_is_whole_when_a_write_is_killed_and_never_long_behind(tmp_path, monkeypatch):
    path, now = tmp_path / "run.npz", [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr("gersgorin.recorder.time", clock)
    recorder = Recorder(nn.GRU(M, N), frames(T), path=path)
    for step, (seconds, saved) in enumerate(((LONGEST_UNSAVED - 1, 1), (2, 3), (1, 3)), 1):
        now[0] += seconds
        recorder.measure(step)
        assert len(Recording.load(path)) == saved

    def killed(file, **arrays):
        file.write(b"PK half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", killed)
    with pytest.raises(KeyboardInterrupt):
        recorder.save()
    monkeypatch.undo()
    assert len(Recording.load(path)) == 3 and [*tmp_path.iterdir()] == [path]


def test_a_resumed_recording_has_the_same_bytes_and_no_double_entries(tmp_path):
    whole, path, model = tmp_path / "whole.npz", tmp_path / "run.npz", tagger()
    model(frames(1, T)).square().sum().backward()
    for file in (whole, path):
        with Recorder(model, frames(1, T), every=2, path=file) as recorder:
            for loss in (1.0, 2.0, 3.0, 4.0, 5.0):
                recorder.step(loss)
    # the state was of step 3, the file of step 4
    with Recorder(model, frames(1, T).numpy(), 2, path=path, start=3) as again:
        assert again.recording.step.tolist() == [0, 2]
        for loss in (4.0, 5.0):
            again.step(loss)
    assert again.recording.step.tolist() == [0, 2, 4] and path.read_bytes() == whole.read_bytes()
    kept = Recorder(model, frames(1, T), 2, path=path, start=4).recording
    assert kept.step.tolist() == [0, 2, 4]
    others = [(nn.GRU(M, N), frames(T), 2, 4), (model, frames(1, T), 2, 3)]
    others += [(model, frames(1, T, seed=1), 2, 4), (model, frames(1, T), 3, 4)]
    for other, probe, every, positions in others:
        with pytest.raises(DataError, match="expected this network, probe"):
            Recorder(other, probe, every, positions=positions, path=path, start=2)
    # a new training run begins anew
    assert Recorder(nn.GRU(M, N), frames(T), path=path).recording.step.tolist() == [0]


def test_a_file_holds_all_arrays_and_one_of_version_0_6_0_is_read(tmp_path):
    _, found = train(nn.RNN(M, N), 4, lambda model: Recorder(model, frames(T), 2, constant=2.5))
    old = {name: getattr(found, name) for name in (*ARRAYS, "every", "probe", "exponent_steps")}
    old |= {"kind": "recording", "title": found.network, "about": found.data, "constant": 2.5}
    old |= {"parameters": np.array(found.parameters), "training_seconds": 1.0}
    np.savez(tmp_path / "old.npz", **old)
    paths = [*(found.save(tmp_path / name) for name in ("r.npz", "r.json")), tmp_path / "old.npz"]
    for again in map(Recording.load, paths):
        assert str(again) == str(found)
        for name, value in vars(found).items():
            np.testing.assert_array_equal(getattr(again, name), value)
    np.savez(tmp_path / "old.npz", **{name: old[name] for name in old if name != "radius"})
    with pytest.raises(DataError, match="not a record written by"):
        Recording.load(tmp_path / "old.npz")


def test_a_recorder_of_no_sequence_is_refused():
    with pytest.raises(InvalidInputError, match=r"^x is an empty list: expected at least one seq"):
        Recorder(nn.GRU(M, N), [])


@pytest.mark.parametrize("to_none", [True, False])
def test_a_step_after_zero_grad_warns_once_and_records_no_gradients(to_none):
    def trained(late: bool) -> Recording:
        recorder = Recorder(model := looped(), frames(T, 1), every=1)
        for k in range(3):
            model(frames(T, 4, seed=k)).square().mean().backward()
            if late:
                model.zero_grad(set_to_none=to_none)
            recorder.step()
        return recorder.recording

    with pytest.warns(UserWarning, match="0 or missing") as told:
        late = trained(True)
    assert len(told) == 1 and late.notes()[NO_GRADIENT] == 3
    # the line that a reader of the warning looks for
    assert linecache.getline(told[0].filename, told[0].lineno).strip() == "recorder.step()"
    assert np.isnan(late.gradient_norm).all() and np.isnan(late.relative_rate).all()
    with warnings.catch_warnings(action="error"):
        assert (trained(False).gradient_norm[1:] > 0).all()


UNCLOSED = """
import torch
from gersgorin.recorder import Recorder
model, x = torch.nn.LSTM(3, 8), torch.randn(20, 3)
at_exit, dropped = (Recorder(model, x, every=1, path=path) for path in ("a.npz", "b.npz"))
for recorder in (at_exit, dropped):
    for k in range(7):
        model(x)[0].sum().backward()
        recorder.step()
del dropped, recorder
from gersgorin.recording import Recording
assert len(Recording.load("a.npz")) < len(Recording.load("b.npz")) == 8
"""


@pytest.mark.slow
def test_a_recorder_that_is_not_closed_writes_all_measurements(tmp_path):
    subprocess.run([sys.executable, "-c", UNCLOSED], check=True, cwd=tmp_path)
    assert Recording.load(tmp_path / "a.npz").step.tolist() == [*range(8)]


def test_figures_and_tables_show_the_recording_and_no_other_words():
    _, found = train(CELLS["rhn"](M, N, 2), 6, lambda model: Recorder(model, frames(T), 1))
    found = replace(found, constant=0.5)
    figure = found.figure()
    for ax, k in zip(figure.axes[:4], (0, 2, 4, 6), strict=True):
        points = next(line for line in ax.lines if line.get_marker() == ".")
        np.testing.assert_array_equal(points.get_xdata(), found.eigenvalues[k].real)
    panels = {ax.get_title("left"): ax for ax in figure.axes[4:]}
    assert [*panels] == [*MEASURES.values()]
    for name, line in (("exponent", found.exponent), ("bulk", found.bulk.mean(1))):
        drawn = panels[MEASURES[name]].lines[0]
        np.testing.assert_array_equal(drawn.get_data(), (found.step, line))
    assert panels["loss"].lines[1].get_ydata().tolist() == [0.5] * 7
    gates = [line.get_ydata() for line in panels[MEASURES["gate"]].lines]
    np.testing.assert_array_equal(gates, found.gate.mean(1).T)
    rows = [line.split("   ")[0] for line in found.whole().splitlines()]
    assert rows[2:13] == ["optimiser step", *MEASURES.values()]
    words = (
        *found.parameters,
        *PLANE_TEXTS,
        *CURVE_TEXTS,
        *DISC_TEXTS,
        "depth",
        "units",
        "^{",
        "{",
        "}}$",
    )
    text = " ".join([*words_in(figure), str(found), found.whole()])
    assert other_words(text, found, words) == set()


def test_a_first_loss_above_all_others_is_cut_in_a_figure():
    _, found = train(CELLS["rhn"](M, N, 2), 6, lambda model: Recorder(model, frames(T), 1))
    found = replace(found, loss=np.array([60.0, 3, 2, 1, 1, 1, 1]))
    panels = {ax.get_title("left"): ax for ax in without_layout(found).axes}
    marks = {name: [t.get_text() for t in ax.texts if t.get_gid() == CUT]
             for name, ax in panels.items()}  # fmt: skip
    assert marks.pop("loss") == ["↑ 60"] and panels["loss"].get_ylim()[1] < 4
    assert not any(marks.values())


def test_a_column_has_the_first_and_the_last_measurement_and_the_spectral_radius():
    _, found = train(CELLS["rhn"](M, N, 2), 6, lambda model: Recorder(model, frames(T), 1))
    figure = found.figure(size="column")
    *planes, curve = figure.axes
    titles = [ax.get_title("left") for ax in planes]
    assert titles == ["optimiser step 0", "optimiser step 6"] and figure.get_figheight() <= 4
    np.testing.assert_array_equal(curve.lines[0].get_ydata(), found.radius.mean(1))


def test_the_plane_of_a_measurement_has_room_for_the_discs_of_all():
    _, found = train(CELLS["rhn"](M, N, 2), 6, lambda model: Recorder(model, frames(T), 1))
    found.radii[3] += 5
    reach = (np.abs(found.centers) + found.radii).max()
    assert found.plot_moment(moment=0).get_xlim()[1] > reach


class Predictor(nn.Module):
    """A GRU that predicts a number, and its loss, as models of transformers return them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.head = nn.GRU(M, 4, batch_first=True), nn.Linear(4, 1)

    def forward(self, x, labels=0.0):
        y = self.head(self.rnn(x)[0][:, -1])[:, 0]
        return {"loss": (y - labels).square().mean(), "logits": y}


ROWS = [{"x": x, "labels": x.sum()} for x in frames(STEPS * BATCH, T)]


def compare_with_a_plain_loop(recording, model, accumulated):
    """Compare gradients and weights with those of a loop without a library. Returns its losses."""
    plain, norms, losses = Predictor(), [], []
    optimizer = torch.optim.SGD(plain.parameters(), RATE)
    batches = [[torch.stack([row[k] for row in ROWS[n : n + BATCH]]) for k in ("x", "labels")]
               for n in range(0, len(ROWS), BATCH)]  # fmt: skip
    for k, batch in enumerate(batches, 1):
        loss = plain(*batch)["loss"]
        (loss / accumulated).backward()
        if k % accumulated == 0:
            norms.append([p.grad.norm().item() for p in plain.parameters()])
            losses.append(loss.item())
            optimizer.step()
            optimizer.zero_grad()
    assert recording.step.tolist() == [*range(len(norms) + 1)]
    np.testing.assert_allclose(recording.gradient_norm[1:], norms, rtol=1e-5)
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p, q)
    last = Recorder(plain, frames(1, 4)).recording
    np.testing.assert_allclose(recording.radius[-1], last.radius[0], rtol=1e-4)
    return losses


@pytest.mark.parametrize("accumulated", [1, 2])
def test_the_callback_of_lightning(accumulated, tmp_path, monkeypatch):
    pl = pytest.importorskip("lightning.pytorch", reason="lightning is optional")
    from examples.callbacks.lightning_recorder import RecorderCallback

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = Predictor()

        def forward(self, x):
            return self.model(x)["logits"]

        def training_step(self, batch, _):
            return self.model(**batch)["loss"]

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), RATE)

    monkeypatch.setattr("gersgorin.Recorder", Recorder, raising=False)
    module, callback = Module(), RecorderCallback(frames(1, 4), every=1, layer="model.rnn")
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    how = {"accumulate_grad_batches": accumulated, "accelerator": "cpu", "max_epochs": 1}
    trainer = pl.Trainer(**how, **dict.fromkeys(quiet, False), default_root_dir=tmp_path,
                         callbacks=[callback])  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(ROWS, BATCH))
    found = callback.recorder.recording
    losses = compare_with_a_plain_loop(found, module.model, accumulated)
    np.testing.assert_allclose(found.loss[1:], losses, rtol=1e-5)


@pytest.mark.parametrize("accumulated", [1, 2])
def test_the_callback_of_the_trainer_of_transformers(accumulated, tmp_path, monkeypatch):
    pytest.importorskip("accelerate", reason="the Trainer of transformers needs accelerate")
    from transformers import Trainer, TrainingArguments

    from examples.callbacks.trainer_recorder import RecorderCallback

    class InOrder(Trainer):
        def _get_train_sampler(self, *_):
            return torch.utils.data.SequentialSampler(self.train_dataset)

    monkeypatch.setattr("gersgorin.Recorder", Recorder, raising=False)
    model, callback = Predictor(), RecorderCallback(frames(1, 4), every=1)
    args = TrainingArguments(
        output_dir=tmp_path, num_train_epochs=1, per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=accumulated, max_grad_norm=0.0, use_cpu=True, report_to=[],
        save_strategy="no", disable_tqdm=True, remove_unused_columns=False,
    )  # fmt: skip
    sgd = torch.optim.SGD(model.parameters(), RATE)
    constant = torch.optim.lr_scheduler.LambdaLR(sgd, lambda _: 1.0)
    InOrder(model, args, train_dataset=ROWS, callbacks=[callback],
            optimizers=(sgd, constant)).train()  # fmt: skip
    compare_with_a_plain_loop(callback.recorder.recording, model, accumulated)


def test_a_line_of_panels_has_room_for_the_names_of_its_curves():
    few, many = ("a", {"one": 1}), ("b", {f"curve {k}": k for k in range(20)})
    assert _height([few]) == LINE and _height([few, many]) == pytest.approx(20 * 0.022 + 0.088)
