"""A module that calls its cell in a loop of its own is measured as that loop: every number is that of a hand-written f(x, s)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tables import for_each
from torch import nn
from torch.func import jacrev

import gersgorin
from gersgorin import (
    Recorder,
    analyze,
    bounds,
    compare,
    extract_cell,
    fixed_points,
    lyapunov,
    open_run,
    spectra,
    temporal_jacobian,
    trajectory,
)
from gersgorin.analyses.lyapunov import of_run
from gersgorin.cli.main import main
from gersgorin.linalg.products import cumulative_log_norms
from rhn.cells import from_torch
from rhn.errors import InvalidInputError

T, M, N = 9, 3, 5
CODE = """
import numpy as np
import torch
from torch import nn

class Loop(nn.Module):
    '''Reads (T, B, m) and calls its cell once a frame, with something in between.'''
    cell_kind, width = nn.GRUCell, 0
    def __init__(self, input_size=3, hidden_size=5):
        super().__init__()
        self.cell = self.cell_kind(input_size + self.width, hidden_size)
        self.norm, self.out = nn.LayerNorm(hidden_size), nn.Linear(hidden_size, 2)
        for p in self.parameters():
            nn.init.normal_(p, std=0.7)
    def start(self, x):
        return torch.zeros(x.shape[1], self.cell.hidden_size, dtype=x.dtype)
    def forward(self, x):
        h, seen = self.start(x), torch.zeros(*x.shape[:2], 2, dtype=x.dtype)
        for t, e in enumerate(x):
            h = self.next(e, h)
            seen[t] = self.out(h[0] if isinstance(h, tuple) else h)
        return seen

class Norm(Loop):
    def next(self, e, h):
        return self.norm(self.cell(e, h))

class FromNothing(Norm):
    def start(self, x):
        return None

class Hooked(Loop):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.cell.register_forward_hook(lambda cell, given, h: 1.5 * h)
    def next(self, e, h):
        return self.cell(e, h)

class Twice(Loop):
    def next(self, e, h):
        return self.cell(e, self.cell(e, h))

class Feedback(Loop):
    width = 2
    def next(self, e, h):
        return self.cell(torch.cat((e, self.out(h)), -1), h)

class Detour(Feedback):
    '''Reads its output again without a gradient.'''
    def next(self, e, h):
        return self.cell(torch.cat((e, self.read(self.out(h))), -1), h)

class ReadsDetached(Detour):
    def read(self, y):
        return y.detach()

class ReadsNumbers(Detour):
    def read(self, y):
        return torch.from_numpy(y.detach().numpy())

class ReadsPart(Detour):
    def read(self, y):
        return torch.cat((y[:, :1], y[:, 1:].detach()), 1)

class ReadsChoice(Detour):
    '''The larger output as a one-hot vector, which does not change with it.'''
    def read(self, y):
        return torch.eye(2, dtype=y.dtype)[y.argmax(-1)]

class Drawn(Loop):
    '''Adds noise that torch does not know to its input.'''
    def next(self, e, h):
        return self.cell(e + float(np.random.rand()), h)

class NormedLSTM(Loop):
    cell_kind = nn.LSTMCell
    def start(self, x):
        return super().start(x), super().start(x)
    def next(self, e, s):
        h, c = self.cell(e, s)
        return self.norm(h), c

class SharedStart(NormedLSTM):
    def start(self, x):
        return super().start(x)[:1] * 2

class StepwiseGRU(Loop):
    cell_kind = nn.GRU
    def start(self, x):
        return super().start(x)[None]
    def next(self, e, h):
        return self.norm(self.cell(e[None], h)[1])

class Plain(Loop):
    def next(self, e, h):
        return self.cell(e, h)

class PlainLSTM(Plain):
    cell_kind = nn.LSTMCell
    def start(self, x):
        return None

class LearnedStart(Plain):
    '''As nn.Parameter h0, zero before the training or not.'''
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.h0 = nn.Parameter(torch.rand(1, self.cell.hidden_size))
    def start(self, x):
        return self.h0.expand(x.shape[1], -1)

class Teacher(Plain):
    '''Reads the frame before beside each frame.'''
    width = 3
    def forward(self, x):
        return super().forward(torch.cat((x, torch.cat((x[:1], x[:-1]))), -1))

class Lagged(Loop):
    '''Adds the state of three frames before.'''
    def forward(self, x):
        states = [self.start(x)]
        for t, e in enumerate(x):
            h = self.cell(e, states[-1])
            states.append(self.norm(h + (states[t - 2] if t >= 2 else 0)))
        return states[-1]

class Detached(Loop):
    def next(self, e, h):
        return self.norm(self.cell(e, h)).detach()

class Mixing(Loop):
    '''Norms over the rows of the batch.'''
    def next(self, e, h):
        h = self.cell(e, h)
        return h - h.mean(0) if len(h) > 1 else self.norm(h)

class Noisy(Loop):
    '''Goes through NumPy.'''
    def next(self, e, h):
        return torch.from_numpy(self.cell(e, h).numpy() * 2)

class OwnGRUCell(nn.Module):
    '''A cell written by hand: no step, no state_size.'''
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.hidden_size = hidden_size
        self.both = nn.Linear(input_size + hidden_size, hidden_size)
    def forward(self, x, h):
        return torch.tanh(self.both(torch.cat((x, h), 1)))

class HandWritten(Plain):
    cell_kind = OwnGRUCell

class NormedHandWritten(Norm):
    cell_kind = OwnGRUCell

"""
NAMES = {}
exec(compile(CODE, "own_loops.py", "exec"), NAMES)


def network(kind: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return NAMES[kind](M, N).double()


def frames(*lead) -> torch.Tensor:
    return torch.randn(*lead, M, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Around(nn.Module):
    """A module that reads what another one makes of it."""

    def __init__(self, model, read):
        super().__init__()
        self.model, self.read = model, read

    def forward(self, x):
        return self.read(self.model, x)


def by_step(model, e, s):
    """f(x, s) of a loop whose state is what goes into the cell, for one row."""
    return model.next(e[None], s[None])[0]


def lstm_step(model, e, s):
    h, c = model.next(e[None], tuple(part[None] for part in s.chunk(2)))
    return torch.cat((h[0], c[0]))


def gru_step(model, e, s):
    return model.next(e[None], s[None, None])[0, 0]


KINDS = {
    "Norm": by_step,
    "FromNothing": by_step,
    "Hooked": by_step,
    "LearnedStart": by_step,
    "Feedback": by_step,
    "NormedLSTM": lstm_step,
    "SharedStart": lstm_step,
    "StepwiseGRU": gru_step,
}


def truth(kind: str, x: torch.Tensor) -> torch.Tensor:
    """The Jacobians of f(x, s) along x (T, m): all but that of the last frame, whose state never goes into the cell."""
    model, step = network(kind), KINDS[kind]
    zero = x.new_zeros(2 * N if kind in ("NormedLSTM", "SharedStart") else N)
    s, found = model.h0[0].detach() if kind == "LearnedStart" else zero, []
    for e in x[:-1]:
        found.append(jacrev(lambda s, e=e: step(model, e, s))(s).detach())
        s = step(model, e, s).detach()
    return torch.stack(found)


def radius(A):
    return pytest.approx(torch.linalg.eigvals(A).abs().amax(-1).numpy(), rel=1e-9)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gersgorin.cli.output.save_figure", lambda path, draw: None)
    return tmp_path


@for_each("kind", [kind for kind in KINDS if kind != "SharedStart"])
def test_every_number_is_that_of_the_hand_written_step(kind):
    x = frames(T, 1)
    A = truth(kind, x[:, 0])
    found = spectra(network(kind), x)
    assert found.spectral_radius == radius(A)
    assert found.norm == pytest.approx(torch.linalg.matrix_norm(A, 2).numpy(), rel=1e-9)
    assert found.log_norm_product == pytest.approx(cumulative_log_norms(A).numpy(), rel=1e-9, abs=1e-9)


def test_the_gain_of_the_input_is_that_of_the_loop():
    x, model = frames(T, 1), network("Norm")
    loop, _ = extract_cell(model, x)
    B = [jacrev(lambda e, s=s: by_step(model, e, s))(e) for e, s in zip(x[:-1, 0], loop.states[:-1, 0], strict=True)]
    found = analyze(model, x)
    assert found.gains.input == pytest.approx(torch.linalg.matrix_norm(torch.stack(B), 2).detach().numpy(), rel=1e-9)
    assert found.gains.layers[:, 0] == pytest.approx(found.spectra.norm, rel=1e-9)
    assert np.isnan(found.spectra.norm_bound) and "own loop: 8 steps" in found.about


def test_the_first_step_is_left_out_where_two_states_begin_as_one_tensor():
    x = frames(T, 1)
    assert spectra(network("SharedStart"), x).spectral_radius == radius(truth("SharedStart", x[:, 0])[1:])


def test_a_choice_that_is_read_again_leaves_the_jacobians_of_the_cell():
    cell, inputs = extract_cell(network("ReadsChoice"), frames(T, 1))
    assert type(cell) is type(from_torch(network("ReadsChoice").cell)) and inputs[1:, 0, M:].sum() == T - 1


def test_noise_is_not_taken_for_an_output_that_is_read_again():
    cell, _ = extract_cell(network("Drawn"), frames(T, 1))
    assert type(cell) is type(from_torch(network("Drawn").cell))


@for_each("kind", ["Plain", "PlainLSTM", "Teacher"])
def test_a_plain_loop_stays_its_cell_to_the_bit(kind):
    model, x = network(kind), frames(T, 1)
    cell, inputs = extract_cell(model, x)
    theirs = from_torch(model.cell)
    read = torch.cat((x, torch.cat((x[:1], x[:-1]))), -1) if kind == "Teacher" else x
    assert type(cell) is type(theirs) and torch.equal(inputs, read)
    found, alone = analyze(model, x), analyze(model.cell, read)
    assert np.array_equal(found.spectra.norm, alone.spectra.norm)
    assert np.array_equal(found.gains.input, alone.gains.input)
    assert np.array_equal(Recorder(model, x).recording.radius, Recorder(model.cell, read).recording.radius)


def test_a_first_state_that_is_learned_is_that_of_the_loop_also_while_it_is_zero():
    model, x = network("LearnedStart"), frames(T, 2)
    loop, _ = extract_cell(model, x)
    assert torch.equal(loop.states[0], model.h0.detach().expand(2, -1))
    with torch.no_grad():
        model.h0.zero_()
    recorder = Recorder(model, x)
    with torch.no_grad():
        model.h0.fill_(0.5)
    recorder.measure(1)
    assert np.isfinite(recorder.recording.radius).all()


def test_rows_of_a_batch_are_measured_apart_and_mixed_ones_refused():
    x = frames(T, 3)
    loop, inputs = extract_cell(network("Norm"), x)
    assert loop.states.shape == (T, 3, N) and inputs.shape == (T - 1, 3, M)
    for row in range(3):
        assert torch.allclose(loop.sequence(row).jacobians(), truth("Norm", x[:, row]), rtol=1e-9, atol=1e-12)
    with pytest.raises(InvalidInputError, match=r"rows of the batch act on one another.*one sequence at a time"):
        extract_cell(network("Mixing"), x)
    spectra(network("Mixing"), x[:, :1])


def test_steps_layouts_and_modes_of_gradients_change_nothing():
    x, model = frames(T, 1), network("Norm")
    expected = radius(truth("Norm", x[:, 0]))
    with torch.inference_mode():
        assert spectra(model, x).spectral_radius == expected
    assert spectra(model.requires_grad_(False), x).spectral_radius == expected
    model = network("Norm")
    batch_first = Around(model, lambda model, x: model(x.transpose(0, 1)))
    assert spectra(batch_first, x.transpose(0, 1)).spectral_radius == expected
    assert compare([model], [x]).spectral_radius[0] == expected
    assert spectra(model, x, steps=4).spectral_radius == radius(truth("Norm", x[:5, 0]))
    recorder = Recorder(model, x, every=1)
    assert recorder.recording.radius[0] == radius(truth("Norm", x[:, 0])[[0, 2, 5, 7]])


def test_the_commands_follow_the_loop(folder, capsys):
    Path("own_loops.py").write_text(CODE)
    np.save("x.npy", frames(T).numpy())
    torch.save(network("Norm").state_dict(), "w.pt")
    run = ["--module", "own_loops:Norm", "--checkpoint", "w.pt", "--input", "x.npy", "--json"]
    A = truth("Norm", frames(T))

    def found(*words) -> dict:
        assert main([*words, *run]) == 0
        return json.loads(capsys.readouterr().out)

    assert np.array([step["spectral_radius"] for step in found("plot")["steps"]]) == radius(A)
    assert found("lyapunov", "--repeat", "3")["lyapunov"]["exponents"]
    for words in (["fixed-points", *run], ["plot", *run, "--leading", "2"]):
        assert main(words) == 2
    hand_written = ["--module", "own_loops:HandWritten", "--input", "x.npy", "--submodule", "cell"]
    assert main(["fixed-points", *hand_written, "--starts", "3"]) == 0


def test_exponents_and_bounds_are_those_of_the_loop():
    x = frames(T, 1)
    loop, inputs = extract_cell(network("Hooked"), x)
    A = truth("Hooked", x[:, 0])
    loop = loop.sequence(0)
    assert lyapunov(loop, inputs[:, 0]).sum == pytest.approx(float(torch.linalg.slogdet(A).logabsdet.mean()), rel=1e-9)
    assert bounds(loop, inputs[:, 0]).log_norm == pytest.approx(cumulative_log_norms(A).numpy(), rel=1e-9)
    found = of_run(open_run(network("Hooked"), x, steps=3, unit="0.1 s"), repeat=3)
    A = truth("Hooked", x[:4, 0].repeat(3, 1))[3:]
    assert found.sum == pytest.approx(float(torch.linalg.slogdet(A).logabsdet.mean()), rel=1e-9)
    assert found.unit == "0.1 s"
    with pytest.raises(InvalidInputError, match="takes no step from another state"):
        fixed_points(loop, inputs[0, 0], loop.states)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("Lagged", "a path around the state of its GRUCell: the state 3 frames before acts on it directly"),
        ("Detached", "is cut off from the one before: a detach"),
        ("ReadsDetached", "the input of its GRUCell at frame 2 is cut off"),
        ("ReadsNumbers", "the input of its GRUCell at frame 2 is cut off"),
        ("ReadsPart", "the input of its GRUCell at frame 2 is cut off"),
        ("Noisy", "numpy.*write the loop with new tensors"),
        ("Twice", "once a frame: write its own loop as a function"),
    ],
)
def test_a_loop_that_cannot_be_followed_is_one_sentence(kind, words):
    with pytest.raises(InvalidInputError, match=words) as error:
        analyze(network(kind), frames(T, 1))
    assert "\n" not in str(error.value)


def test_a_cell_written_by_hand_is_taken_where_it_is_named():
    x, model = frames(T, 1), network("HandWritten")
    with pytest.raises(InvalidInputError, match="by submodule='cell'"):
        analyze(model, x)
    step = lambda e, s: model.cell(e[None], s[None])[0]  # noqa: E731
    states = trajectory(step, x, x.new_zeros(1, N))[:-1, 0]
    A = temporal_jacobian(step, x[:, 0], states).detach()
    assert spectra(model, x, submodule="cell").spectral_radius == radius(A)
    assert gersgorin.audit(model, x, submodule="cell").growth == pytest.approx(radius(A[[0, 3, 5, 8]]).expected.max())
    assert Recorder(model, x, submodule="cell").recording.radius[0] == radius(A[[0, 3, 5, 8]])
    KINDS["NormedHandWritten"] = by_step
    normed = truth("NormedHandWritten", x[:, 0])
    assert spectra(network("NormedHandWritten"), x, submodule="cell").spectral_radius == radius(normed)
