"""A recorder measures during training what direct computations measure, changes no weight, and its
file goes on after a kill.
"""

import copy
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
from tables import for_each
from torch import nn
from torch.autograd.functional import jacobian

from gersgorin.next.recorder import LONGEST_UNSAVED, NO_GRADIENTS, Recorder
from gersgorin.next.recording import ARRAYS, LOST, MEASURES, NO_GRADIENT, Recording
from rhn.cells import CELLS
from rhn.errors import DataError, InvalidInputError, RhnError
from rhn.models import LanguageModel, PolyphonicModel
from tests.cases import SHALLOW_CASES
from tests.gersgorin_next.test_results_of_runs import largest_difference, other_words, words_in
from tests.gersgorin_next.test_step_of_networks import RECORDED, recorded_only
from tests.numbers.record import DOUBLE, MODULES, RECORDING

T, M, N = 9, 5, 7


class Tagger(nn.Module):
    """A user's own model: a batch-first LSTM with dropout around it."""

    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.LSTM(M, N, batch_first=True), nn.Linear(N, 3)

    def forward(self, x):
        y, _ = self.rnn(nn.functional.dropout(x, 0.3, self.training))
        return self.out(nn.functional.dropout(y, 0.3, self.training))


class Looped(nn.Module):
    """A user's own loop over an LSTMCell."""

    def __init__(self):
        super().__init__()
        self.cell = nn.LSTMCell(M, N)

    def forward(self, x):
        state, out = None, []
        for frame in x:
            state = self.cell(frame, state)
            out.append(state[0])
        return torch.stack(out)


class Embedded(nn.Module):
    """A GRU that reads ids through an embedding."""

    def __init__(self):
        super().__init__()
        self.embedding, self.rnn = nn.Embedding(11, M), nn.GRU(M, N, batch_first=True)

    def forward(self, ids):
        return self.rnn(self.embedding(ids))[0]


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


@recorded_only
@for_each("network", MODULES)
def test_the_numbers_are_those_of_the_record(network):
    model, x, _ = MODULES[network]()
    recorder = Recorder(model, x, every=1)
    for _ in range(3):
        loss = model(x)[0].square().mean()
        loss.backward()
        recorder.step(loss)
        for p in model.parameters():
            p.data, p.grad = p.data - 0.1 * p.grad, None
    for name in RECORDING.split():
        wanted = RECORDED[f"{network}/recording/{name}"]
        apart = largest_difference(f"recording/{name}", getattr(recorder.recording, name), wanted)
        assert apart <= DOUBLE, (name, apart)


def growth(factors):
    """log of the norm of the product of Jacobians, the first one first, over their number."""
    product = np.linalg.multi_dot(factors[::-1])
    return math.log(np.linalg.norm(product, 2)) / len(factors)


@for_each("case", SHALLOW_CASES)
def test_every_number_is_that_of_autograd_and_numpy(case):
    cell = case.build(M, N).requires_grad_(False)
    sequences = [frames(T).double(), frames(T, seed=1).double()]
    found = Recorder(cell, sequences).recording

    def step(x, s):
        return cell.step(x[None], s[None])[0]

    pairs, runs = [], []
    for x in sequences:
        states = accumulate(
            x, lambda s, x_t: step(x_t, s).detach(), initial=x.new_zeros(cell.state_size)
        )
        pairs.append([*zip(x, states, strict=False)])
        runs.append([jacobian(partial(step, x_t), s).numpy() for x_t, s in pairs[-1]])
    at = [(0, 0), (1, 3), (0, 5), (1, 8)]  # 2.67 and 5.33 to the nearest step
    A = np.array([runs[b][t] for b, t in at])
    B = [jacobian(step, pairs[b][t])[0] for b, t in at]
    rows = [tuple(each[None] for each in pairs[b][t]) for b, t in at]
    layers = (
        [cell.layer_jacobians(*row) for row in rows] if cell.layer_jacobians else A[:, None, None]
    )
    inner = slice(A.shape[-1])
    radii, moduli = np.abs(A).sum(2) - np.abs(A.diagonal(0, 1, 2)), np.abs(np.linalg.eigvals(A))
    expected = {
        "radius": moduli.max(1),
        "bulk": [each.trace() / len(each) for each in A],
        "reach": np.linalg.norm(A, np.inf, axis=(1, 2)),
        "input_gain": [np.linalg.norm(each, 2) for each in B],
        "state_gain": [[np.linalg.norm(J[0][inner, inner], 2) for J in each] for each in layers],
        "exponent": np.mean([*map(growth, runs)]),
        "gate": [[t.mean().item() for t in cell.gates(*row).t] for row in rows],
        "centers": A[2].diagonal(),
        "radii": radii[2],
    }
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(found, name)[0], value, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(np.sort(np.abs(found.eigenvalues[0])), np.sort(moduli[2]), 1e-6)


@pytest.mark.parametrize(
    ("lengths", "where"),
    [
        ((31, 31, 31, 31, 4), [(0, 0), (1, 10), (2, 20), (3, 30)]),
        ((16, 7, 22, 4), [(0, 0), (1, 2), (2, 14), (3, 3)]),
        ((10, 7), [(0, 0), (1, 2), (0, 6), (1, 6)]),
        ((40, 37, 50), [(0, 0), (1, 12), (2, 33), (0, 39)]),
    ],
)
def test_positions_and_growth_rates_are_those_of_several_sequences(lengths, where):
    ids, module = [torch.randint(1, 11, (length,)) for length in lengths], Embedded().double()
    cell = nn.GRUCell(M, N).double()
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in module.rnn.state_dict().items()})
    every, s = [], torch.zeros(1, N).double()
    for x in (module.embedding(each).detach()[:, None] for each in ids):
        states = accumulate(x, lambda s, x_t: cell(x_t, s).detach(), initial=s)
        every.append([jacobian(partial(cell, x_t), s).numpy().reshape(N, N)
                      for x_t, s in zip(x, states, strict=False)])  # fmt: skip
    found, steps = Recorder(module, ids).recording, min(32, *lengths[:4])
    values = [np.abs(np.linalg.eigvals(every[b][t])).max() for b, t in where]
    np.testing.assert_allclose(found.radius[0], values)
    rates = [growth(factors[:steps]) for factors in every[:4]]
    assert found.exponent_steps == steps and found.exponent == pytest.approx([np.mean(rates)])


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


@for_each("build", [Tagger, Looped, partial(nn.GRU, M, N), partial(CELLS["rhn"], M, N, 2)])
def test_a_training_run_with_a_recorder_is_the_same_to_the_bit(build):
    model = build()
    recorded, alone = copy.deepcopy(model), copy.deepcopy(model)
    probe = frames(T)[:, None] if build is Looped else frames(T)
    losses, found = train(recorded, 7, lambda model: Recorder(model, probe, every=2))
    assert train(alone, 7)[0] == losses
    for a, b in zip(recorded.parameters(), alone.parameters(), strict=True):
        assert torch.equal(a, b) and torch.equal(a.grad, b.grad)
    assert found.step.tolist() == [0, 2, 4, 6] and len(set(found.radius[:, 0])) == 4
    assert found.loss[1:] == pytest.approx([losses[k] for k in (1, 3, 5)])


def test_the_layer_inside_a_model_reads_what_the_model_gives_it():
    x, tagger = frames(T), Tagger()
    alone = Recorder(tagger.rnn, x).recording
    np.testing.assert_array_equal(Recorder(tagger, x[None]).recording.radius, alone.radius)
    model = LanguageModel("lstm", vocabulary_size=11, hidden_size=N, layers=2)
    ids = torch.arange(T)
    below = model.cells[0](model.embedding[ids])[0].detach()
    upper = Recorder(model, ids, layer="cells.1").recording
    np.testing.assert_allclose(upper.radius, Recorder(model.cells[1], below).recording.radius, 1e-5)
    stack = Recorder(nn.LSTM(M, N, 2), x, positions=3).recording
    assert stack.state_gain.shape == stack.gate.shape == (1, 3, 2)


@pytest.mark.gpu
def test_on_a_gpu_the_recorded_numbers_are_the_same():
    model, ids = LanguageModel("lstm", vocabulary_size=11, hidden_size=N), torch.arange(T)
    on_gpu = copy.deepcopy(model).cuda()
    for network in (model, on_gpu):
        network(ids.unsqueeze(1).to(network.embedding.device)).logits.square().mean().backward()
    ours, theirs = (Recorder(network, ids).recording for network in (model, on_gpu))
    for name in ("radius", "reach", "input_gain", "state_gain", "exponent"):
        np.testing.assert_allclose(getattr(theirs, name), getattr(ours, name), 1e-9)
    np.testing.assert_allclose(theirs.gradient_norm, ours.gradient_norm, 1e-3)


def test_complex_weights_are_measured():
    class Diagonal(nn.Module):
        state_size = (2, 2)

        def __init__(self):
            super().__init__()
            self.rates = nn.Parameter(torch.tensor([0.99j, -0.5 + 0.2j]))

        def step(self, x, s):
            after = self.rates * torch.complex(*s)
            return after.real, after.imag

    module = Diagonal()
    recorder = Recorder(module, frames(T), every=1)
    (module.rates.abs() ** 2).sum().backward()
    recorder.step()
    np.testing.assert_allclose(recorder.recording.radius, 0.99, rtol=1e-6)
    norm = np.linalg.norm(2 * module.rates.detach().numpy())
    assert recorder.recording.gradient_norm[1, 0] == pytest.approx(norm)


def test_a_training_run_that_diverges_is_recorded_as_nan():
    model = nn.RNN(M, N, nonlinearity="relu")
    recorder = Recorder(model, frames(T), every=1)
    with torch.no_grad():
        model.weight_hh_l0.fill_(torch.nan)
    with warnings.catch_warnings(record=True):
        recorder.step(torch.tensor(torch.nan))
    found = recorder.recording
    assert np.isfinite(found.radius[0]).all() and np.isnan(found.radius[1]).all()
    assert found.notes() == {LOST: 1, NO_GRADIENT: 1} and f"{LOST}: 1" in str(found)
    found.figure().canvas.draw()


def test_the_growth_rate_of_a_zero_product_is_minus_infinity():
    model = nn.RNN(2, 3, nonlinearity="relu")
    nn.init.zeros_(model.weight_hh_l0)
    found = Recorder(model, torch.rand(9, 2)).recording
    assert found.exponent.tolist() == found.mean("exponent").tolist() == [-math.inf]


def test_a_step_that_breaks_during_training_is_an_error():
    class Breaks(nn.Module):
        state_size, broken = N, False

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(N))

        def step(self, x, s):
            return (self.weight * s)[..., 1:] if Breaks.broken else self.weight * s

    recorder = Recorder(Breaks(), frames(T), every=1)
    Breaks.broken = True
    with pytest.raises(InvalidInputError, match="what Breaks returns"):
        recorder.step()


def test_the_file_is_whole_when_a_write_is_killed(tmp_path, monkeypatch):
    path = tmp_path / "run.npz"
    recorder = Recorder(nn.GRU(M, N), frames(T), every=1, path=path)

    def killed(file, **arrays):
        file.write(b"PK half of it")
        raise KeyboardInterrupt

    recorder.measure(1, 1.0)
    recorder.save()
    monkeypatch.setattr(np, "savez", killed)
    recorder.measure(2, 2.0)
    with pytest.raises(KeyboardInterrupt):
        recorder.save()
    monkeypatch.undo()
    assert Recording.load(path).loss.tolist()[1:] == [1.0]
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]


def test_the_file_is_never_long_behind(tmp_path, monkeypatch):
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr("gersgorin.next.recorder.time", clock)
    recorder = Recorder(nn.GRU(M, N), frames(T), path=tmp_path / "run.npz")
    for step, (seconds, saved) in enumerate(((LONGEST_UNSAVED - 1, 1), (2, 3), (1, 3)), 1):
        now[0] += seconds
        recorder.measure(step)
        assert len(Recording.load(tmp_path / "run.npz")) == saved


def test_a_resumed_recording_has_the_same_bytes_and_no_double_entries(tmp_path):
    whole, path, model = tmp_path / "whole.npz", tmp_path / "run.npz", Tagger()
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
    for other, probe, options in (
        (nn.GRU(M, N), frames(T), {}),
        (model, frames(1, T), {"positions": 3}),
        (model, frames(1, T, seed=1), {}),
        (model, frames(1, T), {"every": 3}),
    ):
        with pytest.raises(DataError, match="expected this network, probe"):
            Recorder(other, probe, **{"every": 2} | options, path=path, start=2)
    # a new training run begins anew
    assert Recorder(nn.GRU(M, N), frames(T), path=path).recording.step.tolist() == [0]


def test_a_file_holds_all_arrays_and_one_of_version_0_6_0_is_read(tmp_path):
    _, found = train(nn.RNN(M, N), 4, lambda model: Recorder(model, frames(T), every=2))
    found = replace(found, constant=2.5)
    of_060 = {name: getattr(found, name) for name in (*ARRAYS, "every", "probe", "exponent_steps")}
    of_060 |= {"kind": "recording", "title": found.network, "about": found.data, "constant": 2.5}
    of_060 |= {"parameters": np.array(found.parameters), "training_seconds": 1.0}
    np.savez(tmp_path / "old.npz", **of_060)
    paths = [*(found.save(tmp_path / name) for name in ("r.npz", "r.json")), tmp_path / "old.npz"]
    for again in map(Recording.load, paths):
        assert vars(again).keys() == vars(found).keys() and str(again) == str(found)
        for name, value in vars(found).items():
            np.testing.assert_array_equal(getattr(again, name), value)
    del of_060["radius"]
    np.savez(tmp_path / "old.npz", **of_060)
    with pytest.raises(DataError, match="not a record written by"):
        Recording.load(tmp_path / "old.npz")


def test_every_mean_is_logged_with_its_name_and_step():
    logged, log = [], lambda *row: logged.append(row)
    _, found = train(Tagger(), 4, lambda model: Recorder(model, frames(1, T), 2, log=log))
    for name in ("radius", "exponent", "input_gain"):
        rows = [(step, value) for each, value, step in logged if each == f"recorder/{name}"]
        np.testing.assert_allclose(rows, np.stack((found.step, found.mean(name)), 1))
    assert {name.partition("/")[2] for name, *_ in logged} <= MEASURES.keys()
    assert all(type(value) is float and np.isfinite(value) for _, value, _ in logged)


def lost() -> nn.Module:
    """A layer with NaN for weights."""
    layer = nn.GRU(M, N)
    nn.init.constant_(layer.weight_hh_l0, torch.nan)
    return layer


REFUSED = {
    "weights of GRU are NaN or infinite": lambda: Recorder(lost(), frames(T)),
    "Tagger cannot read x": lambda: Recorder(Tagger(), torch.rand(1, T, M + 1)),
    "model is function: expected a module": lambda: Recorder(lost, frames(T)),
    "x is an empty list": lambda: Recorder(Tagger(), []),
    "every is 0: expected": lambda: Recorder(Tagger(), frames(1, T), 0),
    "loss is torch.float32 of shape": lambda: Recorder(Tagger(), frames(1, T), loss=torch.ones(2)),
}


@for_each("words", REFUSED)
def test_bad_input_is_one_sentence_before_the_training(words):
    with pytest.raises(RhnError, match=words):
        REFUSED[words]()


@pytest.mark.parametrize("to_none", [True, False])
def test_a_step_after_zero_grad_warns_once_and_records_no_gradients(to_none):
    def trained(*, late: bool) -> Recording:
        model = Looped()
        recorder = Recorder(model, frames(T, 1), every=1)
        for k in range(3):
            model(frames(T, 4, seed=k)).square().mean().backward()
            if late:
                model.zero_grad(set_to_none=to_none)
            recorder.step()
        return recorder.recording

    with pytest.warns(UserWarning, match="no gradients") as told:
        late = trained(late=True)
    assert [str(each.message) for each in told] == [NO_GRADIENTS] and told[0].filename == __file__
    assert np.isnan(late.gradient_norm).all() and np.isnan(late.relative_rate).all()
    assert late.notes()[NO_GRADIENT] == 3
    with warnings.catch_warnings(action="error"):
        assert (trained(late=False).gradient_norm[1:] > 0).all()


UNCLOSED = """
import torch
from gersgorin.next.recorder import Recorder
model, x = torch.nn.LSTM(3, 8), torch.randn(20, 3)
recorder = Recorder(model, x, every=1, path={!r})
recorder._next_save = float("inf")  # a slow disk
for k in range(7):
    model(x)[0].sum().backward()
    recorder.step()
recorder = {}
"""


@pytest.mark.parametrize("after", ["recorder", "None"], ids=["at exit", "dropped"])
def test_a_recorder_that_is_not_closed_writes_all_measurements(tmp_path, after):
    source = UNCLOSED.format(str(tmp_path / "kept.npz"), after)
    subprocess.run([sys.executable, "-c", source], check=True)
    assert Recording.load(tmp_path / "kept.npz").step.tolist() == [*range(8)]


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
        np.testing.assert_array_equal(drawn.get_xdata(), found.step)
        np.testing.assert_array_equal(drawn.get_ydata(), line)
    assert panels["loss"].lines[1].get_ydata().tolist() == [0.5] * 7
    gates = [line.get_ydata() for line in panels[MEASURES["gate"]].lines]
    np.testing.assert_array_equal(gates, found.gate.mean(1).T)
    rows = [line.split("   ")[0] for line in str(found).splitlines()]
    assert rows[2:13] == ["optimiser step", *MEASURES.values()]
    words = (*found.parameters, "real part", "imaginary part", "depth", "units")
    assert other_words(" ".join([*words_in(figure), str(found)]), found, words) == set()
