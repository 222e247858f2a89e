"""Modules that cannot be measured as they are get one sentence that names what to give."""

import pytest
import torch
from tables import for_each
from torch import nn

import gersgorin
from rhn.errors import InvalidInputError

X = torch.randn(1, 6, 3, generator=torch.Generator().manual_seed(0))


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.read = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.read(self.rnn(x)[0])


class Carries(Tagger):
    """Keeps its state in an attribute."""

    def __init__(self):
        super().__init__()
        self.state = (torch.zeros(1, 1, 4), torch.zeros(1, 1, 4))

    def forward(self, x):
        y, state = self.rnn(x, self.state)
        self.state = tuple(part.detach() for part in state)
        return self.read(y)


class ImageCell(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, x, h):
        return torch.tanh(self.conv(torch.cat([x, h], 1)))


class Images(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = ImageCell()

    def forward(self, x):
        h, outputs = x.new_zeros(len(x), 2, *x.shape[-2:]), []
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
            outputs.append(h)
        return torch.stack(outputs, 1)


@for_each("measure", [gersgorin.products, gersgorin.influence])
def test_torchscript_is_refused_by_the_name_of_its_module(measure):
    for compiled in (torch.jit.script(Tagger()), torch.jit.trace(Tagger(), X)):
        with pytest.raises(InvalidInputError, match=r"^Tagger is compiled by TorchScript"):
            measure(compiled, X)
    with pytest.raises(InvalidInputError, match=r"^LSTM is compiled by TorchScript"):
        measure(torch.jit.script(nn.LSTM(3, 4)), X[0])


def test_a_state_in_an_attribute_is_named():
    with pytest.raises(InvalidInputError, match="float32 state in its attribute state"):
        gersgorin.products(Carries(), X)
    model = Carries()
    model.state = None
    assert gersgorin.products(model, X).log_norm.size


def test_a_state_of_images_is_refused_and_its_step_is_taken():
    images = torch.randn(1, 6, 1, 4, 5)
    words = r"reads frames \(1, 1, 4, 5\) and a state \(1, 2, 4, 5\).* f\(x, s\)"
    with pytest.raises(InvalidInputError, match=words):
        gersgorin.products(Images(), images, submodule="cell", s0=torch.zeros(1, 2, 4, 5))
    cell = ImageCell()
    step = lambda x, s: cell(x.view(1, 1, 4, 5), s[None])[0]  # noqa: E731
    assert len(gersgorin.products(step, images.view(6, 20), s0=torch.zeros(2, 4, 5)).log_norm) == 6


class Overwrites(nn.Module):
    """Writes into a tensor that its gradient needs, as a cache does."""

    def __init__(self):
        super().__init__()
        self.read = nn.Linear(3, 3)

    def forward(self, x):
        made = torch.tanh(self.read(x))
        outputs = made * made.cumsum(1)
        made += 1
        return outputs


def test_a_cache_that_is_written_in_place_is_named():
    with pytest.raises(InvalidInputError, match=r"in place, switch that off.*'use_cache': False"):
        gersgorin.influence(Overwrites(), X)
