"""A run is public: its numbers are those of the network, and its file is enough to compute a step
again. An analysis gets state_size and gates as arguments.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from new_cells import new_cell
from tables import for_each
from torch import nn

import gersgorin
import rhn
from gersgorin.cli.main import main
from rhn.cells import GRU, LSTM, RHN
from rhn.data import chorale
from rhn.errors import InvalidInputError

T, M, N = 6, 3, 4
pytestmark = pytest.mark.usefixtures("own_folder")


def frames():
    return torch.randn(T, M, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Pair(nn.Module):
    """A step of two tensors that does not say its size."""

    def __init__(self, input_size=M):
        super().__init__()
        self.cell, self.slow = nn.GRUCell(input_size + N, N), nn.Linear(N, N)

    def forward(self, x, state):
        h, a = state
        h = self.cell(torch.cat((x, a), 1), h)
        return h, 0.9 * a + 0.1 * self.slow(h)


class Stepper(nn.Module):
    """A cell with a step that does not say its size."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(M + N, N)

    def step(self, x, s):
        return torch.tanh(self.gate(torch.cat((x, s), -1)))


def decay(x, s):
    return torch.tanh(0.5 * s + x.sum())


ZEROS = torch.zeros(1, N, dtype=torch.float64)
STEPS = {  # a step without a size: (the network, its state_size, the same with a first state)
    "module": (Pair().double(), (N, N), (ZEROS, ZEROS)),
    "step": (Stepper().double(), N, None),
    "function": (decay, N, ZEROS[0]),
}
ANALYSES = {
    "spectra": lambda *given, **how: gersgorin.spectra(*given, **how).norm,
    "lyapunov": lambda *given, **how: gersgorin.lyapunov(*given, **how).exponents,
    "products": lambda *given, **how: gersgorin.products(*given, **how).log_norm,
    "gains": lambda *given, **how: gersgorin.gains(*given, **how).input,
    "pseudospectra": lambda *given, **how: gersgorin.pseudospectra(*given, side=5, **how).sigma,
    "fixed_points": lambda *given, **how: gersgorin.fixed_points(*given, starts=3, **how).states,
    "run": lambda *given, **how: gersgorin.open_run(*given, **how).states.numpy(),
}


@for_each(("kind", "analysis"), [(k, a) for k in STEPS for a in ANALYSES])
def test_the_size_of_a_state_is_an_argument_of_every_analysis(kind, analysis):
    network, size, s0 = STEPS[kind]
    found = ANALYSES[analysis](network, frames(), state_size=size)
    if kind == "step":
        declared = Stepper().double()
        declared.load_state_dict(network.state_dict())
        declared.state_size = N
        wanted = ANALYSES[analysis](declared, frames())
    else:
        wanted = ANALYSES[analysis](network, frames(), s0=s0)
    np.testing.assert_array_equal(found, wanted)
    assert not hasattr(network, "state_size")


def test_a_trajectory_of_a_function_starts_at_zeros_of_its_size():
    assert gersgorin.trajectory(decay, frames(), state_size=N).shape == (T + 1, N)
    pairs = gersgorin.trajectory(STEPS["module"][0], frames()[:, None], state_size=(N, N))
    assert pairs.shape == (T + 1, 1, 2 * N)


def test_gates_are_a_function_of_the_arguments_of_the_step():
    pair, x = STEPS["module"][0], frames()

    def gates(x, state):
        h, a = state
        assert x.shape == (1, M) and h.shape == a.shape == (1, N)
        return {"fast": torch.sigmoid(h), "slow": torch.sigmoid(a)}

    run = gersgorin.open_run(pair, x, state_size=(N, N))
    found = gersgorin.gates(pair, x, state_size=(N, N), gates=gates)
    fast, slow = torch.sigmoid(run.states[:-1]).split(N, 1)
    np.testing.assert_allclose(found.mean, torch.stack((fast.mean(1), slow.mean(1)), 1))
    assert [*found.table()[0]] == ["step", "fast", "slow"]
    assert f"open on average: fast {100 * fast.mean():.2g} %, slow" in str(found)
    found.save("gates.npz")
    assert gersgorin.load("gates.npz").names == ("fast", "slow")
    one = gersgorin.spectra(LSTM(M, N), x, gates=lambda x, s: torch.sigmoid(s[:N]))
    assert one.transform_gate.shape == (T, 1) and one.gate_name == "gate"
    recorder = gersgorin.Recorder(pair, x, state_size=(N, N), gates=gates)
    assert recorder.recording.gate.shape[-1] == 2


TORCHS = {
    "cell": (nn.LSTMCell(M, N), (N,)),
    "layer": (nn.LSTM(M, N), (N,)),
    "layers": (nn.LSTM(M, N, num_layers=2), (2, N)),
}


@pytest.mark.parametrize("kind", TORCHS)
def test_gates_of_an_lstm_of_torch_get_its_pair(kind):
    module, shape = TORCHS[kind]
    run = gersgorin.open_run(module, x := frames())
    given = []

    def gates(x, state):
        h, c = state
        given.append((h, c))
        return {"memory": torch.sigmoid(c)}

    gersgorin.gates(module, x, gates=gates)
    h, c = given[T - 1]
    assert h.shape == c.shape == shape
    lowest = run.states[T - 1].unflatten(0, (-1, 2, N))[:, 1]
    torch.testing.assert_close(c.reshape(-1, N), lowest)
    by_name = rhn.make_cell("torch.nn:LSTM", M, N)
    assert gersgorin.gates(by_name, x, gates=gates).names == ("memory",)
    one = gersgorin.gates(nn.GRUCell(M, N), x, gates=lambda x, h: torch.sigmoid(h))
    assert one.mean.shape == (T, 1)


def test_gates_may_read_single_weights_and_lie_between_0_and_1():
    torch.manual_seed(0)
    reader = torch.nn.Linear(M, 2)  # in single precision, as a module that was given
    pair, x = STEPS["module"][0], frames()

    def gates(x, state):
        return {"forget": reader(x).sigmoid()}

    found = gersgorin.gates(pair, x, state_size=(N, N), gates=gates)
    expected = reader(x.float()).sigmoid().mean(1, keepdim=True)
    np.testing.assert_allclose(found.mean, expected.detach(), rtol=1e-5)
    assert found.names == ("forget",)
    with pytest.raises(InvalidInputError, match="expected gates between 0 and 1"):
        gersgorin.gates(pair, x, state_size=(N, N), gates=lambda x, s: 5 + s[0])


CODE = """
import torch
from test_runs import Pair

def opening(x, s):
    return torch.sigmoid(s[0])
"""


def test_a_command_and_python_read_one_array_as_one_thing(monkeypatch, capsys):
    monkeypatch.setattr("rhn.utils.figures.save_figure", lambda path, draw: None)
    Path("own_gates.py").write_text(CODE)
    monkeypatch.syspath_prepend(".")
    x, network = frames().numpy(), torch.nn.GRU(M, N, batch_first=True)
    torch.save(network.state_dict(), "w.pt")
    pair = Pair()
    torch.save(pair.state_dict(), "pair.pt")
    words = Embedded()
    torch.save(words.state_dict(), "words.pt")
    gru = f"--module {__name__}:batch_first --checkpoint w.pt"
    cases = [
        (gru, x, network, {}),
        (gru, x[None], network, {}),
        (gru, x.astype(np.float32), network, {}),
        (f"{gru} --batch-axis 0", x, network, {"batch_axis": 0}),
        (f"--module {__name__}:Embedded --checkpoint words.pt", np.arange(T), words, {}),
        (f"--module {__name__}:Embedded --checkpoint words.pt", np.arange(T)[:, None], words, {}),
        (
            f"--module {__name__}:Pair --checkpoint pair.pt --state-size {N},{N} "
            "--gates own_gates:opening",
            x,
            pair,
            {"state_size": (N, N), "gates": lambda x, s: torch.sigmoid(s[0])},
        ),
        (f"--module {__name__}:time_first --checkpoint w.pt", x[:, None], nn.GRU(M, N), {}),
    ]
    cases[-1][2].load_state_dict(network.state_dict())
    for line, array, module, options in cases:
        np.save("x.npy", array)
        assert main(["plot", *line.split(), "--input", "x.npy", "--json"]) == 0, line
        steps = json.loads(capsys.readouterr().out)["steps"]
        found = gersgorin.spectra(module, np.load("x.npy"), **options)
        assert [step["spectral_radius"] for step in steps] == found.spectral_radius.tolist(), line
    for line, said in {
        "--cell gru --state-size 4": "--state-size is for --module",
        f"--module {__name__}:Pair --state-size four": "--state-size four: expected a whole number",
        f"--module {__name__}:Pair --gates own_gates": "own_gates",
    }.items():
        assert main(["plot", *line.split(), "--input", "x.npy"]) == 2
        assert said in capsys.readouterr().err


def batch_first():
    return nn.GRU(M, N, batch_first=True)


def time_first():
    return nn.GRU(M, N)


class Embedded(nn.Module):
    """Reads ids (T, B)."""

    def __init__(self):
        super().__init__()
        self.vectors, self.rnn = nn.Embedding(T, M), nn.GRU(M, N)

    def forward(self, ids):
        return self.rnn(self.vectors(ids))[0]


def test_a_run_is_short_in_print_and_without_gradients():
    run = gersgorin.open_run(RHN(M, N, 2), frames())
    assert isinstance(run, gersgorin.Run)
    assert repr(run) == (
        f"<Run of rhn, depth 2, {N} units on sequence of {T} x {M}: {T} steps, a state of {N}>"
    )
    for numbers in (run.states, run.jacobians(), run.input_jacobians(), run.gates().t[0]):
        assert not numbers.requires_grad
    assert run.inputs.shape == (T, M) and run.cell.module.depth == 2


RESULTS = {
    "spectra": gersgorin.spectra,
    "lyapunov": gersgorin.lyapunov,
    "products": gersgorin.products,
    "gains": gersgorin.gains,
    "gates": gersgorin.gates,
    "pseudospectra": lambda *given, **how: gersgorin.pseudospectra(*given, side=5, **how),
    "fixed_points": lambda *given, **how: gersgorin.fixed_points(*given, starts=3, **how),
}


@for_each("name", RESULTS)
def test_a_result_knows_its_run_in_this_process_only(name):
    cell = GRU(M, N)
    run = gersgorin.open_run(cell, frames())
    found = RESULTS[name](cell, frames())
    assert torch.equal(found.run.states, run.states)
    found.save("found.npz")
    loaded = gersgorin.load("found.npz")
    assert loaded.run is None and "Run of" not in repr(found)
    assert "run" not in np.load("found.npz").files and "run" not in found.to_dict()


def test_the_file_of_a_run_is_enough_to_compute_a_step_again(capsys):
    words = ["run", "--cell", "rhn", "--depth", "2", "--hidden-size", str(N), "--steps", str(T)]
    assert main([*words, "--jacobians"]) == 0
    assert "file: run.npz" in capsys.readouterr().out
    file = dict(np.load("run.npz"))
    run = gersgorin.open_run(new_cell("rhn", N, 2), chorale("bwv269")[:T])
    for name, numbers in {
        "inputs": run.inputs,
        "states": run.states,
        "jacobians": run.jacobians(),
        **{f"weights.{key}": value for key, value in run.cell.module.state_dict().items()},
    }.items():
        np.testing.assert_array_equal(file[name], numbers.numpy())
    assert str(file["title"]) == f"rhn, depth 2, {N} units on chorale bwv269"
    pair = gersgorin.open_run(Pair(), frames(), state_size=(N, N))
    assert "weights.slow.bias" in np.load(pair.save("pair.npz")).files


def test_a_carry_gate_with_its_own_weights_has_its_own_column():
    x, lstm = frames().float(), nn.LSTM(M, N)
    found = gersgorin.gates(lstm, x)
    assert found.names == ("input gate", "forget gate")
    with torch.no_grad():
        states = torch.stack([lstm(x[:t])[0][-1] if t else torch.zeros(N) for t in range(T)])
        z = x @ lstm.weight_ih_l0.T + states @ lstm.weight_hh_l0.T
        z = (z + lstm.bias_ih_l0 + lstm.bias_hh_l0).sigmoid()
    expected = torch.stack([z[:, :N].mean(1), z[:, N : 2 * N].mean(1)], 1)
    np.testing.assert_allclose(found.mean, expected, rtol=1e-5)
    for coupled, names in ((True, ()), (False, ("transform gate", "carry gate"))):
        assert gersgorin.gates(RHN(M, N, coupled=coupled), x).names == names


def test_products_back_from_the_last_state_are_those_of_numpy():
    cell = nn.LSTM(M, N).double()
    run = gersgorin.open_run(cell, frames())
    found = gersgorin.products(cell, frames())
    A = run.jacobians(slice(None)).numpy()
    back = [np.linalg.multi_dot([*A[t:][::-1], np.eye(2 * N)]) for t in range(T)]
    expected = np.log([np.linalg.norm(P, 2) for P in back])
    np.testing.assert_allclose(found.log_norm_back, expected, rtol=1e-8)
    assert found.log_norm_back[0] == pytest.approx(found.log_norm[-1])
    assert len(found.plot().lines) == 3  # both curves, and the line of a kept norm
