"""What a recurrent layer inside a module reads, and the loops that are refused."""

import itertools

import numpy as np
import pytest
import torch
from oracles import close
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence
from user_modules import Projected, WithState

from gersgorin.kinds import batch_first_of_step
from gersgorin.layers import layer_inputs, one_step_read, record
from gersgorin.model_map import model_maps
from gersgorin.run import open_run
from rhn.cells import make_cell
from rhn.errors import InvalidInputError
from rhn.models import LanguageModel
from tests.numbers.record import M, N, T, X, filled


def tagger(layer, ids=False, kind=Projected):
    return kind(layer, M, N, ids)


class Packed(Projected):
    def forward(self, x):
        x = pack_padded_sequence(self.read(x), torch.tensor([x.shape[1]]), batch_first=True)
        return self.rnn(x, torch.ones(1, 1, N))[0].data


class PackedPair(Projected):
    """Packs two sequences, of which one is a step longer."""

    def forward(self, x):
        x = pack_padded_sequence(x.expand(2, -1, -1), [T, T - 1], batch_first=True)
        return self.rnn(x)[0].data


class Resetting(nn.Module):
    """A loop that gives its own recurrent part zeros at every step."""

    def __init__(self):
        super().__init__()
        self.mine = WithState(M, N)

    def forward(self, x):
        return [self.mine(x_t, (torch.zeros(1, N),) * 2) for x_t in x[:, None]]


class Unused(nn.ModuleDict):
    """A layer that is not called."""

    def __init__(self):
        super().__init__({"out": nn.GRU(M, N)})

    def forward(self, x):
        return x


class Loop(nn.Module):
    """A loop over a cell, of which these functions change the input and the state of a call."""

    batch_first = True

    def __init__(self, hand_on=lambda h, c: (h, c), feed=lambda x, out: x, calls=1):
        super().__init__()
        self.cell, self.out = nn.LSTMCell(M, N), nn.Linear(N, M)
        self.hand_on, self.feed, self.calls = hand_on, feed, calls

    def forward(self, x):
        h, c = torch.zeros(2, 1, N)
        for x_t in x.unbind(1):
            x_t = self.feed(x_t, self.out(h))
            for _ in range(self.calls):
                h, c = self.cell(x_t, self.hand_on(h, c))
        return self.out(h)


def by_hand(layer, inputs, state=None):
    """The last state of a layer of torch.nn along inputs (T, m)."""
    return layer(inputs.unsqueeze(1 - layer.batch_first), state)[1]


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_model_gives_the_inputs_of_its_layer(batch_first):
    model = filled(tagger(nn.GRU(M, N, batch_first=batch_first)))
    wanted = model.read(X).relu().detach()
    batch = X[None] if batch_first else X[:, None]
    for x in (X, batch, (batch, None), {"x": batch}):
        assert torch.equal(layer_inputs(model, x, layer="rnn"), wanted)
    run = open_run(model, X)
    assert run.step.name == "GRU" and len(run) == T
    np.testing.assert_allclose(run.states[-1], by_hand(model.rnn, wanted).detach()[0, 0])
    ours = tagger(make_cell("rhn", M, N, depth=2, batch_first=batch_first))
    assert open_run(ours, X).heading["network"] == "rhn, depth 2, 6 units"


def test_ids_are_embedded_and_a_packed_sequence_is_read():
    ids = torch.arange(7)
    model = filled(tagger(nn.GRU(M, N, batch_first=True), ids=True))
    assert torch.equal(layer_inputs(model, ids), model.read(ids).relu().detach())
    model = filled(tagger(nn.GRU(M, N, batch_first=True), kind=Packed))
    run = open_run(model, X)
    wanted = by_hand(model.rnn, model.read(X), torch.ones(1, 1, N).double())
    assert run.states[0].eq(1).all()
    np.testing.assert_allclose(run.states[-1], wanted.detach()[0, 0])
    with pytest.raises(InvalidInputError, match=r"^x is packed: expected one"):
        open_run(tagger(nn.GRU(M, N, batch_first=True), kind=PackedPair), X)


@pytest.mark.parametrize(
    "loop", [Loop(), Loop(lambda h, c: (h.detach(), c))], ids=["plain", "detached"]
)
def test_a_loop_over_a_cell_is_the_run_of_the_cell(loop):
    loop = filled(loop)
    run = open_run(loop, X)
    state = (torch.zeros(1, N).double(),) * 2
    for x_t in X:
        state = loop.cell(x_t[None], state)
    np.testing.assert_allclose(run.states[-1], torch.cat(state, 1)[0].detach())
    assert torch.equal(run.inputs, X)


FEEDS_BACK = "the input of layer cell is a function of its earlier outputs"
CHANGED = "at call 1 is not the state that the call before returned"
LOOPS = {
    Loop(feed=lambda x, out: x + out): FEEDS_BACK,
    Loop(feed=lambda x, out: x + out.detach().argmax(-1, keepdim=True)): FEEDS_BACK,
    Loop(lambda h, c: (nn.functional.layer_norm(h, (N,)), c)): CHANGED,
    Loop(lambda h, c: None): "number of sequences that layer cell reads is 24: expected 1",
    Loop(lambda h, c: (2 * h, 2 * c)): CHANGED,
}


@pytest.mark.parametrize(
    "loop",
    LOOPS,
    ids=["feeds back", "feeds back its likeliest", "normalises", "loses its state", "doubles"],
)
def test_a_loop_that_does_more_than_call_its_cell_is_refused(loop):
    with pytest.raises(InvalidInputError, match=LOOPS[loop]):
        open_run(filled(loop), X[None])


def test_a_changed_state_of_zeros_is_refused_and_each_call_is_a_step():
    loop = Loop(lambda h, c: (2 * h, 2 * c))
    for p in loop.parameters():
        p.data.zero_()
    with pytest.raises(InvalidInputError, match="at call 1 is not the state"):
        open_run(loop, X[None])
    twice = filled(Loop(calls=2))
    assert torch.equal(open_run(twice, X[None]).inputs, X.repeat_interleave(2, 0))


class InWindows(nn.ModuleList):
    """Gives the state of the first window, times a factor, to the second."""

    factor = 1

    def forward(self, x):
        y, state, *_ = self[0](x[:4])
        return y, self[0](x[4:], self.factor * state)[0]


class OverSteps(nn.ModuleList):
    """A loop over a module with forward(x, state) and state_size."""

    def forward(self, x):
        state = (torch.zeros(1, N),) * 2
        for x_t in x[:, None]:
            _, state = self[0](x_t, state)
        return state


class WithThird(nn.GRU):
    """A layer that returns more than an output and a state."""

    def forward(self, x, state=None):
        return *super().forward(x, state), None


@pytest.mark.parametrize(
    ("layer", "factor"),
    [
        pytest.param(nn.GRU(M, N), 2, id="doubled"),
        pytest.param(WithThird(M, N), 1, id="the second of three"),
    ],
)
def test_a_second_window_with_another_state_than_the_second_of_a_pair_is_refused(layer, factor):
    model = filled(InWindows([layer]))
    model.factor = factor
    with pytest.raises(InvalidInputError, match=CHANGED):
        open_run(model, X[:, None])


@pytest.mark.parametrize(
    ("x", "rows"),
    [
        pytest.param(X[:1], X[:1], id="a row"),
        pytest.param(X[0], X[:1], id="a row without an axis of rows"),
        pytest.param(X[:2], None, id="two rows"),
        pytest.param(X[None, :2], None, id="a sequence"),
        pytest.param(torch.tensor([3]), torch.tensor([3]), id="an id"),
        pytest.param(torch.tensor(3), torch.tensor([3]), id="an id without an axis of rows"),
        pytest.param(torch.tensor([3, 3]), None, id="two ids"),
        pytest.param(torch.tensor([[3]]), None, id="a sequence of ids"),
    ],
)
def test_a_cell_without_a_layout_reads_one_row_at_each_call(x, rows):
    if rows is not None:
        assert torch.equal(one_step_read(x), rows)
        return
    with pytest.raises(InvalidInputError, match=r"^input of one call of the layer is torch"):
        one_step_read(x)


class StateFirst(nn.ModuleList):
    """A loop over a module that returns (state, output)."""

    def forward(self, x):
        state = torch.ones(1, M)
        for x_t in x[:, None]:
            state, _ = self[0](x_t, state)
        return state


class Sums(nn.Module):
    """A sum of its inputs, and each input."""

    state_size = M

    def forward(self, x, state):
        return state + x, x


def test_a_state_before_an_output_is_refused():
    with pytest.raises(InvalidInputError, match="at call 1 is not the state"):
        layer_inputs(StateFirst([Sums()]), X)


class AnyAxes(nn.Module):
    """A cell that reads any axes."""

    state_size = N, N

    def forward(self, x, state):
        return x, state


def test_a_sequence_in_one_call_of_a_cell_without_a_layout_is_refused():
    with pytest.raises(InvalidInputError, match=r"^input of one call of .* shape \(1, 2, 3\)"):
        layer_inputs(OverSteps([AnyAxes()]), torch.rand(5, 2, M))


def test_windows_and_modules_of_a_known_size_are_layers():
    model = filled(InWindows([nn.GRU(M, N)]))
    close(open_run(model, X[:, None]).states, open_run(model[0], X).states)
    model = filled(OverSteps([WithState(M, N)]))
    model[0].state_size = (N, N)
    run = open_run(model, X, layer="0")
    close(open_run(model, X).states, run.states)
    close(run.states, open_run(model[0].cell, X).states)


class ByName(nn.Module):
    """Names the arguments of its layer, the state first."""

    def __init__(self, layer):
        super().__init__()
        self.rnn = layer

    def forward(self, x):
        return self.rnn(**{self.state_name: torch.ones(1, x.shape[1], N).to(x), "input": x})[0]

    state_name = "hx"


class Optional(nn.GRU):
    """A layer with an argument between its input and its state."""

    def forward(self, input, lengths=None, *, hx=None):
        return super().forward(input, hx)


@pytest.mark.parametrize("layer", [nn.GRU, Optional])
def test_arguments_by_name_are_those_of_their_parameters_in_any_order(layer):
    model = filled(ByName(layer(M, N)))
    assert torch.equal(layer_inputs(model, X, layer="rnn"), X)
    _, _, state = record(model, X, "rnn", None)
    assert state.eq(1).all() and state.shape == (1, 1, N)


class Cut(nn.Module):
    """A module of two arguments, of which the second is no state."""

    def forward(self, x, length):
        return x[:, :length]


@pytest.mark.parametrize("several", [(X[None], torch.tensor([T])), {"x": X[None]}])
def test_several_arguments_of_a_step_are_refused(several):
    """A module that requires a second argument is a step if no layer is named."""
    with pytest.raises(InvalidInputError, match=r"^x of a step is (tuple|dict): .*layer="):
        open_run(Cut(), several)


class Mixed(nn.Module):
    """Two parts with their own batch_first, of which the second is recurrent."""

    def __init__(self, first, second):
        super().__init__()
        self.front = nn.MultiheadAttention(M, 1, batch_first=first)
        self.rnn = nn.GRU(M, N, batch_first=second)

    def forward(self, x):
        x = self.front(x, x, x)[0]
        differ = self.front.batch_first != self.rnn.batch_first
        return self.rnn(x.transpose(0, 1) if differ and x.dim() == 3 else x)[0]


@pytest.mark.parametrize(("first", "second"), [*itertools.product([True, False], repeat=2)])
def test_spectra_and_influence_read_one_sequence_alike_whatever_parts_say(first, second):
    model = filled(Mixed(first, second))
    assert batch_first_of_step(model) is second
    wanted = model.front(*[X[None] if first else X[:, None]] * 3)[0].reshape(T, M)
    close(layer_inputs(model, X, layer="rnn"), wanted.detach())
    (found,) = model_maps(model, X)
    close(found.outputs[:, 0].detach(), model.rnn(wanted)[0].detach())
    batch = X[None] if first else X[:, None]
    close(layer_inputs(model, batch, layer="rnn"), wanted.detach())
    if first == second:
        (found,) = model_maps(model, batch)
        return
    with pytest.raises(InvalidInputError, match=r"^batch_first of x .* is None: expected True for"):
        [*model_maps(model, batch)]


def test_a_part_named_step_is_no_method_and_an_empty_module_keeps_its_weights(tmp_path):
    class Tagger(Loop):
        def __init__(self):
            super().__init__()
            self.step = self.cell

        def __len__(self):
            return 0

    class Trainer(Loop):
        def step(self):
            raise NotImplementedError

    class Sized(Loop):
        state_size = N

    for kind in (Tagger, Trainer, Sized):
        close(open_run(filled(kind()), X).inputs, X)
    empty = type("Empty", (WithState,), {"__len__": lambda self: 0, "state_size": (N, N)})
    with np.load(open_run(empty(M, N), X).save(tmp_path / "run.npz")) as arrays:
        assert "weights.cell.weight_hh" in arrays


def test_a_layer_that_is_not_called_is_refused():
    with pytest.raises(InvalidInputError, match="number of sequences that layer out reads is 0"):
        open_run(Unused(), X, layer="out")


def test_a_given_state_and_the_own_layers_of_users():
    model, s0 = filled(tagger(nn.GRU(M, N, batch_first=True))), torch.rand(1, 1, N).double()
    assert torch.equal(open_run(model, X, s0, layer="rnn").states[0], s0.flatten())
    with pytest.raises(InvalidInputError, match="at call 1 is not the state"):
        open_run(Resetting(), X, layer="mine")


def test_the_model_is_not_changed():
    model = tagger(nn.GRU(M, N, batch_first=True)).train()
    weights = [p.clone() for p in model.parameters()]
    layer_inputs(model, X.float())
    assert model.training and not model.rnn._forward_hooks and not model.rnn._forward_pre_hooks
    assert all(map(torch.equal, weights, model.parameters()))
    assert all(p.dtype == torch.float32 and p.requires_grad for p in model.parameters())


def test_a_module_of_an_optional_state_is_a_step_with_s0_or_its_size():
    module = filled(WithState(M, N))
    zeros = torch.zeros(N).double(), torch.zeros(N).double()
    by_size, by_state = open_run(module, X, state_size=(N, N)), open_run(module, X, zeros)
    assert by_size.step.name == by_state.step.name == "WithState"
    assert torch.equal(by_size.states, by_state.states)
    assert open_run(module, X[:1], zeros, layer="cell").step.name == "LSTMCell"


@pytest.mark.parametrize(
    ("x", "says"),
    [
        pytest.param(torch.zeros(4, 20, dtype=torch.int64),
                     r"^x is torch.int64 of shape \(4, 20\): .* layer cells.0 reads 20$",
                     id="a batch of ids"),
        pytest.param(np.zeros((4, 20), int),
                     r"^x is int64 of shape \(4, 20\): .* layer cells.0 reads 20$",
                     id="an array of ids"),
        pytest.param(torch.zeros(4, 20, 2, dtype=torch.int64),
                     r"^tokens is Tensor of shape \(4, 20, 2\): expected ids",
                     id="three axes"),
        pytest.param(torch.zeros(4, 20), "^type of tokens is torch.float", id="numbers"),
        pytest.param([1, 2], "^type of tokens is list: expected torch.int64", id="a list"),
    ],
)  # fmt: skip
def test_a_message_about_shapes_has_that_of_the_user_s_x(x, says):
    model = LanguageModel("rhn", vocabulary_size=20, hidden_size=8)
    with pytest.raises(InvalidInputError, match=says):
        open_run(model, x)
