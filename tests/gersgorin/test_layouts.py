"""x goes to a network as its own loop gives it; which axis is the batch is said, or asked for."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from tables import for_each
from torch import nn

import gersgorin
from gersgorin.data.files import read_data
from gersgorin.network.batch_axis import axis_for
from rhn.errors import InvalidInputError

B, T, M, N = 4, 7, 3, 5


class Minimal(nn.Module):
    """A cell with a step, whose own forward reads (B, T, m)."""

    state_size = N

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(M + N, N)

    def step(self, x, s):
        return torch.tanh(self.gate(torch.cat([x, s], -1)))


class Loop(nn.Module):
    """A loop over the frames of (B, T, m)."""

    def __init__(self):
        super().__init__()
        self.cell = nn.LSTMCell(M, N)

    def forward(self, x):
        h, c = x.new_ones(2, len(x), N)
        for t in range(x.shape[1]):
            h, c = self.cell(x[:, t], (h, c))
        return h


@pytest.fixture
def x():
    return torch.randn(B, T, M, generator=torch.Generator().manual_seed(0))


FORMS = {
    "(T, m)": lambda x: x,
    "(T, 1, m)": lambda x: x[:, None],
    "(1, T, m)": lambda x: x[None],
    "NumPy": lambda x: x.numpy(),
    "frame": lambda x: pd.DataFrame(x.numpy(), columns=["a", "b", "c"]),
    "packed": lambda x: nn.utils.rnn.pack_padded_sequence(x[:, None], [T]),
}
EVERY, FLAT = (*FORMS,), ("(T, m)", "NumPy", "frame")
NETWORKS = {  # the forms that it takes: its own, and those that say which axis is the batch
    "step": (Minimal, EVERY[:-1]),
    "own loop": (Loop, ("(1, T, m)",)),
    "torch.nn": (lambda: nn.LSTM(M, N), (*FLAT, "(T, 1, m)", "packed")),
    "batch first": (lambda: nn.LSTM(M, N, batch_first=True), (*FLAT, "(1, T, m)", "packed")),
    "inside": (
        lambda: nn.Sequential(nn.Linear(M, M), nn.GRU(M, N, batch_first=True)),
        (*FLAT, "(1, T, m)"),
    ),
}
ANALYSES = {
    "spectra": lambda f, x: gersgorin.spectra(f, x).norm,
    "lyapunov": lambda f, x: gersgorin.lyapunov(f, x).exponents,
    "compare": lambda f, x: gersgorin.compare({"this": f}, x)["this"].norm,
    "bands": lambda f, x: gersgorin.compare(f, [x], over="sequences")[0].norm,
    "record": lambda f, x: gersgorin.Recorder(f, x).recording.radius,
}


@for_each(("network", "analysis"), itertools.product(NETWORKS, ANALYSES))
def test_every_form_that_a_network_takes_has_one_answer(x, network, analysis):
    torch.manual_seed(0)
    (make, forms), measure = NETWORKS[network], ANALYSES[analysis]
    if network == "a name" and analysis == "record":
        return
    module = make()
    answer = measure(module, FORMS[forms[0]](x[0]))
    for form in forms[1:]:
        np.testing.assert_allclose(
            measure(module, FORMS[form](x[0])), answer, rtol=1e-9, atol=1e-12
        )


def test_the_axis_of_the_batch_can_be_given(x):
    answer = gersgorin.spectra(loop := Loop(), x[:1]).norm
    assert np.array_equal(gersgorin.spectra(loop, x[0], batch_axis=0).norm, answer)


@for_each(
    ("network", "analysis"),
    itertools.product(NETWORKS, ["spectra", "lyapunov", "compare"]),
)
def test_several_sequences_have_one_error(x, network, analysis):
    with pytest.raises(
        InvalidInputError,
        match=r"x of shape \(4, 7, 3\) holds several sequences: expected one, .*x\[:, :1\]",
    ):
        ANALYSES[analysis](NETWORKS[network][0](), x)


def test_packed_sequences_are_read_without_their_padding():
    class Packs(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(3, 4)

        def forward(self, x):
            packed = nn.utils.rnn.pack_padded_sequence(x, [3, 6], enforce_sorted=False)
            return nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0])[0]

    cell, inputs = gersgorin.extract_cell(Packs(), torch.randn(6, 2, 3))
    assert len(gersgorin.spectra(cell, inputs[:, 0]).spectral_radius) == 3


class Convolved(nn.Module):
    """A convolution over time of (B, T, m) and a recurrence."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(M, M, 3, padding=1)
        self.recurrence = nn.GRU(M, N, batch_first=True)

    def forward(self, x):
        return self.recurrence(self.conv(x.transpose(1, 2)).transpose(1, 2))


class Projected(nn.Module):
    """A loop over (B, T, m) behind a layer as wide as x is long."""

    def __init__(self):
        super().__init__()
        self.wide, self.cell = nn.Linear(M, T), nn.LSTMCell(T, N)

    def forward(self, x):
        x, h = self.wide(x), None
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return h[0]


class Kept(nn.Module):
    """A loop over (B, T, m) that keeps its last state for the next call."""

    def __init__(self):
        super().__init__()
        self.cell, self.h = nn.RNNCell(M, N), torch.zeros(N)

    def forward(self, x):
        h = self.h.to(x).expand(len(x), N)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        self.h = h[-1].detach()
        return h


def inputs_of(module, x):
    """What the cell of a module in double precision reads of (1, T, m)."""
    if isinstance(module, Convolved):
        return module.conv(x.transpose(1, 2)).transpose(1, 2)[0]
    return module.wide(x)[0] if isinstance(module, Projected) else x[0]


@for_each("make", [Convolved, Projected, Kept])
def test_a_module_is_read_as_its_own_loop_reads_it(x, make):
    torch.manual_seed(0)
    module, x = make().double(), x[:1].double()
    cell, _ = gersgorin.extract_cell(module, x)
    right = gersgorin.spectra(cell, inputs_of(module, x).detach()).log_norm_product
    for found in (
        gersgorin.spectra(module, x),
        gersgorin.spectra(module, x[0], batch_axis=0),
        gersgorin.spectra(module, x[0].numpy(), batch_axis=0),
    ):
        np.testing.assert_allclose(found.log_norm_product, right, rtol=1e-9, atol=1e-12)


class Lengths(nn.Module):
    """A GRU over the first steps of each of several sequences, with a mask of its inputs."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(M, N, batch_first=True)

    def forward(self, x, lengths, mask=None):
        x = x if mask is None else x * mask
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        return self.rnn(packed)[0]


def test_several_inputs_go_to_the_module_as_a_tuple_or_by_name(x):
    module, lengths, mask = Lengths(), torch.tensor([5]), np.float32([[[1, 0, 1]]])
    answer = gersgorin.spectra(module.rnn, x[:1, :5]).norm
    assert np.array_equal(gersgorin.spectra(module, (x[:1], lengths)).norm, answer)
    masked = gersgorin.spectra(module.rnn, x[:1, :5] * torch.from_numpy(mask)).norm
    named = {"x": x[:1], "lengths": lengths, "mask": mask}
    for given in ((x[:1], lengths, mask), named):
        np.testing.assert_allclose(gersgorin.spectra(module, given).norm, masked)
    np.testing.assert_allclose(
        gersgorin.Recorder(module, (x[:1], lengths)).recording.radius,
        gersgorin.Recorder(module.rnn, x[:1, :5]).recording.radius,
    )
    with pytest.raises(InvalidInputError, match="x is a tuple: expected"):
        gersgorin.spectra(lambda x, s: s, (x[:1], lengths), state_size=2)
    with pytest.raises(InvalidInputError, match="x is read as 4 sequences of 7 steps"):
        gersgorin.spectra(module, (x, torch.full((B,), T)))


def test_a_packed_sequence_goes_to_the_module_as_it_is(x):
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(M, N)

        def forward(self, packed):
            return self.rnn(packed)[1]

    module = Packed()
    packed = FORMS["packed"](x[0])
    np.testing.assert_allclose(
        gersgorin.spectra(module, packed).norm, gersgorin.spectra(module.rnn, x[0]).norm
    )


def test_an_output_of_as_many_numbers_as_steps_is_one_output(x):
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = nn.GRU(M, N, batch_first=True), nn.Linear(N, T)

        def forward(self, x):
            return self.out(self.rnn(x)[0][:, -1])

    assert gersgorin.influence(Last(), x[:1]).influence.shape == (1, T)


def test_whole_numbers_are_frames_unless_they_can_be_ids(x):
    module, ones = nn.GRU(M, N), torch.nn.functional.one_hot(torch.arange(T) % M, M)
    answer = gersgorin.spectra(module, ones.double()).norm
    for form in (ones, ones.int(), ones[:, None], pd.DataFrame(ones.numpy())):
        np.testing.assert_allclose(gersgorin.spectra(module, form).norm, answer)
    inside = nn.Sequential(module)
    np.testing.assert_allclose(gersgorin.spectra(inside, ones).norm, answer)
    # a float32 network
    assert gersgorin.lyapunov(nn.GRU(M, N), ones.double().numpy()).exponents.shape == (N,)


class Steps(nn.Module):
    """A loop over one axis of x, which the module does not declare."""

    def __init__(self, axis):
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.axis = nn.GRUCell(3, 4), axis

    def forward(self, x):
        h, states = None, []
        for frame in x.unbind(self.axis):
            h = self.cell(frame, h)
            states.append(h)
        return torch.stack(states, self.axis)


@pytest.mark.parametrize("time", [0, 1])
@pytest.mark.parametrize("shape", [(12, 3), (1, 12, 3), (12, 1, 3), (4, 12, 3)], ids=str)
def test_a_file_is_read_along_the_axis_that_keeps_sequences_apart(time, shape, tmp_path):
    x = np.random.default_rng(0).normal(size=shape)
    np.save(tmp_path / "x.npy", x)
    data = read_data(tmp_path / "x.npy")
    without_batch = len(shape) == 2 and time == 0  # a cell of torch takes a frame (m,)
    assert axis_for(Steps(time), data, None) == (None if without_batch else 1 - time)
    one = torch.from_numpy(x[0] if shape[0] == 4 else x.reshape(12, 3)).unsqueeze(1 - time)
    found = gersgorin.products(Steps(time), str(tmp_path / "x.npy"))
    wanted = gersgorin.products(Steps(time), one, batch_axis=1 - time)
    np.testing.assert_allclose(found.log_norm, wanted.log_norm, rtol=1e-12)
