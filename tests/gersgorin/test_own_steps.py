"""A network is anything that steps; a module that changes states or inputs between two calls of its
cell is refused.
"""

import json

import numpy as np
import pytest
import torch
from tables import for_each
from torch import nn
from torch.func import jacrev

from gersgorin import (
    Recorder,
    compare,
    extract_cell,
    fixed_points,
    gains,
    influence,
    input_jacobian,
    lyapunov,
    open_run,
    products,
    spectra,
    temporal_jacobian,
    trajectory,
)
from gersgorin.cli.main import main
from rhn.cells import from_torch
from rhn.errors import InvalidInputError

pytestmark = pytest.mark.usefixtures("unarranged")

T, M, N = 9, 3, 5


def test_the_step_of_a_projected_layer_is_a_function_of_x_and_s():
    torch.manual_seed(0)
    layer, x = nn.LSTM(M, 8, proj_size=2).double(), torch.randn(T, M).double()
    s0 = torch.zeros(1, 2).double(), torch.zeros(1, 8).double()
    found = spectra(lambda x, s: layer(x, s), x, s0=s0)
    state = s0
    for t in range(T):
        blocks = torch.autograd.functional.jacobian(
            lambda h, c, t=t: layer(x[t : t + 1], (h, c))[1], state
        )
        A = torch.cat([torch.cat([b.flatten(2)[0, :, :] for b in row], 1) for row in blocks])
        assert found.norm[t] == pytest.approx(float(torch.linalg.matrix_norm(A, 2)))
        state = tuple(part.detach() for part in layer(x[t : t + 1], state)[1])


class Pair(nn.Module):
    """A fast and a slow state, (h, a)."""

    state_size = N, N

    def __init__(self, input_size=M):
        super().__init__()
        self.cell, self.slow = nn.GRUCell(input_size + N, N), nn.Linear(N, N)

    def forward(self, x, state):
        h, a = state
        h = self.cell(torch.cat((x, a), 1), h)
        return h, 0.9 * a + 0.1 * torch.tanh(self.slow(h))


class Loop(nn.Module):
    """Reads (T, B, m) and calls its cell once a frame."""

    def __init__(self, cell=None, width=0):
        super().__init__()
        self.cell = cell or nn.GRUCell(M + width, N)
        self.norm, self.out = nn.LayerNorm(N), nn.Linear(N, 2)

    def forward(self, x):
        h, seen = self.start(x), []
        for e in x:
            h = self.next(e, h)
            seen.append(self.out(h[0] if isinstance(h, tuple) else h))
        return torch.stack(seen)

    def start(self, x):
        return x.new_zeros(x.shape[1], N)

    def next(self, e, h):
        return self.cell(e, h)


def made(kind, *arguments, **methods) -> nn.Module:
    """A module with weights of seed 3, of a class with some other methods."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return type(kind.__name__, (kind,), methods)(*arguments).double()


def frames(*lead) -> torch.Tensor:
    return torch.randn(*lead, M, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def joined(f, *sizes):
    """A step of a tuple of rows (1, n) as a step of one vector, by hand."""

    def step(x, s):
        parts = f(x[None], tuple(part[None] for part in s.split(sizes)))
        return torch.cat([part[0] for part in parts])

    return step


def truth(step, x, s) -> np.ndarray:
    found = []
    for e in x:
        found.append(jacrev(step, 1)(e, s).detach())
        s = step(e, s).detach()
    return torch.stack(found).numpy()


def jacobians(network, x, s0=None) -> np.ndarray:
    return open_run(network, x, s0=s0).jacobians().detach().numpy()


ZEROS = torch.zeros(1, N, dtype=torch.float64), torch.zeros(1, N, dtype=torch.float64)
PAIR = made(Pair)
WAYS = {
    "a module": (PAIR, None),
    "a module with an output": (
        made(Pair, forward=lambda self, x, s: (x.sum(), PAIR(x, s))),
        ZEROS,
    ),
    "a function": (lambda x, s: PAIR(x, s), ZEROS),
    "a function with an output": (lambda x, s: (x.sum(), PAIR(x, s)), ZEROS),
}


@for_each("way", WAYS)
def test_a_tuple_state_is_its_tensors_side_by_side(way):
    (network, start), x = WAYS[way], frames(T)
    step, s0 = joined(PAIR, N, N), torch.zeros(2 * N, dtype=torch.float64)
    np.testing.assert_allclose(
        jacobians(network, x, start), truth(step, x, s0), rtol=1e-9, atol=1e-12
    )
    for measure in (
        lambda f, s0: spectra(f, x, s0=s0).eigenvalues,
        lambda f, s0: gains(f, x, s0=s0).input,
        lambda f, s0: lyapunov(f, x, s0=s0).exponents,
        lambda f, s0: fixed_points(f, x, starts=5, s0=s0).states,
    ):
        np.testing.assert_allclose(
            measure(network, start), measure(step, s0), rtol=1e-8, atol=1e-10
        )


@for_each("rows", [(), (1,)])
def test_a_function_gets_states_in_the_shapes_of_the_first_one(rows):
    cell, x = made(nn.LSTMCell, M, N), frames(T)
    h, c = (torch.rand(*rows, N, dtype=torch.float64) for _ in range(2))
    found = jacobians(lambda x, s: cell(x, s), x, (h, c))
    step, start = joined(cell, N, N), torch.cat((h.flatten(), c.flatten()))
    np.testing.assert_allclose(found, truth(step, x, start), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found, jacobians(cell, x, (h, c)), rtol=1e-9, atol=1e-12)
    assert jacobians(lambda x, s: 0.5 * s @ s.T + x[0], x, torch.eye(2).double()).shape == (T, 4, 4)


def test_layers_of_torch_nn_take_its_own_first_state():
    stack, x = nn.LSTM(M, N, 2).double(), frames(T)
    h, c = torch.rand(2, 2, N, dtype=torch.float64)
    _, (h1, c1) = stack(x, (h, c))
    assert torch.allclose(
        open_run(stack, x, s0=(h, c)).states[-1], torch.cat((h1[0], c1[0], h1[1], c1[1]))
    )


def test_commands_loops_and_recorders_take_a_module_with_a_tuple_state(
    own_folder, monkeypatch, capsys
):
    monkeypatch.setattr("rhn.utils.figures.save_figure", lambda path, draw: None)
    pair, x = made(Pair), frames(T)
    np.save("x.npy", x.numpy())
    torch.save(pair.state_dict(), "w.pt")
    run = ["--module", f"{__name__}:Pair", "--checkpoint", "w.pt", "--input", "x.npy", "--json"]
    assert main(["plot", *run]) == 0
    radii = [step["spectral_radius"] for step in json.loads(capsys.readouterr().out)["steps"]]
    wanted = spectra(pair, x).spectral_radius
    assert radii == pytest.approx(wanted) and main(["fixed-points", *run, "--starts", "3"]) == 0
    assert Recorder(pair, x).recording.radius[0] == pytest.approx(wanted[[0, 3, 5, 8]])
    loop = made(
        Loop, pair, start=lambda self, x: tuple(torch.zeros(x.shape[1], N) for _ in range(2))
    )
    assert spectra(loop, x[:, None], submodule="cell").spectral_radius == pytest.approx(wanted)


REFUSED = {
    "if it is one step, give its first state": lambda x: spectra(made(Pair, state_size=None), x),
    "Identity has step, but no state_size: give state_size=5": lambda x: spectra(
        made(nn.Identity, step=lambda self, x, s: s, hidden_size=5), x
    ),
    r"Identity has no recurrent cell.*gersgorin\.influence\(module, x\)": lambda x: spectra(
        made(nn.Identity, forward=lambda self, x, by=0: x, hidden_size=M), x
    ),
}


@for_each("words", REFUSED)
def test_what_does_not_step_is_one_sentence(words):
    with pytest.raises(InvalidInputError, match=words) as error:
        REFUSED[words](frames(T))
    assert "\n" not in str(error.value)


@torch.no_grad()
def without_gradients(self, e, h):
    return self.cell(torch.cat((e, self.out(h)), 1), h)


STATE, INPUT, COUNT = (
    "gets another state than",
    "gets inputs that depend on its outputs",
    "not once for each",
)


def reading(read):
    return lambda self, e, h: self.cell(torch.cat((e, read(self.out(h))), 1), h)


LOOPS = {
    "norm": (made(Loop, next=lambda self, e, h: self.norm(self.cell(e, h))), STATE),
    "residual": (made(Loop, next=lambda self, e, h: h + self.cell(e, h)), STATE),
    "NumPy": (
        made(Loop, next=lambda self, e, h: torch.from_numpy(self.cell(e, h).detach().numpy() * 2)),
        STATE,
    ),
    "zeros": (made(Loop, next=lambda self, e, h: 2 * self.cell(e, h)), STATE),
    "feedback": (made(Loop, None, 2, next=reading(lambda y: y)), INPUT),
    "detached": (made(Loop, None, 2, next=reading(lambda y: y.detach())), INPUT),
    "no gradients": (made(Loop, None, 2, next=without_gradients), INPUT),
    "twice": (made(Loop, next=lambda self, e, h: self.cell(e, self.cell(e, h))), COUNT),
    "every second": (made(Loop, forward=lambda self, x: Loop.forward(self, x[::2])), COUNT),
    "no state": (
        made(Loop, None, 2, next=lambda self, e, h: self.cell(torch.cat((e, self.out(h)), 1))),
        COUNT,
    ),
    "hook": (made(Loop), STATE),
}
for weight in LOOPS["zeros"][0].parameters():
    weight.data.zero_()
LOOPS["hook"][0].cell.register_forward_hook(lambda cell, given, h: 1.5 * h)


class WithAttention(nn.Module):
    state_size = N

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(N, N) / N)

    def forward(self, x, s):
        after = torch.tanh(s @ self.weight)
        return after, after, after.softmax(-1)


def test_a_tuple_of_three_is_no_state():
    """It is not known which of them is the state, if the state is one tensor."""
    loop = made(Loop, made(WithAttention), next=lambda self, e, h: self.cell(e, h)[1])
    for network, x in ((made(WithAttention), frames(T)), (loop, frames(T)[:, None])):
        with pytest.raises(InvalidInputError, match=r"or \(output, state\)|nor \(output, state\)"):
            spectra(network, x)
    three = torch.ones(N), torch.ones(N), torch.ones(N)
    thirds = spectra(lambda x, s: (s[0] / 2, s[1] / 3, s[2] / 4), frames(T), s0=three)
    assert thirds.spectral_radius == pytest.approx(np.full(T, 0.5))


@for_each("kind", LOOPS)
def test_a_loop_that_changes_states_or_inputs_is_refused(kind):
    model, words = LOOPS[kind]
    for call in (
        spectra,
        extract_cell,
        Recorder,
        lambda f, x: compare([f], x),
    ):
        with pytest.raises(
            InvalidInputError, match=rf"{words}.*: gersgorin\.spectra\(f, x, s0=s0\)$"
        ):
            call(model, frames(T, 1))


PLAIN = {
    "a loop": made(Loop),
    "another cell": made(Loop, nn.LSTMCell(M, N), start=lambda self, x: None),
    "windows": made(
        Loop, nn.GRU(M, N), forward=lambda self, x: self.cell(x[4:], self.cell(x[:4])[1])[0]
    ),
    "a choice": made(
        Loop, None, 2, next=reading(lambda y: torch.eye(2, dtype=y.dtype)[y.argmax(-1)])
    ),
}


@for_each("kind", PLAIN)
def test_a_plain_loop_is_the_run_of_its_cell_to_the_bit(kind):
    model, x = PLAIN[kind], frames(T, 1)
    cell, inputs = extract_cell(model, x)
    assert type(cell) is type(from_torch(model.cell)) and len(inputs) == T
    assert np.array_equal(spectra(model, x).norm, spectra(model.cell, inputs).norm)
    assert np.array_equal(
        Recorder(model, x).recording.radius, Recorder(model.cell, inputs).recording.radius
    )


def test_a_learned_first_state_is_that_of_the_run():
    x, h0 = frames(T, 2), nn.Parameter(torch.rand(2, 1, N).double())

    def step(self, e, h):
        return self.cell(e[None], h)[1]

    model = made(
        Loop, nn.GRU(M, N, 2), start=lambda self, x: h0.expand(-1, x.shape[1], -1), next=step
    )
    run, _ = extract_cell(model, x)
    assert torch.equal(run.states[0], h0.detach()[:, 0].flatten().expand(2, -1))
    assert torch.allclose(
        run.states[-1, :, N:], model.cell(x, h0.expand(-1, 2, -1).contiguous())[1][1]
    )
    upper, _ = extract_cell(model, x, layer=2)
    assert torch.allclose(upper.states, run.states[..., N:])
    with torch.no_grad():
        recorder, _ = Recorder(model, x), h0.zero_()
    recorder.measure(1)
    assert (
        extract_cell(model, x)[0].state_size == 2 * N
        and np.isfinite(recorder.recording.radius).all()
    )


def test_a_module_whose_weights_are_buffers_reads_single_precision():
    class Hopfield(torch.nn.Module):
        state_size = 2

        def __init__(self):
            super().__init__()
            self.register_buffer("W", torch.tensor([[0.0, 0.5], [0.5, 0.0]]))

        def forward(self, x, s):
            return torch.tanh(s @ self.W.T + x)

    spectrum = spectra(Hopfield(), torch.zeros(3, 2)).eigenvalues
    assert np.allclose(np.sort(spectrum.real), [-0.5, 0.5])


def test_a_state_of_several_tensors_is_taken_as_a_tuple_or_side_by_side():
    pair, x = made(Pair).double(), torch.ones(M).double()
    state = torch.linspace(-1, 1, 2 * N).double()
    parts = tuple(state.reshape(2, 1, N))
    exact = jacrev(lambda s: torch.cat(pair(x[None], tuple(s.reshape(2, 1, N))), 1)[0])(state)
    for s in (state, parts):
        torch.testing.assert_close(temporal_jacobian(pair, x, s), exact)
    slope = input_jacobian(pair, x, parts)
    assert slope.shape == (2 * N, M)
    for s in (tuple(part[0] for part in parts), state):
        torch.testing.assert_close(temporal_jacobian(pair, x, s), exact)
        assert torch.equal(input_jacobian(pair, x, s), slope)

    def function(x, s):
        assert x.shape == (M,) and s[0].shape == s[1].shape == (N,)
        return tuple(part[0] for part in pair(x[None], (s[0][None], s[1][None])))

    torch.testing.assert_close(input_jacobian(function, x, tuple(p[0] for p in parts)), slope)
    many = input_jacobian(function, x.expand(3, M), tuple(part.expand(3, N) for part in parts))
    torch.testing.assert_close(many, slope.expand(3, -1, -1))
    with pytest.raises(InvalidInputError, match="as a tuple"):
        input_jacobian(lambda x, s: (s[0], s[1]), x, state)
    starts = torch.randn(30, 2 * N, generator=torch.Generator().manual_seed(0)).double()
    found, same = (
        fixed_points(pair, x, starts=s)
        for s in (starts, tuple(starts.reshape(30, 2, N).movedim(1, 0)))
    )
    np.testing.assert_array_equal(found.states, same.states)
    assert fixed_points(pair, x, starts=torch.from_numpy(found.states)).lost == 0
    both, lead = x.expand(4, M), tuple(part.expand(4, N) for part in parts)  # each with its state
    torch.testing.assert_close(temporal_jacobian(pair, both, lead), exact.expand(4, -1, -1))
    assert torch.equal(trajectory(pair, both, parts), open_run(pair, both, s0=parts).states)
    along = fixed_points(pair, both, starts=lead)  # the input is their mean
    np.testing.assert_allclose(along.states, fixed_points(pair, x, starts=lead).states, atol=1e-12)


def test_a_step_begins_at_its_own_first_state():
    first = torch.full((1, N), 0.5), torch.full((1, N), -0.5)
    own = made(Pair, initial_state=lambda self: first)
    states = open_run(own, torch.zeros(T, M)).states.numpy()  # has no graph
    np.testing.assert_array_equal(states[0], np.repeat((0.5, -0.5), N))


def test_the_cell_of_a_loop_is_found_by_its_state_size():
    loop = made(Loop, made(Pair), start=lambda self, x: (x.new_zeros(x.shape[1], N),) * 2)
    assert open_run(loop, torch.zeros(T, 1, M)).label.title == "Pair"
    plain = made(
        nn.Module, forward=lambda self, x, state: (x.sum(-1, True) + state[1], torch.tanh(state[0]))
    )
    nameless = made(Loop, plain, start=lambda self, x: (x.new_zeros(x.shape[1], N),) * 2)
    with pytest.raises(
        InvalidInputError,
        match=r"cell has forward\(x, state\): if that is one step, give s0 and",
    ):
        open_run(nameless, torch.zeros(T, 1, M))
    named = {"s0": (torch.zeros(1, N),) * 2, "submodule": "cell"}
    assert open_run(nameless, torch.zeros(T, 1, M), **named).state_size == 2 * N


@for_each("depth", [3, "shallow"])
def test_a_step_with_an_attribute_depth_is_one_layer_without_layer_jacobians(depth):
    cell, x = made(Loop), frames(T, 1)
    cell.step, cell.state_size, cell.depth = Loop.next.__get__(cell), N, depth
    found = gains(cell, x)
    assert found.layers[:, 0] == pytest.approx(spectra(cell, x).norm)
    assert found.layers.shape == (T, 1)


def test_a_loop_of_several_steps_a_frame_is_refused_as_that():
    class Twice(Loop):
        def next(self, e, h):
            return self.cell(e, self.cell(e, h))

    with pytest.raises(
        InvalidInputError, match=r"is called for 18 frames of x \(9, 1, 3\), not once for each"
    ):
        open_run(made(Twice, nn.GRUCell(M, N)), torch.ones(T, 1, M))


class Optional(nn.Module):
    """A step of a frame (B, m) with a state, and without one a layer that reads (B, T, m)."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(M, M)

    def forward(self, x, state=None):
        return self.mix(x).cumsum(1) if state is None else torch.tanh(self.mix(x) + state)


def test_an_optional_state_makes_a_step_only_of_a_module_that_declares_or_gets_one():
    layer, x, s0 = made(Optional, hidden_size=M), frames(T), torch.zeros(1, M).double()
    assert influence(layer, x[None]).influence[-1].all()
    with pytest.raises(InvalidInputError, match="Optional has no recurrent cell"):
        spectra(layer, x)
    wanted = truth(lambda x, s: layer(x, s), x, s0[0])
    np.testing.assert_allclose(jacobians(layer, x, s0), wanted, rtol=1e-9, atol=1e-12)
    assert fixed_points(layer, x[0], starts=frames(9)).states.shape[1] == M
    declared = made(Optional, state_size=M)
    np.testing.assert_allclose(jacobians(declared, x), wanted, rtol=1e-9, atol=1e-12)
    assert influence(declared, x[None]).influence[-1].all()


def test_a_map_without_input_is_refused_with_the_step_to_write():
    turn, s0 = nn.Linear(2, 2, bias=False).double(), torch.ones(2).double()
    with pytest.raises(InvalidInputError, match="write a map f"):
        spectra(lambda s: turn(s), torch.zeros(6, 1), s0=s0)
    found = spectra(lambda x, s: turn(s), torch.zeros(6, 1), s0=s0)
    exact = torch.linalg.matrix_norm(turn.weight, 2).item()
    np.testing.assert_allclose(found.norm, exact)


DETACHED = {
    "no_grad": torch.no_grad()(lambda x, s: torch.tanh(s + x)),
    "detach": lambda x, s: 0.5 * s.detach() + x,
}


@for_each("name", DETACHED)
def test_a_step_without_a_gradient_is_refused_not_called_zero(name):
    x = torch.randn(T, M)
    for analysis in (spectra, products, fixed_points):
        with pytest.raises(
            InvalidInputError, match=r"but has no gradient in it: leave out \.detach"
        ):
            analysis(DETACHED[name], x, state_size=M)
    for zero in (lambda x, s: torch.tanh(x), lambda x, s: torch.relu(s - 1e-4)):  # truly zero
        assert not spectra(zero, x, state_size=M).norm.any()


STEPS = """
import torch


def step(x, s):
    h, slow = s
    return torch.tanh(0.7 * h + slow.sum() + x.sum()), 0.9 * slow + 0.1 * h[:2]


def gate(x, s):
    return torch.sigmoid(s[1])
"""


def test_a_function_with_two_states_is_the_same_by_command_and_in_python(own_folder, capsys):
    (own_folder / "two_states.py").write_text(STEPS)
    x = np.random.default_rng(0).normal(size=(T, M))
    np.save("x.npy", x)
    words = "--module two_states:step --state-size 3,2 --gates two_states:gate --input x.npy --json"
    assert main(["plot", *words.split()]) == 0
    radii = [step["spectral_radius"] for step in json.loads(capsys.readouterr().out)["steps"]]
    steps = {}
    exec(STEPS, steps)
    found = spectra(steps["step"], x, state_size=(3, 2), gates=steps["gate"])
    assert radii == pytest.approx(found.spectral_radius, rel=1e-9)
    assert main(["gates", *words.split()]) == 0
    assert main(["plot", "--module", "two_states:step", "--input", "x.npy"]) == 2
    assert (
        "the function step takes an input and a state: give --state-size" in capsys.readouterr().err
    )
    words = "gates --module two_states:step --state-size 3,2 --input x.npy"
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert not out and "No gates are known" in err and "--gates module:name" in err


class Tagger(nn.Module):
    """Reads ids (B, T)."""

    def __init__(self):
        super().__init__()
        self.words, self.lstm = nn.Embedding(20, 6), nn.LSTM(6, 5, batch_first=True)
        self.out = nn.Linear(5, 4)

    def forward(self, ids):
        return self.out(self.lstm(self.words(ids))[0])


def test_several_sequences_of_ids_in_a_file_are_those_of_python(own_folder, capsys):
    torch.manual_seed(0)
    model, ids = Tagger(), np.random.default_rng(0).integers(0, 20, (4, T))
    torch.save(model.state_dict(), "weights.pt")
    np.save("ids.npy", ids)
    words = f"influence --module {__name__}:Tagger --checkpoint weights.pt --input ids.npy --json"
    assert main(words.split()) == 0
    printed = json.loads(capsys.readouterr().out)
    found = influence(model, torch.from_numpy(ids))
    assert printed["title"].startswith("Tagger") and found.title.startswith("Tagger on")
    np.testing.assert_allclose(printed["influence"]["by_lag"], found.by_lag, rtol=1e-9)


class Bare(nn.Module):
    """Has no constructor."""

    state_size = M

    def forward(self, x, s):
        return torch.tanh(0.5 * s + x)


def test_a_class_of_modules_without_a_constructor_is_compared_as_a_module(own_folder, capsys):
    np.save("x.npy", frames(T).numpy())
    assert main(["compare", f"{__name__}:Bare,lstm", "--input", "x.npy", "--json"]) == 0
    assert "Bare" in capsys.readouterr().out


class Decay(nn.Module):
    """s' = rate s, as a step `forward(x, state)`."""

    def __init__(self, size, rate):
        super().__init__()
        self.state_size, self.rate = size, rate

    def forward(self, x, state):
        return self.rate * state


class WithStep(Decay):
    def step(self, x, s):
        return 2 * self.rate * s


class WithHelper(Decay):
    def step(self, rows, columns, x):
        return rows @ columns + x


class WithOtherHelper(Decay):
    def step(self, x, s):
        return s.view(7, 7)


def test_step_is_the_step_of_a_module_that_also_has_forward():
    x = torch.randn(T, M)
    for made, norm in ((Decay, 0.5), (WithStep, 1.0)):
        np.testing.assert_allclose(spectra(made(N, 0.5), x).norm, norm, rtol=1e-6)
    for made in (WithHelper, WithOtherHelper):
        with pytest.raises(InvalidInputError, match=r"if forward\(x, state\) is the step, rename"):
            spectra(made(N, 0.5), x)


def test_the_first_recurrent_part_is_analysed_whatever_its_kind():
    class Net(nn.Module):
        def __init__(self, first, second):
            super().__init__()
            self.first, self.second = first, second

        def forward(self, x):  # (T, m)
            return run_part(self.second, run_part(self.first, x))

    def run_part(part, x):
        if isinstance(part, nn.RNN):
            return part(x)[0]
        states = [x.new_zeros(1, N)]
        for x_t in x:
            states.append(part(x_t[None], states[-1]))
        return torch.cat(states[1:])

    x = torch.randn(T, N)
    own, rnn = Decay(N, 0.5).double(), nn.RNN(N, 4)
    assert spectra(Net(rnn, own), x).eigenvalues.shape == (T, 4)
    assert spectra(Net(own, rnn), x).eigenvalues.shape == (T, N)


def test_dropout_of_the_state_is_seen_from_a_state_of_zeros():
    def step(x, s):
        return torch.tanh(torch.nn.functional.dropout(s, 0.5) + x)

    words = "two different states from the same input and state"
    with pytest.raises(InvalidInputError, match=words):
        spectra(step, torch.zeros(5, 3), s0=torch.zeros(3))
