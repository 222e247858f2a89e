"""`Recorder` measures through a training what direct calls measure, and the training does not
notice.
"""

import copy
import math
import subprocess
import sys
import warnings
from dataclasses import asdict
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tables import for_each
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from gersgorin import (
    Recorder,
    extract_cell,
    gersgorin_discs,
    input_jacobian,
    layer_jacobians,
    temporal_jacobian,
    trajectory,
)
from gersgorin.linalg.products import finite_time_exponent
from gersgorin.linalg.spectrum import spectral_radius
from gersgorin.recorder import LONGEST_UNSAVED
from gersgorin.recording import MOMENTS, RECORDED_MEASURES, Recording
from rhn.cells import CELLS, from_torch
from rhn.errors import DataError, InvalidInputError, RhnError
from rhn.models import LanguageModel, PolyphonicModel
from tests.cases import SHALLOW_CASES

T, m, n = 9, 5, 7


class Tagger(nn.Module):
    """A user's own model: a batch-first LSTM with dropout around it."""

    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.LSTM(m, n, batch_first=True), nn.Linear(n, 3)

    def forward(self, x):
        y, _ = self.rnn(nn.functional.dropout(x, 0.3, self.training))
        return self.out(nn.functional.dropout(y, 0.3, self.training))


class Looped(nn.Module):
    """A user's own loop over an LSTMCell."""

    def __init__(self):
        super().__init__()
        self.cell = nn.LSTMCell(m, n)

    def forward(self, x):
        state, out = None, []
        for frame in x:
            state = self.cell(frame, state)
            out.append(state[0])
        return torch.stack(out)


def frames(*lead, seed=0):
    return torch.rand(*lead, m, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def train(model, steps, recorder_of=None, *, momentum=0.9):
    """SGD on noise; the losses and random numbers drawn after it, and what a recorder recorded."""
    torch.manual_seed(3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum)
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


@for_each("case", SHALLOW_CASES)
def test_every_number_is_that_of_a_direct_call(case):
    cell, x = case.build(m, n), frames(T, 2).double()
    with Recorder(cell, x, positions=4) as recorder:
        found = recorder.recording
    states = trajectory(cell, x).detach()
    # 2.67 and 5.33 to the nearest step
    where = torch.tensor([0, 3, 5, 8]), torch.tensor([0, 1, 0, 1])
    A, N = temporal_jacobian(cell, x[where], states[where]).detach(), states.shape[-1]
    layers = layer_jacobians(cell, x[where], states[where])
    expected = {
        "radius": spectral_radius(A),
        "bulk": A.diagonal(dim1=-2, dim2=-1).mean(-1),
        "reach": gersgorin_discs(A).norm,
        "input_gain": torch.linalg.matrix_norm(input_jacobian(cell, x[where], states[where]), 2),
        "state_gain": torch.stack(
            [torch.linalg.matrix_norm(J[..., :N, :N], 2) for J in layers], -1
        ),
        "exponent": finite_time_exponent(temporal_jacobian(cell, x, states[:-1])).mean(),
        "radii": gersgorin_discs(A[2]).radii,
    }
    gates = cell.gates(x[where], states[where]).t
    expected["gate"] = torch.stack([t.mean(-1) for t in gates], -1) if gates else torch.empty(4, 0)
    for name, value in expected.items():
        assert getattr(found, name)[0] == pytest.approx(value.detach().numpy(), rel=1e-12), name
    assert np.abs(found.eigenvalues[0, 0]) == pytest.approx(found.radius[0, 2])


def jacobians_by_autograd(module, ids):
    """J[0] ... J[T-1] of one sequence through an embedding and a GRU of torch's, step by step."""
    found, s = [], torch.zeros(1, n)
    for token in module.embedding.weight[ids].detach():
        step = partial(nn.GRUCell.forward, as_cell_of(module.rnn), token[None])
        found.append(torch.autograd.functional.jacobian(step, s).numpy().reshape(n, n))
        s = step(s).detach()
    return found


def as_cell_of(rnn):
    """An nn.GRUCell with the weights of an nn.GRU of one layer."""
    cell = nn.GRUCell(rnn.input_size, rnn.hidden_size)
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in rnn.state_dict().items()})
    return cell


class Packed(nn.Module):
    """A model that packs its padded sequences itself."""

    def __init__(self):
        super().__init__()
        self.embedding, self.rnn = nn.Embedding(11, m), nn.GRU(m, n, batch_first=True)

    def forward(self, ids, lengths):
        packed = pack_padded_sequence(
            self.embedding(ids), lengths, batch_first=True, enforce_sorted=False
        )
        return self.rnn(packed)[0]


def padded(*lengths):
    """Ids (B, T) of sequences that end with padding."""
    ids = torch.randint(1, 11, (len(lengths), max(lengths)))
    for row, length in zip(ids, lengths, strict=True):
        row[length:] = 0
    return ids


@pytest.mark.parametrize("lengths", [(9, 15, 12), (40, 37, 50)])
def test_the_exponent_is_the_mean_over_the_sequences_of_the_steps_that_all_have(lengths):
    ids, steps, module = padded(*lengths), min(32, *lengths), Packed()
    expected = [
        np.log(np.linalg.norm(np.linalg.multi_dot(J[::-1]), 2)) / steps
        for J in (jacobians_by_autograd(module, row[:steps]) for row in ids)
    ]
    found = Recorder(module, (ids, torch.tensor(lengths))).recording
    assert found.exponent == pytest.approx([np.mean(expected)], rel=1e-4)
    assert np.ptp(expected) > 1e-3 and f"exponent of {steps} steps" in repr(found)
    two = Recorder(module, (ids, torch.tensor(lengths)), positions=2).recording
    assert two.exponent == pytest.approx([np.mean(expected[:2])], rel=1e-4)


@pytest.mark.parametrize(
    ("lengths", "where"),
    [
        ((31, 31, 31, 31, 4), [(0, 0), (1, 10), (2, 20), (3, 30)]),
        ((16, 7, 22, 4), [(0, 0), (1, 2), (2, 14), (3, 3)]),
        ((10, 7), [(0, 0), (1, 2), (0, 6), (1, 6)]),
        ((9, 1, 1, 7), [(0, 0), (1, 0), (2, 0), (3, 6)]),
    ],
)
def test_positions_are_shares_of_the_length_of_their_own_sequence(lengths, where):
    ids, module = padded(*lengths), Packed()
    every = [
        jacobians_by_autograd(module, row[:length])
        for row, length in zip(ids, lengths, strict=True)
    ]
    found = Recorder(module, (ids, torch.tensor(lengths))).recording
    values = [np.linalg.eigvals(every[b][t]) for b, t in where]
    assert found.radius[0] == pytest.approx([np.abs(each).max() for each in values], rel=1e-4)
    shown = np.sort(np.abs(values[2]))[::-1]  # 67 % along
    assert np.abs(found.eigenvalues[0]) == pytest.approx(shown, rel=1e-3, abs=1e-5)
    assert found.place == "67 % along a sequence of the probe"


def test_padding_on_which_the_states_overflow_is_not_measured():
    class Grows(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.RNN(1, 1, nonlinearity="relu", bias=False)
            nn.init.ones_(self.rnn.weight_ih_l0)
            nn.init.constant_(self.rnn.weight_hh_l0, 4.0)

        def forward(self, x, lengths):
            return self.rnn(pack_padded_sequence(x, lengths, enforce_sorted=False))

    x = torch.zeros(700, 2, 1)  # 4 ** 700 overflows
    x[:, 0], x[:3, 1] = -1, 1
    found = Recorder(Grows(), (x, torch.tensor([700, 3])), positions=2).recording
    assert found.radius.tolist() == [[0.0, 4.0]]


def test_the_inputs_of_a_cell_have_the_steps_that_all_sequences_have():
    ids, module = padded(9, 4, 6), Packed()
    cell, inputs = extract_cell(module, (ids, torch.tensor([9, 4, 6])))
    assert torch.equal(inputs, module.embedding(ids[:, :4]).double().transpose(0, 1))
    assert cell.state_size == n


def test_gradients_are_those_that_stand_at_the_step_a_layer_apart():
    model = PolyphonicModel("rhn", hidden_size=n, depth=3, input_size=m, output_size=m)
    recorder = Recorder(model, frames(T), every=2)
    for scale in (1.0, 3.0):
        model.zero_grad()
        (scale * model(frames(T, 2)).square().sum()).backward()
        recorder.step(loss=scale)
    found = recorder.recording
    assert (
        found.step.tolist() == [0, 2]
        and found.loss[1] == 3.0
        and np.isnan(found.gradient_norm[0]).all()
    )
    norms = dict(zip(found.parameters.tolist(), found.gradient_norm[1], strict=True))
    R = model.cells[0].weight_hh
    assert list(norms) == [
        "cells.0.weight_ih",
        *(f"cells.0.{name}[{k}]" for name in ("weight_hh", "bias") for k in range(3)),
        "output.weight",
        "output.bias",
    ]
    for k in range(3):
        assert norms[f"cells.0.weight_hh[{k}]"] == pytest.approx(R.grad[k].norm().item())
    rates = dict(zip(found.parameters.tolist(), found.relative_rate[1], strict=True))
    assert rates["cells.0.weight_hh[1]"] == pytest.approx((R.grad[1].norm() / R[1].norm()).item())
    assert np.isnan(rates["output.bias"])  # it is zero


@pytest.mark.parametrize(
    "build", [Tagger, lambda: nn.GRU(m, n), lambda: CELLS["rhn"](m, n, 2), Looped]
)
def test_a_training_with_a_recorder_is_the_same_to_the_bit(build):
    torch.manual_seed(0)
    model = build()
    recorded, alone = copy.deepcopy(model), copy.deepcopy(model)
    with_recorder, found = train(recorded, 7, lambda model: Recorder(model, frames(3, T), every=2))
    assert train(alone, 7)[0] == with_recorder
    for a, b in zip(recorded.parameters(), alone.parameters(), strict=True):
        assert torch.equal(a, b) and torch.equal(a.grad, b.grad)
    assert found.step.tolist() == [0, 2, 4, 6] and len(set(found.radius[:, 0])) == 4
    assert found.loss[1:] == pytest.approx([with_recorder[k] for k in (1, 3, 5)])


def test_the_cell_inside_a_model_sees_what_the_model_shows_it():
    x, tagger, looped = frames(3, T), Tagger(), Looped()
    alone = from_torch(tagger.rnn)
    alone.batch_first = False
    assert Recorder(tagger, x).recording.radius == pytest.approx(
        Recorder(alone, x.transpose(0, 1)).recording.radius
    )
    by_steps = Recorder(looped, x.transpose(0, 1)).recording
    assert by_steps.radius == pytest.approx(
        Recorder(looped.cell, x.transpose(0, 1), batch_axis=1).recording.radius
    )
    model = LanguageModel("lstm", vocabulary_size=11, hidden_size=n, layers=2)
    ids = torch.arange(T)
    below = model.cells[0](model.embedding[ids])[0].detach()
    assert Recorder(model, ids, layer=2).recording.radius == pytest.approx(
        Recorder(model.cells[1], below).recording.radius, rel=1e-5
    )


@pytest.mark.gpu
def test_on_a_gpu_the_numbers_are_the_same():
    model, ids = LanguageModel("lstm", vocabulary_size=11, hidden_size=n), torch.arange(T)
    on_gpu = copy.deepcopy(model).cuda()
    for network in (model, on_gpu):
        network(ids.unsqueeze(1).to(network.embedding.device)).logits.square().mean().backward()
    ours, theirs = (Recorder(network, ids).recording for network in (model, on_gpu))
    for name in ("radius", "reach", "input_gain", "state_gain", "exponent"):
        assert getattr(theirs, name) == pytest.approx(getattr(ours, name), rel=1e-9), name
    assert theirs.gradient_norm == pytest.approx(ours.gradient_norm, rel=1e-3)


def test_a_training_that_diverges_is_recorded_as_nan():
    model = nn.RNN(m, n, nonlinearity="relu")
    recorder = Recorder(model, frames(T), every=1)
    with torch.no_grad():
        model.weight_hh_l0.fill_(torch.nan)
    recorder.step(torch.tensor(torch.nan))
    assert (
        np.isfinite(recorder.recording.radius[0]).all()
        and np.isnan(recorder.recording.radius[1]).all()
    )
    found = recorder.recording
    assert "nan" in found.summary()
    assert found.finding == "Weights or states are NaN or infinite at optimiser step 1 and later"


def test_a_run_that_diverges_says_until_when_its_numbers_are():
    model = nn.RNN(2, 3)
    recorder = Recorder(model, torch.rand(9, 2), every=1)
    for step in range(1, 5):
        with torch.no_grad():
            model.weight_hh_l0.mul_(0.5 if step < 3 else torch.nan)
        recorder.step(torch.tensor(1 / step if step < 3 else torch.nan))
    found = recorder.recording
    assert found.finding == "Weights or states are NaN or infinite at optimiser step 3 and later"
    loss, radius = found.notes()[:2]
    assert loss == "The minibatch loss is 1 at optimiser step 1 and 0.5 at step 2."
    first, last = found.mean("radius")[[0, 2]]
    assert f"from {first:.3g} to {last:.3g} at optimiser step 2" in radius


def test_the_exponent_of_a_zero_product_is_minus_infinity_in_the_table():
    model = nn.RNN(2, 3, nonlinearity="relu")
    nn.init.zeros_(model.weight_hh_l0)
    found = Recorder(model, torch.rand(9, 2)).recording
    assert found.exponent.tolist() == found.mean("exponent").tolist() == [-math.inf]


def test_a_step_that_breaks_during_the_training_is_an_error():
    class Breaks(nn.Module):
        state_size, broken = n, False

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(n))

        def step(self, x, s):
            return (self.weight * s)[..., 1:] if Breaks.broken else self.weight * s

    recorder = Recorder(Breaks(), frames(T), every=1)
    Breaks.broken = True
    with pytest.raises(InvalidInputError, match="must return one state"):
        recorder.step()


def test_a_closed_recorder_names_one_cost(tmp_path, capsys):
    """The file, the line at the end and the recording afterwards have the same numbers."""
    path, model = tmp_path / "run.npz", nn.GRU(m, n)
    with Recorder(model, frames(T), every=1, path=path) as recorder:
        recorder.step(1.0)
    saved, after = Recording.load(path), recorder.recording
    assert saved.measuring_seconds == after.measuring_seconds
    assert saved.cost == after.cost in capsys.readouterr().err


def test_the_file_is_whole_while_the_training_runs_and_when_a_write_is_killed(
    tmp_path, monkeypatch
):
    path, model = tmp_path / "run.npz", nn.GRU(m, n)
    recorder = Recorder(model, frames(T), every=1, path=path)
    assert len(Recording.load(path)) == 1
    recorder.step(1.0)
    recorder.save()

    def killed(file, **arrays):
        file.write(b"PK half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", killed)
    recorder.step(2.0)
    with pytest.raises(KeyboardInterrupt):
        recorder.save()
    monkeypatch.undo()
    assert Recording.load(path).loss.tolist()[1:] == [1.0]
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]


def test_the_file_is_never_long_behind_however_slow_it_is_to_write(tmp_path, monkeypatch):
    now, save = [0.0], Recording.save
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    monkeypatch.setattr(
        Recording, "save", lambda self, path: now.append(now.pop() + 2) or save(self, path)
    )
    recorder = Recorder(nn.GRU(m, n), frames(T), every=1, path=tmp_path / "run.npz")
    for seconds, saved in ((LONGEST_UNSAVED - 1, 1), (2, 3), (1, 3)):
        now[0] += seconds
        recorder.step()
        assert len(Recording.load(tmp_path / "run.npz")) == saved


def test_a_training_that_goes_on_appends_without_double_entries(tmp_path):
    path = tmp_path / "run.npz"
    model = Tagger()
    whole = Recorder(model, frames(3, T), every=2, path=path)
    for loss in (1.0, 2.0, 3.0, 4.0, 5.0):
        whole.step(loss)
    whole.close()
    # the state was of step 3, the file of step 4
    again = Recorder(model, frames(3, T), every=2, path=path, start=3)
    assert again.recording.step.tolist() == [0, 2]
    for loss in (4.0, 5.0):
        again.step(loss)
    found = again.recording
    assert found.step.tolist() == [0, 2, 4] and found.loss[1:].tolist() == [2.0, 4.0]
    assert Recorder(model, frames(3, T).numpy(), 2, path=path, start=2).recording.step.tolist() == [
        0,
        2,
    ]
    for other, probe, options in (
        (nn.GRU(m, n), frames(T), {}),
        (model, frames(3, T), {"positions": 3}),
        (model, frames(3, T, seed=1), {}),
        (model, frames(3, T), {"every": 3}),
    ):
        with pytest.raises(DataError, match="give another path"):
            Recorder(other, probe, **{"every": 2} | options, path=path, start=2)
    # a new training begins anew
    assert Recorder(nn.GRU(m, n), frames(T), path=path).recording.step.tolist() == [0]


def test_a_file_holds_all_of_it_without_pickle_and_other_files_are_refused(tmp_path):
    _, recording = train(nn.RNN(m, n), 4, lambda model: Recorder(model, frames(T), every=2))
    recording.save(tmp_path / "r.npz")
    with np.load(tmp_path / "r.npz", allow_pickle=False) as arrays:
        assert arrays["eigenvalues"].dtype == np.complex128
    again = Recording.load(tmp_path / "r.npz")
    for name, value in asdict(recording).items():
        assert np.array_equal(
            getattr(again, name), value, equal_nan=np.asarray(value).dtype.kind in "fc"
        )
    assert [row["step"] for row in again.table()] == [0, 2, 4]
    spoiled = (
        {"radius": recording.radius[:1]},
        {"loss": recording.loss.astype(str)},
        {"training_seconds": "two"},
    )
    for wrong in (*spoiled, {name: getattr(recording, name)[:0] for name in MOMENTS}):
        np.savez(tmp_path / "r.npz", **asdict(recording) | wrong)
        with pytest.raises(DataError, match="not a record written by"):
            Recording.load(tmp_path / "r.npz")


def test_every_mean_is_logged_with_its_name_and_step():
    logged = []

    def recorder_of(model):
        return Recorder(model, frames(1, T), every=2, log=lambda *each: logged.append(each))

    *_, recording = train(Tagger(), 4, recorder_of)
    assert {step for _, _, step in logged} == {0, 2, 4}
    for name in ("radius", "exponent", "input_gain"):
        values = [value for found, value, _ in logged if found == f"recorder/{name}"]
        np.testing.assert_allclose(values, recording.mean(name), rtol=1e-6)
    assert {name.partition("/")[2] for name, *_ in logged} <= RECORDED_MEASURES.keys()
    assert all(type(value) is float and np.isfinite(value) for _, value, _ in logged)


def test_what_measuring_cost_is_said_at_the_end(capsys, tmp_path):
    with Recorder(nn.RNN(m, n), frames(T), every=1, path=tmp_path / "r.npz") as recorder:
        recorder.step()
    said = capsys.readouterr().err
    assert (
        said.startswith("recorder: 2 measurements in ")
        and "the time of training" in said
        and "r.npz" in said
    )
    assert Recording.load(tmp_path / "r.npz").measuring_seconds > 0


def test_the_share_of_the_time_is_that_up_to_the_last_step(monkeypatch, tmp_path):
    """By a clock on which a step takes 2 seconds and each logged number a half."""
    now, logged = [0.0], []

    def log(*_):
        logged.append(1)
        now[0] += 0.5

    clock = SimpleNamespace(perf_counter=lambda: now[0])
    monkeypatch.setattr("gersgorin.recorder.time", clock)
    path = tmp_path / "r.npz"
    with Recorder(nn.RNN(m, n), frames(T), every=3, path=path, log=log) as recorder:
        assert "%" not in recorder.recording.cost
        for _ in range(7):
            now[0] += 2.0
            recorder.step()
        now[0] += 100.0
    now[0] += 1000.0
    for found in (recorder.recording, Recording.load(path)):
        assert (found.training_seconds, found.measuring_seconds) == (14.0, len(logged) / 2)
        assert f"{round(100 * len(logged) / 28)} %" in str(found)


def lost() -> nn.Module:
    """A cell with NaN for weights."""
    cell = nn.GRU(m, n)
    nn.init.constant_(cell.weight_hh_l0, torch.nan)
    return cell


@for_each(
    ("module", "probe", "words"),
    [
        (lost(), frames(T), "weight_hh_l0 are NaN or infinite"),
        (Tagger(), torch.rand(3, T, m + 1), r"does not run on x \(3, "),
    ],
)
def test_bad_input_is_one_sentence_before_the_training(module, probe, words):
    with pytest.raises(RhnError, match=words):
        Recorder(module, probe)


@pytest.mark.parametrize("to_none", [True, False])
def test_a_step_after_zero_grad_warns_once_and_records_no_gradients(to_none):
    def trained(*, late: bool) -> Recording:
        model = Looped()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        with Recorder(model, frames(T), every=1) as recorder:
            for k in range(3):
                model(frames(T, 4, seed=k)).square().mean().backward()
                optimizer.step()
                if late:
                    optimizer.zero_grad(set_to_none=to_none)
                recorder.step()
                optimizer.zero_grad(set_to_none=to_none)
        return recorder.recording

    with pytest.warns(
        UserWarning, match=r"after loss.backward\(\) and before optimizer.zero_grad\(\)"
    ) as told:
        late = trained(late=True)
    assert len(told) == 1
    assert np.isnan(late.gradient_norm).all() and np.isnan(late.relative_rate).all()
    with warnings.catch_warnings(action="error"):
        assert (trained(late=False).gradient_norm[1:] > 0).all()


def test_a_stack_of_torchs_has_a_state_gain_and_a_gate_for_each_layer():
    with Recorder(nn.LSTM(m, n, 2), frames(T), positions=3) as recorder:
        found = recorder.recording
    assert found.state_gain.shape == found.gate.shape == (1, 3, 2)


UNCLOSED = """
import torch, gersgorin
model, x = torch.nn.LSTM(3, 8), torch.randn(20, 4, 3)
recorder = gersgorin.Recorder(model, x, every=1, path={!r})
{}
for k in range(7):
    model(x)[0].sum().backward()
    recorder.step()
recorder = {}
"""


@pytest.mark.parametrize("after", ["recorder", "None"], ids=["at exit", "dropped"])
def test_a_recorder_that_is_not_closed_writes_all_measurements(tmp_path, after):
    late = "recorder._next_save = 1e9"  # a slow disk
    source = UNCLOSED.format(str(tmp_path / "kept.npz"), late, after)
    subprocess.run([sys.executable, "-c", source], check=True)
    with np.load(tmp_path / "kept.npz") as found:
        assert found["step"].tolist() == [*range(8)]
