"""Stacks of layers as steps: highway, plain and residual networks, the blocks of a transformer,
against torch's jacrev, NumPy and an RHN.
"""

import copy

import numpy as np
import pytest
import torch
from oracles import close
from torch import nn
from torch.func import jacrev

from gersgorin import jacobian_product, layers_as_steps, open_run, temporal_jacobian
from rhn.cells import RHN

d = torch.float64
N, DEPTH, TOKENS = 16, 50, 8
ROUNDING, OF_PRODUCTS = 4e-15, 4e-14
"""Differences as a share of the largest entry; 0 and 3e-15 were measured."""


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.candidate = nn.Linear(N, N)

    def forward(self, s):
        return torch.tanh(self.candidate(s))


class Highway(nn.Module):
    def __init__(self):
        super().__init__()
        self.candidate, self.transform = nn.Linear(N, N), nn.Linear(N, N)

    def forward(self, s):
        t = torch.sigmoid(self.transform(s))
        return t * torch.tanh(self.candidate(s)) + (1 - t) * s


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.change = nn.Sequential(nn.LayerNorm(N), nn.Linear(N, N), nn.ReLU(), nn.Linear(N, N))

    def forward(self, s):
        return s + self.change(s)


class OneToken(nn.Module):
    """A block as a function of one token's residual vector; the other tokens are held."""

    def __init__(self, block, tokens, place):
        super().__init__()
        self.block, self.place = block, place
        self.register_buffer("tokens", tokens)

    def forward(self, s):
        tokens = torch.cat((self.tokens[: self.place], s[None], self.tokens[self.place + 1 :]))
        return self.block(tokens[None])[0, self.place]


def seeded(kind):
    """Layers in float64, and what the first one reads."""
    torch.manual_seed(0)
    return [kind().double() for _ in range(DEPTH)], torch.randn(N, dtype=d)


def gpt2():
    """A narrow GPT-2 with random weights, and the residual stream (tokens, width) before each
    block.
    """
    transformers = pytest.importorskip("transformers", reason="transformers is in the extra peers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(n_embd=48, n_positions=TOKENS)
    model = transformers.GPT2Model(config).double().eval().requires_grad_(False)
    ids = torch.randint(config.vocab_size, (1, TOKENS))
    hidden = model(ids, output_hidden_states=True).hidden_states
    return model, [tokens[0] for tokens in hidden[: len(model.h)]]


def of_one_token(place):
    """GPT-2's blocks as functions of one token, and what the first one reads of it."""
    model, stream = gpt2()
    parts = zip(model.h, stream, strict=True)
    return [OneToken(*part, place) for part in parts], stream[0][place]


SLOW = pytest.mark.filterwarnings("ignore:There is a performance drop")  # of torch's jacrev
STACKS = [
    pytest.param(lambda: seeded(Plain), id="plain"),
    pytest.param(lambda: seeded(Highway), id="highway"),
    pytest.param(lambda: seeded(Residual), id="residual"),
    pytest.param(lambda: of_one_token(TOKENS - 1), id="GPT-2, last token", marks=SLOW),
    pytest.param(lambda: of_one_token(3), id="GPT-2, inner token", marks=SLOW),
]


@pytest.mark.parametrize("made", STACKS)
def test_a_stack_has_the_jacobians_of_its_layers_and_their_product(made):
    layers, s0 = made()
    run, s = open_run(*layers_as_steps(layers, s0)), s0
    jacobians = run.jacobians()
    assert len(run) == len(layers)
    for layer, state, A in zip(layers, run.states, jacobians, strict=False):
        close(state, s.detach(), ROUNDING)
        close(A, jacrev(layer)(s).detach(), ROUNDING)
        s = layer(s)
    P, log_scale = jacobian_product(jacobians)
    whole = jacrev(nn.Sequential(*layers))(s0).detach()
    close(P * log_scale.exp(), whole, OF_PRODUCTS)


@SLOW
@pytest.mark.parametrize(
    "place", [pytest.param(3, id="inner"), pytest.param(TOKENS - 1, id="last")]
)
def test_the_product_at_a_token_is_the_derivative_of_the_whole_model(place):
    """With causal attention no change leaves a token and comes back to it."""
    model, stream = gpt2()

    def whole(s):
        tokens = torch.cat((stream[0][:place], s[None], stream[0][place + 1 :]))
        return nn.Sequential(*model.h)(tokens[None])[0, place]

    layers, s0 = of_one_token(place)
    P, log_scale = jacobian_product(open_run(*layers_as_steps(layers, s0)).jacobians())
    close(P * log_scale.exp(), jacrev(whole)(s0), OF_PRODUCTS)


@SLOW
def test_the_vectors_of_all_tokens_are_one_state():
    model, stream = gpt2()
    step, x, s0 = layers_as_steps(model.h, stream[0][None])
    A = open_run(step, x[:2], s0).jacobians()[1]
    close(A, jacrev(model.h[1])(stream[1][None]).reshape(A.shape), ROUNDING)


def test_a_highway_network_is_a_time_step_of_an_rhn_without_input():
    """The paper's recurrence depth: the product over L layers is the temporal Jacobian."""
    layers, s0 = seeded(Highway)
    cell = RHN(1, N, DEPTH, dtype=d).requires_grad_(False)
    cell.weight_ih.zero_()
    for k, layer in enumerate(layers):
        pair = layer.candidate, layer.transform
        cell.weight_hh[k] = torch.cat([part.weight for part in pair])
        cell.bias[k] = torch.cat([part.bias for part in pair])
    P, log_scale = jacobian_product(open_run(*layers_as_steps(layers, s0)).jacobians())
    wanted = temporal_jacobian(cell, torch.zeros(1, dtype=d), s0).detach()
    close(P * log_scale.exp(), wanted, OF_PRODUCTS)


def test_modules_are_copied_and_run_in_double_precision_without_dropout():
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(N, N), nn.Dropout(), nn.Tanh()) for _ in range(3)]
    before, s0 = copy.deepcopy(layers), torch.randn(N)
    found = open_run(*layers_as_steps(layers, s0)).jacobians()
    for layer, old in zip(layers, before, strict=True):
        assert layer.training and all(map(torch.equal, layer.parameters(), old.parameters()))
    s = s0.double()
    for layer, A in zip(before, found, strict=True):
        layer.double().eval()
        close(A, jacrev(layer)(s).detach(), ROUNDING)
        s = layer(s)


def test_what_a_layer_creates_is_in_double_precision():
    class Weighted(nn.Module):
        def forward(self, s):
            return s * torch.linspace(0, 1, 4)

    found = open_run(*layers_as_steps([Weighted()], torch.ones(4))).jacobians()
    close(found[0], np.diag(np.linspace(0, 1, 4)), ROUNDING)


def test_layers_of_torch_compile_run_without_it():
    def backend(graph, inputs):
        raise AssertionError("compiled")

    layer = nn.Linear(N, N)
    run = open_run(*layers_as_steps([torch.compile(layer, backend=backend)], torch.ones(N)))
    close(run.jacobians()[0], layer.weight.detach().double(), ROUNDING)


def test_layers_may_read_a_batch_of_one_image():
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)) for _ in range(3)]
    layers = [layer.double().eval() for layer in layers]
    s0 = torch.randn(1, 2, 3, 3, dtype=d)
    found, s = open_run(*layers_as_steps(layers, s0)).jacobians(), s0
    for layer, A in zip(layers, found, strict=True):
        close(A, jacrev(layer)(s).detach().reshape(18, 18), ROUNDING)
        s = layer(s)


def test_numbers_of_layers_choose_a_part_of_a_stack():
    functions = [lambda s: 2 * s, torch.sin, lambda s: s + 1]
    step, x, s0 = layers_as_steps(functions, torch.ones(1))
    run = open_run(step, x[[2, 0, 0]], s0)
    assert run.states.ravel().tolist() == [1, 2, 4, 8]
    assert run.jacobians().ravel().tolist() == [1, 2, 2]
